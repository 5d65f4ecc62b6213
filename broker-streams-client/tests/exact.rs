//! Exact resumption: the connection is cut behind any frame, again and again, and nothing is lost or doubled
//! either way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use broker_streams_client::Event;
use futures_util::stream;
use serde_json::{Value, json};
use support::{Opening, Peer, Server, server, within};
use tokio::sync::oneshot;

const OUT: i64 = 60;
const IN: i64 = 40;
const WINDOW: u64 = 8;

/// A call as a server keeps it: with all that the client has not acknowledged.
#[derive(Default)]
struct Kept {
    call: Option<Opening>,
    token: u64,
    next: i64,
    unacknowledged: VecDeque<Value>,
    acknowledged: u64,
    closed: bool,
    /// What came in, and how many frames that were.
    received: Vec<i64>,
    got: u64,
    told: u64,
}

/// What the server did with one frame.
enum Step {
    Goes,
    Cut,
    /// The client has acknowledged the end of the call.
    Over,
}

impl Kept {
    fn frames(&self) -> u64 {
        self.acknowledged + self.unacknowledged.len() as u64
    }

    fn acknowledge(&mut self, got: u64) {
        assert!(got <= self.frames(), "{got} were never sent");
        while self.acknowledged < got {
            self.unacknowledged.pop_front();
            self.acknowledged += 1;
        }
    }

    /// One connection, cut after so many frames in either direction. `true` when the call is over.
    async fn serve(&mut self, peer: &mut Peer, mut frames: u32) -> bool {
        loop {
            if frames == 0 {
                return false;
            }
            frames -= 1;
            match self.step(peer).await {
                Step::Goes => {}
                Step::Cut => return false,
                Step::Over => return true,
            }
        }
    }

    async fn step(&mut self, peer: &mut Peer) -> Step {
        let can_send = self.call.is_some() && !self.closed && (self.unacknowledged.len() as u64) < WINDOW;
        // Reads and writes in turns, so that both directions are under way.
        if can_send && (self.frames() + self.got).is_multiple_of(2) {
            return self.send(peer).await;
        }
        tokio::select! {
            biased;
            frame = peer.frame() => match frame {
                Some(frame) => self.read(peer, &frame).await,
                None => Step::Cut,
            },
            () = tokio::task::yield_now(), if can_send => self.send(peer).await,
        }
    }

    async fn send(&mut self, peer: &mut Peer) -> Step {
        let Some(call) = &self.call else { return Step::Cut };
        let frame = if self.next < OUT { call.int(self.next) } else { call.done() };
        self.closed = self.next == OUT;
        self.next += 1;
        self.unacknowledged.push_back(frame.clone());
        sent(peer.try_send(frame).await)
    }

    async fn read(&mut self, peer: &mut Peer, frame: &Value) -> Step {
        let data = &frame["data"];
        match frame["type"].as_str().unwrap() {
            "omsc" => {
                // The answer to an opening before this was lost: nothing of that call was seen.
                let token = self.token + 1;
                *self = Self { call: Some(Opening { data: data.clone() }), token, ..Self::default() };
                let x = json!({"t": token.to_string(), "w": {"in": WINDOW}});
                let about = self.call.as_ref().unwrap().about(json!({"res": "success", "x": x}));
                sent(peer.try_send(json!({"type": "omsr", "data": about})).await)
            }
            "rsm" => self.resume(peer, data).await,
            "flow" => {
                self.acknowledge(data["got"].as_u64().unwrap());
                if self.closed && self.unacknowledged.is_empty() { Step::Over } else { Step::Goes }
            }
            "msm" | "cmsc" => {
                assert_eq!(data["p"], "in", "{frame}");
                self.got += 1;
                assert!(self.got <= self.told + WINDOW, "beyond the window");
                if let Some(value) = data["o"]["data"].as_i64() {
                    self.received.push(value);
                }
                if !self.got.is_multiple_of(3) {
                    return Step::Goes;
                }
                self.told = self.got;
                let flow = json!({"cid": data["cid"], "p": "in", "got": self.got});
                sent(peer.try_send(json!({"type": "flow", "data": flow})).await)
            }
            other => panic!("{other}"),
        }
    }

    async fn resume(&mut self, peer: &mut Peer, data: &Value) -> Step {
        let asked = &data["calls"][0];
        assert_eq!(asked["t"], self.token.to_string());
        assert_eq!(asked["cid"], self.call.as_ref().unwrap().cid());
        self.acknowledge(asked["got"][""].as_u64().unwrap());
        let got: BTreeMap<_, _> = [("in", self.got)].into();
        let goes_on = json!({"cid": asked["cid"], "ok": true, "t": self.token.to_string(), "got": got});
        let mut frames: VecDeque<_> = self.unacknowledged.clone();
        frames.push_front(json!({"type": "rsr", "data": {"calls": [goes_on]}}));
        // What was told before may be lost.
        self.told = self.got;
        frames.push_back(json!({"type": "flow", "data": {"cid": asked["cid"], "p": "in", "got": self.got}}));
        for frame in frames {
            if peer.try_send(frame).await.is_err() {
                return Step::Cut;
            }
        }
        Step::Goes
    }
}

fn sent(sent: Result<(), ()>) -> Step {
    if sent.is_ok() { Step::Goes } else { Step::Cut }
}

/// Serves one call over connections of so many frames each, in turn; the last number stands for all that
/// follow. Returns what came in.
async fn serve(
    mut server: Server,
    lengths: Vec<u32>,
    discards: bool,
    mut ended: oneshot::Receiver<()>,
) -> Vec<i64> {
    let mut kept = Kept::default();
    for length in lengths.iter().chain(std::iter::repeat(lengths.last().unwrap())) {
        // The client's last word can be lost, too. Then nobody comes back.
        let mut peer = tokio::select! {
            peer = server.x1(WINDOW as u32) => peer,
            _ = &mut ended => break,
        };
        if kept.serve(&mut peer, *length).await {
            break;
        }
        if discards {
            // What is under way to the client is lost. Otherwise it arrives before the end does.
            peer.wire.cut();
        }
    }
    kept.received
}

/// One call from its opening to its end, and how often it went on.
async fn run(lengths: Vec<u32>, discards: bool) -> usize {
    let (server, builder) = server();
    let client = builder.window(WINDOW as u32).build().unwrap();
    let (end, ended) = oneshot::channel();
    let serving = tokio::spawn(serve(server, lengths.clone(), discards, ended));
    let call = client.call("numbers", "all").resume().input("in", stream::iter(0..IN));
    let mut events = within(call.open::<i64>()).await.unwrap().events();
    let mut next = 0;
    let mut resumed = 0;
    while let Some(event) = within(events.next()).await {
        match event.unwrap() {
            Event::Value(value) => {
                assert_eq!(value, next, "{lengths:?}");
                next += 1;
            }
            Event::Resumed(_) => resumed += 1,
            other => panic!("{other:?} with {lengths:?}"),
        }
        if next % 3 == 0 {
            // Values wait to be read where the connection is cut.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
    assert_eq!(next, OUT, "{lengths:?}");
    end.send(()).ok();
    let received = within(serving).await.unwrap();
    assert!(!received.is_empty(), "no value of the input came in: {lengths:?}");
    let exact: Vec<i64> = (0..received.len() as i64).collect();
    assert_eq!(received, exact, "{lengths:?}");
    resumed
}

#[tokio::test(start_paused = true)]
async fn a_call_is_cut_once_behind_each_of_its_frames() {
    for discards in [false, true] {
        for first in 1..160 {
            run(vec![first, u32::MAX], discards).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_cut_again_and_again() {
    let mut resumed = 0;
    for discards in [false, true] {
        // Each connection begins with the question and two acknowledgements. Where what is under way is lost
        // with each cut, the next has to come later for anything to go on.
        let least = if discards { 14 } else { 4 };
        for length in least..24 + least {
            resumed += run(vec![length], discards).await;
            resumed += run((0..200).map(|at| least + (at * length + 5) % 17).collect(), discards).await;
        }
    }
    assert!(resumed > 500, "{resumed}");
}
