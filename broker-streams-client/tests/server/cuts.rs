//! Connections that are cut: calls go on exactly, by their cursor, or anew.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use broker_streams::{
    Authenticated, Authenticator, Cursor, Endpoint, Failure, Incoming, InputError, Out, StreamsBuilder,
    method,
};
use broker_streams_client::{Client, Event, Resumption, Status};
use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

use crate::{Server, within};

const COUNT: i64 = 20_000;

fn echo(input: Incoming<i64>) -> impl Stream<Item = Result<i64, InputError>> {
    input
}

/// Numbers from the cursor on.
async fn by_cursor(Cursor(cursor): Cursor, out: Out<i64>) -> Result<(), Failure> {
    let next = cursor.map_or(Ok(0), |cursor| cursor.parse::<i64>()).map_err(Failure::internal)?;
    for number in next..COUNT {
        out.send_at(number, number + 1).await?;
    }
    Ok(())
}

async fn without_cursor(out: Out<i64>) -> Result<(), Failure> {
    for number in 0..COUNT {
        out.send(number).await?;
    }
    Ok(())
}

/// Counts what comes in.
async fn count(mut input: Incoming<i64>) -> Result<i64, Failure> {
    let mut count = 0;
    while let Some(value) = input.next().await {
        assert_eq!(value?, count);
        count += 1;
    }
    Ok(count)
}

pub(crate) fn methods(streams: StreamsBuilder) -> StreamsBuilder {
    streams.endpoint(
        Endpoint::new("test")
            .method("echo", method(echo).inputs(["input"]).resumable())
            .method("count", method(count).inputs(["input"]).resumable())
            .method("byCursor", by_cursor)
            .method("withoutCursor", without_cursor),
    )
}

/// Everybody is who they say.
struct Names;

impl Authenticator for Names {
    async fn authenticate(
        &self,
        credentials: broker_streams::Credentials,
    ) -> Result<Option<Authenticated>, Failure> {
        Ok(Some(Authenticated::new(credentials.secret())))
    }
}

/// What is written goes through.
macro_rules! through_to_the_stream {
    ($type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.stream).poll_write(cx, buf)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_shutdown(cx)
            }
        }
    };
}

/// A connection that breaks after so many bytes were read: those under way are lost.
struct Fragile {
    stream: TcpStream,
    left: i64,
}

impl AsyncRead for Fragile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Ok(left @ 1..) = usize::try_from(self.left) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let before = buf.filled().len();
        let mut part = buf.take(left);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        // What was read is initialised: the buffer is that of tungstenite, which is zeroed.
        buf.set_filled(before + read);
        self.left -= i64::try_from(read).unwrap_or(i64::MAX);
        Poll::Ready(Ok(()))
    }
}

through_to_the_stream!(Fragile);

/// A client whose connections break after `least` bytes and more, and how many it has made.
fn fragile(server: &Server, least: i64) -> (Client, Arc<AtomicUsize>) {
    let (address, connections) = (server.address.clone(), Arc::new(AtomicUsize::new(0)));
    let (counting, length) = (Arc::clone(&connections), AtomicI64::new(0));
    let connect = move || {
        counting.fetch_add(1, Ordering::SeqCst);
        let length = least + length.fetch_add(7919, Ordering::SeqCst) % 30_000;
        let address = address.clone();
        async move { Ok(Fragile { stream: TcpStream::connect(address).await?, left: length }) }
    };
    let client = Client::builder("ws://server/v1/websocket").connector(connect).build().unwrap();
    hurry(client.clone());
    (client, connections)
}

/// Lets a client try again at once: its waits grow while no socket lives for long.
fn hurry(client: Client) {
    let mut changes = client.status_changes();
    tokio::spawn(async move {
        while let Some(status) = changes.next().await {
            if matches!(status, Status::Waiting { .. }) {
                client.report_online();
            }
        }
    });
}

#[tokio::test]
async fn an_exact_call_loses_and_doubles_nothing_either_way() {
    let server = Server::start(methods).await;
    const COUNT: i64 = 3_000;
    let (client, connections) = fragile(&server, 2_000);
    let call = client.call("test", "echo").resume().input("input", stream::iter(0..COUNT));
    let mut events = within(call.open::<i64>()).await.unwrap().events();
    let (mut next, mut resumed) = (0, 0);
    while let Some(event) = within(events.next()).await {
        match event.unwrap() {
            Event::Value(value) => {
                assert_eq!(value, next);
                next += 1;
            }
            Event::Resumed(Resumption::Exact) => resumed += 1,
            other => panic!("{other:?} after {next}"),
        }
    }
    assert_eq!(next, COUNT);
    let connections = connections.load(Ordering::SeqCst);
    assert!(resumed > 10 && connections > 10, "{resumed} of {connections}");
    assert_eq!(server.streams.parked(), 0);
}

#[tokio::test]
async fn a_call_goes_on_by_its_cursor_without_a_loss() {
    let server = Server::start(methods).await;
    let (client, _) = fragile(&server, 20_000);
    let call = client.call("test", "byCursor").resume();
    let mut events = within(call.open::<i64>()).await.unwrap().events();
    let (mut next, mut resumed) = (0, 0);
    while let Some(event) = within(events.next()).await {
        match event.unwrap() {
            Event::Value(value) => {
                assert_eq!(value, next);
                next += 1;
            }
            Event::Resumed(Resumption::Cursor) => resumed += 1,
            other => panic!("{other:?} after {next}"),
        }
    }
    assert_eq!(next, COUNT);
    assert!(resumed > 20, "{resumed}");
}

#[tokio::test]
async fn a_call_without_a_cursor_begins_anew_and_says_so() {
    let server = Server::start(methods).await;
    let (client, _) = fragile(&server, 40_000);
    let mut events =
        within(client.call("test", "withoutCursor").resume().open::<i64>()).await.unwrap().events();
    let (mut next, mut restarted) = (0, 0);
    while restarted < 5 {
        match within(events.next()).await.unwrap().unwrap() {
            Event::Value(value) => {
                assert_eq!(value, next);
                next += 1;
            }
            Event::Restarted => {
                assert!(next > 0);
                next = 0;
                restarted += 1;
            }
            other => panic!("{other:?} after {next}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_drains_sends_its_calls_to_another() {
    let (first, second) = (Server::start(methods).await, Server::start(methods).await);
    let address = Arc::new(Mutex::new(first.address.clone()));
    let connect = {
        let address = Arc::clone(&address);
        move || {
            let address = (*address.lock().unwrap()).clone();
            async move { TcpStream::connect(address).await }
        }
    };
    let client = Client::builder("ws://server/v1/websocket").connector(connect).build().unwrap();
    let mut events = within(client.call("test", "byCursor").resume().open::<i64>()).await.unwrap().events();
    let mut next = 0;
    let mut draining = None;
    let mut moved = false;
    while let Some(event) = within(events.next()).await {
        match event.unwrap() {
            Event::Value(value) => {
                assert_eq!(value, next);
                next += 1;
            }
            Event::Resumed(Resumption::Cursor) => moved = true,
            other => panic!("{other:?} after {next}"),
        }
        if next == 100 && draining.is_none() {
            (*address.lock().unwrap()).clone_from(&second.address);
            let streams = first.streams.clone();
            draining =
                Some(tokio::spawn(async move { streams.drain(std::time::Duration::from_secs(1)).await }));
            // Its calls end by the drain, not by their own end.
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        }
    }
    assert_eq!((next, moved), (COUNT, true));
    within(draining.unwrap()).await.unwrap();
    assert_eq!(first.streams.sockets(), 0);
}

#[tokio::test]
async fn calls_of_a_user_and_anonymous_ones_go_on_beside_each_other_and_those_of_another_user_do_not() {
    let closed =
        Endpoint::new("closed").requires_login().method("echo", method(echo).inputs(["input"]).resumable());
    let server = Server::start(|streams| methods(streams).authenticator(Names).endpoint(closed)).await;
    let address = server.address.clone();
    let (cut, cuts) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (cutting, counting) = (Arc::clone(&cut), Arc::clone(&cuts));
    let connect = move || {
        let (address, cut, cuts) = (address.clone(), Arc::clone(&cutting), Arc::clone(&counting));
        async move {
            let broken = Box::pin(async move {
                cut.notified().await;
                cuts.fetch_add(1, Ordering::SeqCst);
            });
            Ok(Breakable { stream: TcpStream::connect(address).await?, broken })
        }
    };
    let user = Arc::new(Mutex::new("Bearer anna"));
    let provider = {
        let user = Arc::clone(&user);
        move || {
            let user = (*user.lock().unwrap()).to_owned();
            async move { Some(user) }
        }
    };
    let client =
        Client::builder("ws://server/v1/websocket").connector(connect).credentials(provider).build().unwrap();
    let open = async |endpoint: &str, anonymous: bool| {
        let (input, values) = tokio::sync::mpsc::channel::<i64>(8);
        let values = stream::unfold(values, |mut values| async { Some((values.recv().await?, values)) });
        let mut call = client.call(endpoint, "echo").resume().input("input", values);
        if anonymous {
            call = call.anonymous();
        }
        (input, within(call.open::<i64>()).await.unwrap().events())
    };
    let mut calls = [open("closed", false).await, open("test", true).await];
    for round in 0..4 {
        for (input, events) in &mut calls {
            input.send(round).await.unwrap();
            assert_eq!(within(events.next()).await.unwrap().unwrap(), Event::Value(round));
        }
        cut.notify_one();
        for (_, events) in &mut calls {
            assert_eq!(within(events.next()).await.unwrap().unwrap(), Event::Resumed(Resumption::Exact));
        }
    }
    assert_eq!(cuts.load(Ordering::SeqCst), 4);
    *user.lock().unwrap() = "Bearer berta";
    cut.notify_one();
    let [(_, of_anna), (_, anonymous)] = &mut calls;
    assert_eq!(within(of_anna.next()).await.unwrap().unwrap(), Event::Restarted);
    assert_eq!(within(anonymous.next()).await.unwrap().unwrap(), Event::Resumed(Resumption::Exact));
}

/// A connection that breaks when it is told to.
struct Breakable {
    stream: TcpStream,
    broken: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

through_to_the_stream!(Breakable);

/// A connection whose client hears nothing behind the answer to its opening, and which breaks when the server
/// has told it of all that its window allows.
struct Deaf {
    stream: TcpStream,
    /// What the client does not hear.
    unheard: Option<Vec<u8>>,
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

impl AsyncRead for Deaf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, unheard } = &mut *self;
        let Some(unheard) = unheard else {
            std::task::ready!(Pin::new(stream).poll_read(cx, buf))?;
            self.unheard = contains(buf.filled(), "\"omsr\"").then(Vec::new);
            return Poll::Ready(Ok(()));
        };
        let mut bytes = [0; 1024];
        while !contains(unheard, "\"got\":64}") {
            let mut read = ReadBuf::new(&mut bytes);
            std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            unheard.extend_from_slice(read.filled());
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

through_to_the_stream!(Deaf);

#[tokio::test]
async fn an_input_goes_on_though_all_that_the_server_told_of_it_was_lost() {
    let server = Server::start(methods).await;
    let address = server.address.clone();
    let connect = move || {
        let address = address.clone();
        async move { Ok(Deaf { stream: TcpStream::connect(address).await?, unheard: None }) }
    };
    let client = Client::builder("ws://server/v1/websocket").connector(connect).build().unwrap();
    let call = client.call("test", "count").resume().input("input", stream::iter(0..200_i64));
    assert_eq!(within(call.single::<i64>()).await.unwrap(), 200);
}
