//! A server with many sockets stops in time, though some clients read nothing.

use std::time::{Duration, Instant};

use broker_streams::{Endpoint, Failure, Limits, Out};
use serde_json::json;

use crate::support::{Raw, Server, open, soon};

/// Sends until the client does not take any more.
async fn flood(out: Out<String>) -> Result<(), Failure> {
    loop {
        out.send("x".repeat(1000)).await?;
    }
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sockets_end_with_the_server() {
    let mut limits = Limits::default();
    // Those that read nothing are not cut before the end.
    limits.stall = Duration::from_secs(600);
    let server = Server::start(|streams| {
        let test = Endpoint::new("test").method("flood", flood).method("forever", forever);
        streams.limits(limits).endpoint(test)
    })
    .await;
    let mut clients = Vec::new();
    for number in 0..1000 {
        let mut raw = server.connect().await;
        // Every tenth reads nothing, and its method is stuck.
        let method = if number % 10 == 0 { "flood" } else { "forever" };
        raw.json(&open(1, "test", method, &json!({}), &[])).await;
        assert_eq!(raw.frames(1).await, ["success"]);
        clients.push(raw);
    }
    assert_eq!(server.streams.sockets(), 1000);
    let within = Duration::from_secs(4);
    let began = Instant::now();
    soon("the drain", server.streams.drain(within)).await;
    println!("{:?} of {within:?}", began.elapsed());
    assert_eq!(server.streams.sockets(), 0);
    // Those that read were told.
    let Raw(mut reader, _) = clients.swap_remove(1);
    drop(clients);
    let mut last = None;
    while let Some(Ok(message)) = soon("the end", futures_util::StreamExt::next(&mut reader)).await {
        last = Some(message);
    }
    assert!(matches!(last, Some(tokio_tungstenite::tungstenite::Message::Close(Some(_)))), "{last:?}");
}
