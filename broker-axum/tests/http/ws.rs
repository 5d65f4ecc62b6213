//! WebSockets: both ways, every close code, and clients that do not do what they should.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{State, WebSocketUpgrade, ws::CloseFrame},
    response::Response,
    routing::any,
};
use broker::{Broker, Error, ErrorKind, Identity, Revocation, Scope};
use broker_axum::{AnyStream, HttpError, WebSocketForward};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, tungstenite::Message};

use crate::server::{ROOM, Said, Server, guards, say, within};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A chat of ada's: what she sends is posted by her session.
async fn chat(State(broker): State<Broker>, upgrade: WebSocketUpgrade) -> Result<Response, HttpError> {
    let session = broker.session_for(Identity::new("ada", Instant::now())).await?;
    let said = session.create_stream(ROOM).await?;
    Ok(WebSocketForward::new(upgrade, said).max_message(1000).on_message(move |said: Said| {
        let session = session.clone();
        async move { session.post_message(ROOM, said, Scope::Global).await }
    }))
}

/// What a function of the application makes of a word.
async fn outcomes(State(broker): State<Broker>, upgrade: WebSocketUpgrade) -> Result<Response, HttpError> {
    let stream = broker.create_stream(ROOM).await?;
    Ok(WebSocketForward::new(upgrade, stream).on_message(async |word: String| match &*word {
        "fine" => Ok(()),
        "frame" => Err(CloseFrame { code: 4100, reason: "as I said".into() }),
        "hang" => pending().await,
        _ => unreachable!(),
    }))
}

pub(crate) fn app() -> Router<Broker> {
    let listen = async |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        Ok::<_, HttpError>(WebSocketForward::new(upgrade, broker.create_stream(ROOM).await?))
    };
    let patient = async |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let forward = WebSocketForward::new(upgrade, broker.create_stream(ROOM).await?);
        Ok::<_, HttpError>(forward.ping_interval(Duration::MAX).send_timeout(Duration::MAX))
    };
    Router::new()
        .route("/chat", any(chat))
        .route("/outcomes", any(outcomes))
        .route("/listen", any(listen))
        .route("/patient", any(patient))
}

pub(crate) async fn start() -> Server {
    Server::start(&broker::connect("memory:").await.unwrap(), app()).await
}

/// The next text frame.
pub(crate) async fn text(socket: &mut Socket) -> String {
    loop {
        match within("a frame", socket.next()).await.expect("open").unwrap() {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code of the close frame, which has to come before the end.
pub(crate) async fn close_code<S>(socket: &mut WebSocketStream<S>) -> u16
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match within("a close frame", socket.next()).await.expect("a close frame") {
            Ok(Message::Close(Some(frame))) => return frame.code.into(),
            Ok(_) => {}
            Err(error) => panic!("no close frame: {error}"),
        }
    }
}

#[tokio::test]
async fn items_go_out_as_json_and_messages_come_in() {
    let server = start().await;
    let (mut one, mut other) = (server.socket("/chat").await, server.socket("/listen").await);
    one.send(Message::text("{\"text\":\"hello\"}")).await.unwrap();
    for socket in [&mut one, &mut other] {
        let frame = text(socket).await;
        assert!(frame.starts_with("{\"event\":\"message\",\"id\":\""), "{frame}");
        assert!(frame.ends_with("\",\"data\":{\"text\":\"hello\"}}"), "{frame}");
    }
    server.broker.publish(ROOM, "no type", Scope::Global).await.unwrap();
    assert_eq!(text(&mut other).await, "{\"event\":\"unreadable\",\"data\":{\"error\":\"wrong-type\"}}");
}

#[tokio::test]
async fn what_is_not_expected_closes_with_the_code_that_says_so() {
    let server = start().await;
    for (path, message, code) in [
        ("/chat", Message::text("{\"txt\":1}"), 1007),
        ("/chat", Message::text("{"), 1007),
        ("/chat", Message::binary(vec![1]), 1003),
        ("/listen", Message::text("{}"), 1003),
        ("/chat", Message::text("x".repeat(1001)), 1009),
        ("/outcomes", Message::text("\"frame\""), 4100),
    ] {
        let mut socket = server.socket(path).await;
        socket.send(message).await.unwrap();
        assert_eq!(close_code(&mut socket).await, code, "{path}");
    }
    let mut socket = server.socket("/outcomes").await;
    socket.send(Message::text("\"fine\"")).await.unwrap();
    say(&server.broker, "still open").await;
    assert!(text(&mut socket).await.contains("still open"));
}

#[tokio::test]
async fn a_revocation_closes_the_sockets_of_that_user() {
    let server = start().await;
    let (mut ada, mut anyone) = (server.socket("/chat").await, server.socket("/listen").await);
    server.broker.revoke(Revocation::user("ada")).await.unwrap();
    assert_eq!(close_code(&mut ada).await, 4001);
    say(&server.broker, "still here").await;
    assert!(text(&mut anyone).await.contains("still here"));
}

/// Her message is handled after she was signed out: that the session is closed is not the server's end.
#[tokio::test]
async fn a_message_that_meets_a_revocation_closes_as_the_revocation_does() {
    let broker = broker::connect("memory:").await.unwrap();
    let revoking = async |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let session = broker.session_for(Identity::new("ada", Instant::now())).await?;
        let said = session.create_stream(ROOM).await?;
        Ok::<_, HttpError>(WebSocketForward::new(upgrade, said).on_message(move |said: Said| {
            let session = session.clone();
            // One poll: the stream cannot be looked at in between.
            let revoked =
                futures_util::FutureExt::now_or_never(session.broker().revoke(Revocation::user("ada")));
            drop(revoked);
            async move { session.post_message(ROOM, said, Scope::Global).await }
        }))
    };
    let server = Server::start(&broker, Router::new().route("/", any(revoking))).await;
    for _ in 0..20 {
        let mut socket = server.socket("/").await;
        socket.send(Message::text("{\"text\":\"late\"}")).await.unwrap();
        assert_eq!(close_code(&mut socket).await, 4001);
    }
}

#[tokio::test]
async fn messages_are_handled_one_after_the_other_while_the_stream_goes_on() {
    let broker = broker::connect("memory:").await.unwrap();
    let (begun, mut calls) = mpsc::channel::<(u32, oneshot::Sender<()>)>(16);
    let slow = async move |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let (stream, begun) = (broker.create_stream(ROOM).await?, begun.clone());
        Ok::<_, HttpError>(WebSocketForward::new(upgrade, stream).on_message_with(
            begun,
            async |begun: mpsc::Sender<_>, number: u32| {
                let (finish, finished) = oneshot::channel();
                begun.send((number, finish)).await.unwrap();
                finished.await.unwrap();
            },
        ))
    };
    let server = Server::start(&broker, Router::new().route("/", any(slow))).await;
    let mut socket = server.socket("/").await;
    for number in ["1", "2", "3"] {
        socket.send(Message::text(number)).await.unwrap();
    }
    for number in 1..=3 {
        let (begun, finish) = within("a call", calls.recv()).await.unwrap();
        assert_eq!(begun, number);
        say(&broker, "meanwhile").await;
        assert!(text(&mut socket).await.contains("meanwhile"));
        assert!(calls.try_recv().is_err(), "two calls at once");
        finish.send(()).unwrap();
    }
}

/// What a socket holds is dropped when either side ends, also in the middle of a call.
#[tokio::test]
async fn nothing_is_left_when_either_side_ends() {
    let broker = broker::connect("memory:").await.unwrap();
    let (guards, mut guarded) = guards();
    let (begun, mut calls) = mpsc::channel::<()>(16);
    let watched = async move |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let session = broker.session_for(Identity::new("ada", Instant::now())).await?;
        let said = session.create_stream(ROOM).await?.owning(session);
        let (guards, begun) = (guards.clone(), begun.clone());
        Ok::<_, HttpError>(WebSocketForward::new(upgrade, said).on_message(move |_: String| {
            let (guard, begun) = (guards.guard(), begun.clone());
            async move {
                begun.send(()).await.unwrap();
                pending::<()>().await;
                drop(guard);
            }
        }))
    };
    let mut server = Server::start(&broker, Router::new().route("/", any(watched))).await;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = server.socket("/").await;
        socket.send(Message::text("\"hang\"")).await.unwrap();
        within("the call", calls.recv()).await.unwrap();
        sockets.push(socket);
    }
    broker.revoke(Revocation::user("ada")).await.unwrap();
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await, 4001);
        guarded.dropped().await;
    }
    server.signal();
    server.returned().await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream() {
    let broker = broker::connect("memory:").await.unwrap();
    let (guards, mut guarded) = guards();
    let watched = async move |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let guard = guards.guard();
        let stream = broker.create_stream(ROOM).await?.inspect(move |_| _ = &guard);
        Ok::<_, HttpError>(WebSocketForward::new(upgrade, AnyStream(stream)))
    };
    let server = Server::start(&broker, Router::new().route("/", any(watched))).await;
    let (mut polite, rude) = (server.socket("/").await, server.socket("/").await);
    polite.close(None).await.unwrap();
    assert!(matches!(within("an answer", polite.next()).await, Some(Ok(Message::Close(_)))));
    assert!(within("the end", polite.next()).await.is_none());
    guarded.dropped().await;
    drop(rude);
    guarded.dropped().await;
}

#[tokio::test]
async fn an_error_before_the_upgrade_is_a_response() {
    let server = start().await;
    server.broker.close().await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let url = format!("ws://{}/listen", server.address);
    let refused = within("a response", client_async(url, stream)).await.unwrap_err();
    assert!(
        matches!(refused, tokio_tungstenite::tungstenite::Error::Http(response) if response.status() == 503)
    );
}

#[tokio::test]
async fn frames_can_be_made_by_the_application() {
    let broker = broker::connect("memory:").await.unwrap();
    let own = async |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let forward = WebSocketForward::new(upgrade, broker.create_stream(ROOM).await?);
        Ok::<_, HttpError>(forward.encode(|item| Some(item.ok()?.text.clone())))
    };
    let server = Server::start(&broker, Router::new().route("/", any(own))).await;
    let mut socket = server.socket("/").await;
    broker.publish(ROOM, "no type", Scope::Global).await.unwrap();
    say(&broker, "plain").await;
    assert_eq!(text(&mut socket).await, "plain");
}

#[tokio::test]
async fn an_error_of_the_broker_closes_with_its_public_message() {
    let broker = broker::connect("memory:").await.unwrap();
    let failing = async |State(broker): State<Broker>, upgrade: WebSocketUpgrade| {
        let stream = broker.create_stream(ROOM).await?;
        Ok::<_, HttpError>(WebSocketForward::new(upgrade, stream).on_message(async |_: String| {
            Err::<(), _>(Error::new(ErrorKind::Unavailable, "no connection to 10.0.0.7"))
        }))
    };
    let server = Server::start(&broker, Router::new().route("/", any(failing))).await;
    let mut socket = server.socket("/").await;
    socket.send(Message::text("\"x\"")).await.unwrap();
    let closed = within("a close frame", socket.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = closed else { panic!("{closed:?}") };
    assert_eq!(u16::from(frame.code), 1013);
    assert!(frame.reason.contains("try again later") && !frame.reason.contains("10.0.0.7"), "{frame}");
}

#[tokio::test]
async fn times_without_end_are_no_fault() {
    let broker = broker::connect("memory:").await.unwrap();
    let server = Server::start(&broker, app()).await;
    let mut socket = server.socket("/patient").await;
    say(&broker, "hello").await;
    assert!(text(&mut socket).await.contains("hello"));
}
