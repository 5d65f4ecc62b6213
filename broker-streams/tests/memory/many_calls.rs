//! Two hundred thousand calls on one socket, one after the other: memory stays as it is.

use broker_streams::{Call, Endpoint, Failure, Incoming, Model, Out, method};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    ALONE,
    extended::open_with,
    support::{Raw, Server, close, open, resident},
};

#[derive(Serialize, Deserialize, Model)]
struct News {
    number: u32,
}

async fn listens(call: Call, _input: Incoming<i64>, out: Out<News>) -> Result<(), Failure> {
    let news = call.session().create_stream::<News>("news").await?;
    out.relay(news).await
}

/// Opens and closes calls, 16 at a time.
async fn calls(raw: &mut Raw, count: u32, resumable: bool) {
    for batch in 0..count / 16 {
        for number in batch * 16..(batch + 1) * 16 {
            if resumable {
                raw.json(&open_with(number, "listens", &["input"], &json!({"r": true}))).await;
            } else {
                raw.json(&open(number, "test", "listens", &json!({}), &["input"])).await;
            }
        }
        for _ in 0..16 {
            assert_eq!(raw.next().await["data"]["res"], "success");
        }
        for number in batch * 16..(batch + 1) * 16 {
            raw.json(&close(number, "listens", None, "done")).await;
        }
        for _ in 0..16 {
            assert_eq!(raw.frames(1).await, ["close done of input"]);
        }
    }
}

#[tokio::test]
async fn memory_stays_as_it_is_over_200_000_calls_of_one_socket() {
    let _alone = ALONE.lock().await;
    let server = Server::start(|streams| {
        let listens = method(listens).inputs(["input"]).resumable();
        streams.endpoint(Endpoint::new("test").method("listens", listens))
    })
    .await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    calls(&mut raw, 10_000, true).await;
    let before = resident();
    calls(&mut raw, 95_000, true).await;
    calls(&mut raw, 95_000, false).await;
    let after = resident();
    let more = after.saturating_sub(before);
    println!("{before} bytes after 10,000 calls, {after} after 200,000");
    assert!(more < 2 << 20, "{more} bytes more");
}
