//! A streaming server with methods of every shape, and `broker call` as a program.

use std::{
    future::Future,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use broker_streams::{
    Args, Authenticated, Authenticator, Credentials, Cursor, Endpoint, Failure, Fault, Incoming, Model, Out,
    Streams, method,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

/// A limit against hangs.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("it ends")
}

#[derive(Serialize, Deserialize, Model)]
struct Say {
    text: String,
}

#[derive(Debug, Serialize, Deserialize, Fault)]
struct NoSuchPixel {
    index: u32,
}

impl std::fmt::Display for NoSuchPixel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no pixel {}", self.index)
    }
}

impl std::error::Error for NoSuchPixel {}

#[derive(Deserialize)]
struct Count {
    count: i64,
}

/// How many numbers were sent.
pub(crate) static SENT: AtomicU64 = AtomicU64::new(0);

async fn ints(Args(Count { count }): Args<Count>, out: Out<i64>) -> Result<(), Failure> {
    for number in 0..count {
        out.send(number).await?;
        SENT.fetch_add(1, SeqCst);
    }
    Ok(())
}

/// Sends back what it gets.
async fn room(mut outgoing: Incoming<Say>, out: Out<Say>) -> Result<(), Failure> {
    while let Some(say) = outgoing.next().await {
        out.send(say?).await?;
    }
    Ok(())
}

async fn sum(mut a: Incoming<i64>, mut b: Incoming<i64>) -> Result<i64, Failure> {
    let mut sum = 0;
    while let Some(number) = a.next().await {
        sum += number?;
    }
    while let Some(number) = b.next().await {
        sum += number?;
    }
    Ok(sum)
}

async fn faulty(out: Out<String>) -> Result<(), Failure> {
    out.send("a\u{9b}2J\u{7f}\nb".to_owned()).await?;
    Err(NoSuchPixel { index: 7 }.into())
}

async fn fails() -> Result<i64, Failure> {
    Err(Failure::internal("a secret of the server"))
}

async fn endless(Cursor(cursor): Cursor, out: Out<i64>) -> Result<(), Failure> {
    out.send_at(cursor.map_or(0, |cursor| cursor.parse().unwrap_or(-1)), 5).await?;
    std::future::pending().await
}

async fn who(call: broker_streams::Call) -> String {
    call.who().map_or_else(String::new, |identity| identity.user().to_owned())
}

struct Tokens;

impl Authenticator for Tokens {
    async fn authenticate(&self, shown: Credentials) -> Result<Option<Authenticated>, Failure> {
        let known = shown.secret() == "s3cret" || shown.cookie("sid") == Some("s3cret");
        Ok(known.then(|| Authenticated::new("ada")))
    }
}

/// A server on loopback, which ends with it.
pub(crate) struct Server {
    pub(crate) streams: Streams,
    pub(crate) address: String,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    pub(crate) async fn at(address: &str) -> Self {
        let endpoint = Endpoint::new("test")
            .method("ints", ints)
            .method("room", method(room).inputs(["outgoing"]))
            .method("sum", method(sum).inputs(["a", "b"]))
            .method("faulty", faulty)
            .method("fails", fails)
            .method("endless", method(endless).resumable());
        let closed = Endpoint::new("module.closed").requires_login().method("who", who);
        let streams = Streams::builder(broker::Broker::local())
            .authenticator(Tokens)
            .endpoint(endpoint)
            .endpoint(closed)
            .endpoint(Endpoint::new("admin").requires_scopes(["admin"]).method("who", who))
            .build()
            .unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { streams, address, serving }
    }

    /// Leaves its port to another.
    pub(crate) async fn stop(mut self) {
        self.serving.abort();
        let _ = within(&mut self.serving).await;
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/v1/websocket", self.address)
    }

    /// Waits until no client is connected.
    pub(crate) async fn left(&self) {
        within(async {
            while self.streams.sockets() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn command(url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["call", url]).args(words).env_remove("BROKER_TOKEN").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command has printed, and with what it has exited.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: Option<i32>,
    pub(crate) printed: String,
    pub(crate) noted: String,
}

impl Done {
    pub(crate) async fn of(child: Child) -> Self {
        let done = within(child.wait_with_output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let done = Self { status: done.status.code(), printed: text(done.stdout), noted: text(done.stderr) };
        assert!(!format!("{done:?}").contains("s3cret"), "{done:?}");
        done
    }

    #[track_caller]
    pub(crate) fn is(&self, status: i32, printed: &str) {
        assert_eq!((self.status, &*self.printed), (Some(status), printed), "{}", self.noted);
    }

    /// It fails, and the note has these parts.
    #[track_caller]
    pub(crate) fn notes(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:?}");
        let last = self.noted.lines().last().unwrap_or_default();
        let all = last.starts_with("broker: ") && parts.iter().all(|part| last.contains(part));
        assert!(all, "no {parts:?} in: {last}");
    }
}

/// Runs a command whose standard input stays open, as that of a terminal does.
pub(crate) async fn call(url: &str, words: &[&str]) -> Done {
    let mut child = command(url, words).spawn().unwrap();
    let input = child.stdin.take();
    let done = Done::of(child).await;
    drop(input);
    done
}

/// Runs a command with a text as its standard input.
pub(crate) async fn call_with(url: &str, words: &[&str], input: &str) -> Done {
    let mut child = command(url, words).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    Done::of(child).await
}

pub(crate) fn lines(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

pub(crate) async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    within(lines.next_line()).await.unwrap()
}
