//! Servers that answer the upgrade or the greeting with something else.

use std::{io, pin::Pin, time::Duration};

use broker_streams_client::{CallError, Client};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use crate::{
    open,
    support::{server, within},
};

/// A client of a server that is nothing but bytes, and the next connection at it.
fn raw() -> (Client, tokio::sync::mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, arriving) = tokio::sync::mpsc::unbounded_channel();
    let connect = move || -> Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>> {
        let (ours, theirs) = duplex(4096);
        sender.send(theirs).unwrap();
        Box::pin(async move { Ok(ours) })
    };
    (Client::builder("ws://server/?key=s3cret").connector(connect).build().unwrap(), arriving)
}

/// The error of a call at a server that answers the upgrade with something, again and again.
async fn answered(first: &str, again: &str, every: Duration) -> CallError {
    let (client, mut arriving) = raw();
    let call = tokio::spawn(client.call("a", "b").void());
    let mut stream = within(arriving.recv()).await.unwrap();
    let mut request = vec![0; 4096];
    within(stream.read(&mut request)).await.unwrap();
    let (first, again) = (first.to_owned(), again.to_owned());
    let writing = tokio::spawn(async move {
        let _ = stream.write_all(first.as_bytes()).await;
        while !again.is_empty() && stream.write_all(again.as_bytes()).await.is_ok() {
            tokio::time::sleep(every).await;
        }
        stream
    });
    let error = within(call).await.unwrap().unwrap_err();
    writing.abort();
    error
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_the_upgrade_that_is_none_ends_in_time_and_shows_nothing_of_it() {
    let began = Instant::now();
    let dripping = answered("HTTP/1.1 101 Switching Protocols\r\n", "a", Duration::from_millis(100)).await;
    assert!(matches!(dripping, CallError::ConnectTimedOut), "{dripping:?}");
    assert_eq!(began.elapsed().as_secs(), 5);
    let endless =
        answered("HTTP/1.1 101 Switching Protocols\r\n", "s3cret: s3cret\r\n", Duration::ZERO).await;
    let redirect = "HTTP/1.1 302 Found\r\nlocation: ws://s3cret/\r\ncontent-length: 0\r\n\r\n";
    let redirect = answered(redirect, "", Duration::ZERO).await;
    assert!(redirect.to_string().contains("302"), "{redirect}");
    let wrong = "HTTP/1.1 101 s3cret\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: s3cret\r\n\r\n";
    let wrong = answered(wrong, "", Duration::ZERO).await;
    let reason = answered("HTTP/1.1 500 s3cret\r\ncontent-length: 6\r\n\r\ns3cret", "", Duration::ZERO).await;
    let other = answered("s3cret\r\n\r\n", "", Duration::ZERO).await;
    for error in [endless, redirect, wrong, reason, other] {
        assert!(matches!(error, CallError::ConnectFailed(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_greeting_with_wrong_members_is_no_greeting() {
    for data in [
        json!({"x": 2, "window": 1}),
        json!({"x": "1"}),
        json!({"x": 1, "window": -1}),
        json!({"x": 1, "window": 1e99}),
        json!({"x": 1, "bytes": "many"}),
        json!({"x": 1, "park": []}),
        json!([]),
        json!("x"),
    ] {
        let (mut server, builder) = server();
        let client = builder.build().unwrap();
        let opening = open(&client, "a");
        let mut peer = server.accept().await;
        peer.text().await.unwrap();
        peer.send(json!({"type": "pong", "data": data})).await;
        // The client speaks plainly, or not at all.
        match peer.frame().await {
            Some(frame) => {
                let is_plain = frame["type"] == "omsc" && frame["data"].get("x").is_none();
                assert!(is_plain, "{data}: {frame}");
            }
            None => {
                let error = within(opening).await.unwrap().err();
                assert!(matches!(error, Some(CallError::ConnectFailed(_))), "{data}: {error:?}");
            }
        }
    }
}
