//! Hostile clients: what they can make the server keep is bounded, whatever names and positions they send.

use broker_streams::{Endpoint, Incoming, Out, method};
use serde_json::json;

use crate::{
    ALONE,
    extended::open_with,
    support::{Raw, Server, resident, value},
};

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

async fn held(input: Incoming<i64>, _out: Out<i64>) {
    let _input = input;
    std::future::pending::<()>().await;
}

async fn server() -> Server {
    let test = Endpoint::new("test")
        .method("forever", method(forever).resumable())
        .method("held", method(held).inputs(["input"]));
    Server::start(|streams| streams.endpoint(test)).await
}

const LONG: usize = 300 << 10;
const MOST: usize = 24 << 20;

#[tokio::test]
async fn a_position_is_not_kept_for_the_life_of_a_call() {
    let _alone = ALONE.lock().await;
    let server = server().await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    let before = resident();
    for number in 0..200 {
        raw.json(&open_with(number, "forever", &[], &json!({"k": "x".repeat(LONG)}))).await;
        assert_eq!(raw.frames(1).await, ["success"]);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < MOST, "grown by {grown} bytes");
}

#[tokio::test]
async fn names_of_inputs_that_do_not_exist_are_not_kept() {
    let _alone = ALONE.lock().await;
    let server = server().await;
    // The first socket shows what the allocator keeps.
    let mut sockets = vec![strays(&server).await];
    let before = resident();
    for _ in 0..3 {
        sockets.push(strays(&server).await);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < MOST, "grown by {grown} bytes");
}

/// A socket on which values came for 64 inputs of long names.
async fn strays(server: &Server) -> Raw {
    let mut raw = server.connect().await;
    for number in 0..64 {
        let name = format!("{number}{}", "x".repeat(LONG));
        raw.json(&value(1, "held", &name, "int", &json!(1))).await;
        assert_eq!(raw.next().await["type"], "cmsc");
    }
    raw
}

#[tokio::test]
async fn long_answers_that_nobody_reads_are_bounded_by_their_bytes() {
    let _alone = ALONE.lock().await;
    let server = server().await;
    let before = resident();
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut raw = server.connect().await;
        let flood = async {
            for number in 0..64 {
                let name = format!("{number}{}", "x".repeat(LONG));
                raw.json(&value(1, "held", &name, "int", &json!(1))).await;
            }
        };
        // It does not come to an end where the server stops to read.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), flood).await;
        sockets.push(raw);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < MOST, "grown by {grown} bytes");
}
