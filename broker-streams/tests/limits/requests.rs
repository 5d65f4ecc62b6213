//! Requests that do not become sockets.

use axum::middleware::{Next, from_fn};
use broker_streams::{Endpoint, Streams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Server, soon};

/// The status and the headers of an answer.
async fn ask(server: &Server, head: &str) -> String {
    ask_and_stay(server, head).await.0
}

/// The same, and the connection.
async fn ask_and_stay(server: &Server, head: &str) -> (String, TcpStream) {
    let address = server.url.trim_start_matches("ws://").trim_end_matches("/v1/websocket");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = head.replace("HOST", address).replace('\n', "\r\n");
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", async {
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed before the answer");
        }
    })
    .await;
    (String::from_utf8(answer).unwrap(), stream)
}

const HANDSHAKE: &str = "GET /v1/websocket HTTP/1.1\nHost: HOST\nConnection: keep-alive, Upgrade\nUpgrade: WebSocket\n\
                         Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

async fn server() -> Server {
    Server::start(|streams| {
        streams.allow_origins(["https://app.example.org"]).endpoint(Endpoint::new("test"))
    })
    .await
}

#[tokio::test]
async fn a_handshake_is_accepted() {
    let answer = ask(&server().await, HANDSHAKE).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
}

#[tokio::test]
async fn origins_are_checked() {
    let server = server().await;
    for (origin, status) in [
        ("http://HOST", 101),
        ("https://HOST", 101),
        ("https://app.example.org", 101),
        ("http://app.example.org", 403),
        ("https://evil.example.org", 403),
        ("null", 403),
        ("", 403),
    ] {
        let answer = ask(&server, &format!("{HANDSHAKE}\nOrigin: {origin}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{origin:?}: {answer}");
    }
    let twice = format!("{HANDSHAKE}\nOrigin: http://HOST\nOrigin: https://evil.example.org");
    assert!(ask(&server, &twice).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn what_is_no_handshake_says_what_it_should_be() {
    let server = server().await;
    for (from, to, status) in [
        ("GET", "POST", 426),
        ("Upgrade: WebSocket", "Accept: text/html", 426),
        ("Version: 13", "Version: 12", 400),
        ("Sec-WebSocket-Key", "X-Key", 400),
    ] {
        let answer = ask(&server, &HANDSHAKE.replacen(from, to, 1)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{to}: {answer}");
    }
}

#[tokio::test]
async fn sockets_of_one_address_are_limited() {
    let server = Server::start(|streams| {
        streams
            .endpoint(Endpoint::new("test"))
            .sockets_per_address(2, |_, headers| headers.get("x-address")?.to_str().ok()?.parse().ok())
    })
    .await;
    let of = |address: &str| format!("{HANDSHAKE}\nX-Address: {address}");
    let mut open = Vec::new();
    for (address, status) in [
        ("10.0.0.1", 101),
        ("10.0.0.1", 101),
        ("10.0.0.1", 503),
        ("10.0.0.2", 101),
        ("none", 101),
        ("none", 101),
        ("none", 101),
    ] {
        let (answer, stream) = ask_and_stay(&server, &of(address)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{address}: {answer}");
        open.push(stream);
    }
    // A handshake that is refused for something else is not counted, and who goes makes room.
    let refused = of("10.0.0.2").replace("Version: 13", "Version: 12");
    assert!(ask(&server, &refused).await.starts_with("HTTP/1.1 400"));
    drop(open.remove(0));
    soon("room", async {
        while ask_and_stay(&server, &of("10.0.0.1")).await.0.starts_with("HTTP/1.1 503") {}
    })
    .await;
    assert!(ask(&server, &of("10.0.0.2")).await.starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn an_upgrade_that_never_comes_does_not_outlive_the_server() {
    let broker = broker::connect("memory:").await.unwrap();
    let streams = Streams::builder(broker).endpoint(Endpoint::new("test")).build().unwrap();
    let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
    // The answer is not given to the connection.
    let app = app.layer(from_fn(|request, next: Next| async {
        let _answer = next.run(request).await;
        std::future::pending::<axum::response::Response>().await
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = HANDSHAKE.replace("HOST", &address).replace('\n', "\r\n");
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    soon("the request", async {
        while streams.sockets() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    streams.close().await;
    assert_eq!(streams.sockets(), 0, "its task has outlived the server");
    serving.abort();
}
