//! What connecting to servers of all kinds ends with; none of these is a real one.

use std::io::Write as _;

use broker_core::{BrokerUrl, Error, ErrorKind};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use std::sync::atomic::Ordering::Relaxed;

use super::*;

const INFO: &str =
    r#"INFO {"server_id":"x","version":"2.10.0","headers":true,"max_payload":1048576,"nonce":"n"}"#;

fn driver(url: &str) -> NatsDriver {
    let driver = NatsDriver::new(Address::parse(&BrokerUrl::parse(url).unwrap()).unwrap());
    assert!(!format!("{driver:?}").contains("s3cret"));
    driver
}

async fn failure(url: &str) -> Error {
    let driver = driver(url);
    let error = driver.reach(Inbox::discard()).await.map(drop).expect_err("an error");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    error
}

/// What one meets who is told `greeting`, and `answer` to his own first line. And that line.
async fn answered(credentials: &str, greeting: &str, answer: &str) -> (Result<(), Error>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (greeting, answer) = (format!("{greeting}\r\n"), format!("{answer}\r\n"));
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        let mut line = String::new();
        let _ = socket.write_all(greeting.as_bytes()).await;
        let _ = socket.read_line(&mut line).await;
        let _ = socket.write_all(answer.as_bytes()).await;
        line
    });
    let driver = driver(&format!("nats://{credentials}{address}"));
    let opened = driver.reach(Inbox::discard()).await.map(drop);
    if let Err(error) = &opened {
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        assert!(error.message().contains(&address.to_string()), "{error}");
    }
    (opened, server.await.unwrap())
}

#[tokio::test]
async fn credentials_are_sent_as_they_are() {
    for (credentials, sent) in [
        ("", vec![]),
        ("ada:p%40ss@", vec![r#""user":"ada""#, r#""pass":"p@ss""#]),
        ("t%2Fken@", vec![r#""auth_token":"t/ken""#]),
    ] {
        let (opened, line) = answered(credentials, INFO, "PONG").await;
        opened.unwrap();
        assert!(line.starts_with("CONNECT "), "{line}");
        for part in sent {
            assert!(line.contains(part), "{line}");
        }
    }
}

#[tokio::test]
async fn files_are_read_at_every_attempt_and_not_shown() {
    // A seed that stands for nobody.
    let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let keys = format!("?nkey={}", file.path().display());
    let error = failure(&format!("nats://localhost:1{keys}")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.message().contains("are not valid"), "{error}");

    writeln!(file, "-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        let mut line = String::new();
        let _ = socket.write_all(format!("{INFO}\r\n").as_bytes()).await;
        let _ = socket.read_line(&mut line).await;
        let _ = socket.write_all(b"-ERR 'Authorization Violation'\r\n").await;
        line
    });
    let error = failure(&format!("nats://{address}{keys}")).await;
    let line = server.await.unwrap();
    assert!(line.contains(r#""nkey":"U"#) && line.contains(r#""sig":""#), "{line}");
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains(&file.path().display().to_string()), "{error}");
    assert!(!format!("{error:?}").contains(seed) && !line.contains(seed), "{error:?}");

    for key in ["nkey", "creds"] {
        let error = failure(&format!("nats://localhost:1?{key}=/no/such/file")).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.message().contains(&format!("{key}=/no/such/file")), "{error}");
    }
}

#[tokio::test]
async fn refusals_have_their_kinds() {
    for (answer, kind, part) in [
        ("-ERR 'Authorization Violation'", ErrorKind::Forbidden, "\"ada\""),
        ("-ERR 'User Authentication Expired'", ErrorKind::Forbidden, "expired"),
        ("-ERR 'Maximum Connections Exceeded'", ErrorKind::Unavailable, "max_connections"),
        ("-ERR 'Secure Connection - TLS Required'", ErrorKind::Misconfigured, "tls://"),
        ("-ERR 'cannot take s3cret'", ErrorKind::Other, "unknown reason"),
    ] {
        let (opened, _) = answered("ada:s3cret@", INFO, answer).await;
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), kind, "{answer}: {error}");
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_foreign_server_is_a_protocol_error() {
    for greeting in [
        "HTTP/1.1 400 Bad Request\r\n",
        "SSH-2.0-OpenSSH_9.6",
        "+OK POP3 s3cret",
        "220 mail.example.org ESMTP",
        "INFO s3cret",
        "INFO",
        "MSG",
        "MSG a 1 18446744073709551615",
        "HMSG a 1 1 0",
        // On these the client panics.
        "-ERR",
        "-ERR\r\n",
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{46}",
    ] {
        let (opened, _) = answered("ada:s3cret@", greeting, "").await;
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{greeting:?}: {error}");
    }
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for (url, place) in [
        (format!("nats://ada:s3cret@{address}"), address.to_string()),
        ("nats://s3cret@host.invalid".to_owned(), "host.invalid:4222".to_owned()),
    ] {
        let error = failure(&url).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&place), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let error = failure(&format!("nats://{address}")).await;
    server.await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

/// The server ends the connection, and nobody ever comes back.
#[tokio::test]
async fn a_connection_is_opened_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let driver = driver(&format!("nats://{}", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        socket.write_all(format!("{INFO}\r\nPONG\r\n").as_bytes()).await.unwrap();
        // CONNECT, PING, SUB, and then we hang up.
        for _ in 0..3 {
            socket.read_line(&mut String::new()).await.unwrap();
        }
        listener
    });
    let inbox = Inbox::discard();
    let (client, client_thread, _) = driver.reach(inbox.clone()).await.unwrap();
    let mut subscriber = client.subscribe("news").await.unwrap();
    let listener = server.await.unwrap();
    // Its tasks are gone: what is subscribed ends, and what is published is refused, not kept.
    assert!(futures_util::StreamExt::next(&mut subscriber).await.is_none());
    assert!(inbox.is_lost());
    while client.publish("news", "late".into()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.statistics().connects.load(Relaxed), 1);
    client_thread.end().await;
    assert!(futures_util::FutureExt::now_or_never(listener.accept()).is_none());
}

/// The client drops what it would tell about itself when too much of it waits.
#[tokio::test]
async fn a_connection_that_ends_in_many_errors_is_not_reopened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let driver = driver(&format!("nats://{}", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        socket.write_all(format!("{INFO}\r\nPONG\r\n").as_bytes()).await.unwrap();
        for _ in 0..3 {
            socket.read_line(&mut String::new()).await.unwrap();
        }
        (socket, listener)
    });
    let inbox = Inbox::discard();
    let (client, client_thread, _) = driver.reach(inbox.clone()).await.unwrap();
    let _subscriber = client.subscribe("news").await.unwrap();
    let (mut socket, listener) = server.await.unwrap();
    // The client stands still until all of it is there: piece by piece, it could be told in time.
    let ((stands, standing), (go, wait)) =
        (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
    let held = client_thread.run(async move {
        stands.send(()).unwrap();
        wait.recv().unwrap();
    });
    let flood = async {
        standing.await.unwrap();
        let complaint = "-ERR 'Permissions Violation for Publish to \"news\"'\r\n";
        socket.write_all(complaint.repeat(300).as_bytes()).await.unwrap();
        drop(socket);
        go.send(()).unwrap();
    };
    tokio::join!(held, flood).0.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
    assert!(again.is_err(), "it came back");
    assert!(!inbox.is_lost(), "it was reported, so this proves nothing");
}
