//! Ten thousand cuts at random frames: what is resumed is exact in both directions.

use broker_streams::{Endpoint, Failure, Incoming, Out, method};
use serde_json::{Value, json};

use crate::{
    extended::open_with,
    support::{Raw, Server, id, soon, value},
};

const CUTS: usize = 10_000;
const WINDOW: u64 = 16;

async fn echo(mut input: Incoming<i64>, out: Out<i64>) -> Result<(), Failure> {
    while let Some(number) = input.next().await {
        out.send(number?).await?;
    }
    Ok(())
}

/// Random numbers that a seed gives.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A client's side of one call: what it has received, and what it has sent and may have to send again.
struct Side {
    token: String,
    /// Frames received of the returned stream.
    received: u64,
    /// Frames sent of the input, and those that the method has consumed.
    sent: u64,
    consumed: u64,
}

impl Side {
    /// Takes a frame.
    fn take(&mut self, frame: &Value) {
        match frame["type"].as_str().unwrap() {
            "msm" => {
                assert_eq!(frame["data"]["o"]["data"], json!(self.received), "in order, and each once");
                self.received += 1;
            }
            "flow" => self.consumed = self.consumed.max(frame["data"]["got"].as_u64().unwrap()),
            other => panic!("{other}: {frame}"),
        }
    }

    async fn resume(&mut self, server: &Server) -> Raw {
        let (mut raw, _) = Raw::extended(&server.url).await;
        let call = json!({"cid": id(1), "t": self.token, "got": {"": self.received}});
        raw.json(&json!({"type": "rsm", "data": {"calls": [call]}})).await;
        let frame = raw.next().await;
        assert_eq!(frame["type"], "rsr", "the answer comes first: {frame}");
        let call = &frame["data"]["calls"][0];
        assert_eq!(call["ok"], true, "{frame}");
        self.token = call["t"].as_str().unwrap().to_owned();
        let got = call["got"]["input"].as_u64().unwrap();
        assert!(got <= self.sent);
        // What the server has not received is sent again.
        self.sent = got;
        raw
    }
}

#[tokio::test]
async fn ten_thousand_cuts_lose_and_double_nothing() {
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let server = Server::start(|streams| {
        let echo = method(echo).inputs(["input"]).resumable();
        streams.endpoint(Endpoint::new("test").method("echo", echo))
    })
    .await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&open_with(1, "echo", &["input"], &json!({"r": true, "w": WINDOW}))).await;
    let token = raw.next().await["data"]["x"]["t"].as_str().unwrap().to_owned();
    let mut side = Side { token, received: 0, sent: 0, consumed: 0 };
    for _ in 0..CUTS {
        for _ in 0..random.below(6) {
            // Send, or wait for what is on its way, or say what was consumed.
            match random.below(3) {
                0 if side.sent - side.consumed < 60 => {
                    raw.json(&value(1, "echo", "input", "int", &json!(side.sent))).await;
                    side.sent += 1;
                }
                1 if side.sent > side.received => {
                    let frame = raw.next().await;
                    side.take(&frame);
                }
                _ => raw.flow(1, side.received).await,
            }
        }
        drop(raw);
        raw = side.resume(&server).await;
    }
    // All that was sent comes back.
    raw.flow(1, side.received).await;
    soon("the rest", async {
        while side.received < side.sent {
            let frame = raw.next().await;
            side.take(&frame);
            raw.flow(1, side.received).await;
        }
    })
    .await;
    println!("{} values in each direction over {CUTS} cuts", side.received);
}
