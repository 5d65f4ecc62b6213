//! A server that says anything in any order: the client stays whole, and a call after that works.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use broker_streams_client::{CallEvents, Client};
use futures_util::stream;
use serde_json::{Value, json};
use support::{Opening, Peer, Server, server, within};

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A frame that may be about a call, and may be nonsense.
fn frame(dice: &mut Dice, call: &Opening) -> Value {
    let number = [0, 1, 7, u64::from(u32::MAX), u64::MAX][dice.below(5) as usize];
    let parameter = [json!({}), json!({"p": "in"}), json!({"p": "none"}), json!({"p": null})]
        [dice.below(4) as usize]
        .clone();
    let with = |more: Value| {
        let mut data = call.about(parameter.clone());
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let why = [
        json!({}),
        json!({"why": {"c": "overloaded", "again": "now"}}),
        json!({"why": {"c": "x", "again": number.min(5000)}}),
    ][dice.below(3) as usize]
        .clone();
    let (kind, data) = match dice.below(16) {
        0..=4 => ("msm", with(json!({"o": {"className": "int", "data": number}, "k": "k"}))),
        5 => ("msm", with(json!({"o": {"className": "\u{0}", "data": {"a": [[[]]]}}}))),
        6 => ("msse", with(json!({"ex": {"className": "Fault", "data": {}}}))),
        7 => {
            let mut data = with(json!({"cr": (["done", "error"][dice.below(2) as usize])}));
            data.as_object_mut().unwrap().extend(why.as_object().unwrap().clone());
            ("cmsc", data)
        }
        8 => ("omsr", with(json!({"res": "success", "x": {"w": {"in": number.min(1 << 31)}, "t": "t"}}))),
        9 => ("omsr", with(json!({"res": "authenticationFailed"}))),
        10 => ("flow", with(json!({"got": number}))),
        11 => ("gap", with(json!({"n": number, "c": "overflow"}))),
        12 => {
            let got = if dice.below(2) == 0 { json!(-1) } else { json!(number.min(1 << 40)) };
            let answer =
                json!({"cid": call.cid(), "ok": dice.below(2) == 0, "t": "u", "got": {"in": got, "": 3}});
            ("rsr", json!({"calls": [answer]}))
        }
        13 => ("authr", json!({"res": "success", "until": number})),
        14 => ("ping", json!({"x": number.min(9)})),
        _ if dice.below(6) == 0 => ("bye", json!({"within": 1, "spread": number.min(1000)})),
        _ if dice.below(4) == 0 => ("brm", json!({"req": "x"})),
        _ => ("pong", json!({"x": 7})),
    };
    json!({"type": kind, "data": data})
}

/// Speaks nonsense on one socket, about the calls that are opened or resumed on it, until it has said enough.
async fn babble(peer: &mut Peer, dice: &mut Dice, known: &mut Vec<Opening>) {
    for _ in 0..dice.below(60) {
        while let Ok(text) = tokio::time::timeout(Duration::from_millis(1), peer.frame()).await {
            let Some(read) = text else { return };
            if read["type"] == "omsc" {
                known.push(Opening { data: read["data"].clone() });
                if dice.below(4) > 0 {
                    let x = json!({"w": {"in": 1 + dice.below(9)}, "t": "t"});
                    let about = known.last().unwrap().about(json!({"res": "success", "x": x}));
                    if peer.try_send(json!({"type": "omsr", "data": about})).await.is_err() {
                        return;
                    }
                }
            }
        }
        if known.is_empty() {
            continue;
        }
        let call = known[dice.below(known.len() as u64) as usize].clone();
        if peer.try_send(frame(dice, &call)).await.is_err() {
            return;
        }
    }
    if dice.below(2) == 0 {
        peer.wire.cut();
    }
}

fn call(client: &Client, resume: bool) -> tokio::task::JoinHandle<()> {
    let call = client
        .call("numbers", "all")
        .input("in", stream::iter(0..1_000_000_i64))
        .deadline(Duration::from_secs(90));
    let call = if resume { call.resume() } else { call };
    tokio::spawn(async move {
        let Ok(stream) = call.open::<i64>().await else { return };
        let mut events: CallEvents<i64> = stream.events();
        while events.next().await.is_some() {}
    })
}

async fn nonsense(mut server: Server, mut dice: Dice) -> Server {
    let mut known = Vec::new();
    for _ in 0..6 {
        let Ok(mut peer) = tokio::time::timeout(Duration::from_secs(30), server.x1(8)).await else { break };
        babble(&mut peer, &mut dice, &mut known).await;
    }
    server
}

#[tokio::test(start_paused = true)]
async fn a_client_survives_nonsense_and_ends_every_call() {
    // A task that panics would end its calls, too.
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    for seed in 0..150 {
        let (server, builder) = server();
        let client = builder.build().unwrap();
        let calls = [call(&client, false), call(&client, true), call(&client, true)];
        let mut server = within(nonsense(server, Dice(seed))).await;
        server.refuse(true);
        // Whatever was said: the calls end, by their deadline at the latest.
        for call in calls {
            within(call).await.unwrap();
        }
        client.close();
        tokio::time::sleep(Duration::from_secs(5)).await;
        while server.try_drop() {}
        server.refuse(false);
        let last = tokio::spawn(client.call("numbers", "one").single::<i64>());
        let mut peer = server.x1(8).await;
        let opening = peer.opened().await;
        peer.send(opening.int(7)).await;
        peer.send(opening.done()).await;
        assert_eq!(within(last).await.unwrap().unwrap(), 7, "seed {seed}");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "seed {seed}");
    }
}
