//! A whole socket of a streaming server: any sequence of texts harms neither the server nor another client, is answered by
//! at most one bad request, and leaves nothing behind. The texts are the lines of the input. The first one chooses the kind of socket.
#![no_main]

use std::{cell::RefCell, convert::Infallible, time::Duration};

use broker_streams::{
    Any, Args, Authenticated, Authenticator, Credentials, Endpoint, Failure, Incoming, Out, Peer,
    StreamingEndpoint, Streams, method,
};
use futures_util::{SinkExt, StreamExt, future::join};
use http::{Request, Response};
use hyper::body::Incoming as Body;
use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, runtime::Runtime, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tower_service::Service;

/// A limit against hangs.
const LIMIT: Duration = Duration::from_secs(20);

type Client = WebSocketStream<DuplexStream>;

/// A server, and a client of it that must not feel the others.
struct Fixture {
    runtime: Runtime,
    streams: Streams,
    other: Client,
}

thread_local! {
    static FIXTURE: RefCell<Option<Fixture>> = const { RefCell::new(None) };
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    FIXTURE.with_borrow_mut(|fixture| {
        let Fixture { runtime, streams, other } = fixture.get_or_insert_with(Fixture::new);
        runtime.block_on(async {
            let (kind, texts) = text.split_once('\n').unwrap_or((text, ""));
            timeout(LIMIT, socket(streams, kind, texts)).await.expect("the socket ends");
            let pong = timeout(LIMIT, ping(other)).await.expect("another client is served");
            assert_eq!(pong, r#"{"type":"pong"}"#);
            let left = async {
                while streams.sockets() > 1 || streams.parked() > 0 {
                    tokio::task::yield_now().await;
                }
            };
            timeout(LIMIT, left).await.expect("nothing is left of the socket");
        });
    });
});

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (streams, other) = runtime.block_on(async {
            let streams = streams().await;
            let other = connect(streams.service(), "/v1/websocket").await;
            (streams, other)
        });
        Self { runtime, streams, other }
    }
}

/// One socket, from its first text to its end.
async fn socket(streams: &Streams, kind: &str, texts: &str) {
    let client = if kind.starts_with("endpoints") {
        connect(streams.endpoints_service(), "/websocket?auth=ada").await
    } else {
        connect(streams.service(), "/v1/websocket").await
    };
    let (mut sink, mut stream) = client.split();
    let first = kind.starts_with("x1").then_some(r#"{"type":"ping","data":{"x":1}}"#);
    let send = async move {
        for text in first.into_iter().chain(texts.lines()) {
            // The server may have closed it. What is fed is sent with the close.
            if sink.feed(Message::text(text)).await.is_err() {
                return;
            }
        }
        drop(sink.close().await);
    };
    let hear = async {
        let mut bad = 0;
        while let Some(Ok(message)) = stream.next().await {
            bad += usize::from(message.to_text().is_ok_and(|text| text.starts_with(r#"{"type":"brm""#)));
        }
        bad
    };
    assert!(join(send, hear).await.1 <= 1, "more than one bad request");
}

async fn ping(client: &mut Client) -> String {
    client.send(Message::text(r#"{"type":"ping"}"#)).await.expect("it is open");
    loop {
        let message = client.next().await.expect("it is open").expect("it is open");
        // The server asks from time to time whether the client is there.
        if let Message::Text(text) = message {
            return text.to_string();
        }
    }
}

/// A socket of a service, without a network.
async fn connect<S>(service: S, path: &str) -> Client
where
    S: Service<Request<Body>, Response = Response<http_body_util::Full<bytes::Bytes>>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let (near, far) = tokio::io::duplex(1 << 16);
    let service = hyper::service::service_fn(move |request| service.clone().call(request));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let mut config = WebSocketConfig::default();
    (config.read_buffer_size, config.write_buffer_size) = (4096, 4096);
    let request = format!("ws://localhost{path}");
    let connected = tokio_tungstenite::client_async_with_config(request, near, Some(config)).await;
    connected.expect("a handshake").0
}

async fn streams() -> Streams {
    let broker = broker::connect("memory:").await.expect("memory");
    let test = Endpoint::new("test")
        .method("echo", method(echo).inputs(["input"]).resumable())
        .method("task", method(echo).inputs(["input"]).on_task())
        .method("count", count)
        .method("sum", method(sum).inputs(["input"]));
    let private = Endpoint::new("private").requires_login().method("count", count);
    let mut limits = broker_streams::Limits::default();
    limits.park = Duration::from_millis(1);
    let streams = Streams::builder(broker)
        .limits(limits)
        .authenticator(Keys)
        .endpoint(test)
        .endpoint(private)
        .endpoint(Endpoint::new("chat").streaming(Chat));
    streams.build().expect("a server")
}

struct Keys;

impl Authenticator for Keys {
    async fn authenticate(&self, shown: Credentials) -> Result<Option<Authenticated>, Failure> {
        Ok((shown.secret() == "ada").then(|| Authenticated::new("ada")))
    }
}

async fn echo(mut input: Incoming<i64>, out: Out<i64>) -> Result<(), Failure> {
    while let Some(item) = input.next().await {
        out.send(item?).await?;
    }
    Ok(())
}

async fn sum(mut input: Incoming<i64>) -> Result<i64, Failure> {
    let mut sum = 0_i64;
    while let Some(item) = input.next().await {
        sum = sum.wrapping_add(item?);
    }
    Ok(sum)
}

async fn count(Args(to): Args<u16>, out: Out<u16>) -> Result<(), Failure> {
    for number in 0..to.min(300) {
        out.send_at(number, number).await?;
    }
    Ok(())
}

struct Chat;

impl StreamingEndpoint for Chat {
    type User = u64;

    async fn stream_opened(&self, _: &Peer) -> Result<u64, Failure> {
        Ok(0)
    }

    async fn handle_stream_message(&self, peer: &Peer, count: &mut u64, message: Any) -> Result<(), Failure> {
        *count += 1;
        Ok(peer.send_stream_message(&message.read::<String>()?).await?)
    }
}
