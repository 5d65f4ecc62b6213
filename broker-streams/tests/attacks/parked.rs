//! Parked calls and calls on their way: they end with their credentials, and are not lost between two sockets.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use broker::{Broker, Revocation};
use broker_streams::{
    Authenticated, Authenticator, Credentials, Endpoint, Failure, Out, State, Streams, method,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::extended::open_with;
use crate::support::{Raw, Server, id, soon};

/// Whether the method still runs.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicBool>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

async fn on_task(State(Flag(flag)): State<Flag>, _out: Out<i64>) {
    let runs = Runs(flag);
    runs.0.store(true, SeqCst);
    std::future::pending::<()>().await;
}

async fn forever(_out: Out<i64>) {
    std::future::pending::<()>().await;
}

/// Keeps the thread of its socket until it is let go on.
#[derive(Clone)]
struct Blocker(Arc<Mutex<mpsc::Receiver<()>>>);

async fn blocks(State(Blocker(blocker)): State<Blocker>, out: Out<i64>) -> Result<(), Failure> {
    out.send(1).await?;
    // The value has to be written first.
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = blocker.lock().unwrap().recv_timeout(Duration::from_secs(15));
    std::future::pending::<()>().await;
    Ok(())
}

/// `user/key`, valid for a minute; `brief` for half a second; `held` waits until it is let go on.
#[derive(Clone)]
struct Tokens {
    asked: Arc<AtomicUsize>,
    /// Those of them that are being answered.
    waits: Arc<()>,
    go_on: Arc<Semaphore>,
}

impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        let Some((user, key)) = credentials.secret().split_once('/') else { return Ok(None) };
        let until = SystemTime::now() + Duration::from_millis(if key == "brief" { 500 } else { 60_000 });
        if key == "held" {
            let _waits = Arc::clone(&self.waits);
            self.asked.fetch_add(1, SeqCst);
            self.go_on.acquire().await.map_err(Failure::internal)?.forget();
        }
        Ok(Some(Authenticated::new(user).with_auth_id(key).until(until)))
    }
}

struct Started {
    broker: Broker,
    server: Server,
    flag: Flag,
    tokens: Tokens,
    let_go: mpsc::Sender<()>,
}

async fn started() -> Started {
    let broker = broker::connect("memory:").await.unwrap();
    let (let_go, blocker) = mpsc::channel();
    let tokens = Tokens { asked: Arc::default(), waits: Arc::default(), go_on: Arc::new(Semaphore::new(0)) };
    let flag = Flag::default();
    let private = Endpoint::new("private")
        .requires_login()
        .method("forever", method(forever).resumable())
        .method("onTask", method(on_task).resumable().on_task());
    let public =
        Endpoint::new("test").method("forever", method(forever).resumable()).method("blocks", blocks);
    let streams = Streams::builder(broker.clone())
        .authenticator(tokens.clone())
        .state(flag.clone())
        .state(Blocker(Arc::new(Mutex::new(blocker))))
        .endpoint(private)
        .endpoint(public);
    let server = Server::serve(streams.build().unwrap(), "127.0.0.1:0").await;
    Started { broker, server, flag, tokens, let_go }
}

/// Opens a call of a user that may be resumed, and gives its token.
async fn opened(raw: &mut Raw, method: &str, auth: &str) -> String {
    let mut frame = open_with(1, method, &[], &json!({"r": true}));
    frame["data"]["en"] = json!("private");
    frame["data"]["auth"] = json!(format!("Bearer {auth}"));
    raw.json(&frame).await;
    raw.next().await["data"]["x"]["t"].as_str().expect("a token").to_owned()
}

async fn until(what: &str, condition: impl Fn() -> bool + Send + Sync) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn rsm(calls: &[(u32, &str)], auth: Option<&str>) -> Value {
    let calls: Vec<_> = calls.iter().map(|(number, token)| json!({"cid": id(*number), "t": token})).collect();
    let mut data = json!({"calls": calls});
    if let Some(auth) = auth {
        data["auth"] = json!(format!("Bearer {auth}"));
    }
    json!({"type": "rsm", "data": data})
}

async fn resumed(raw: &mut Raw) -> Value {
    let frame = raw.next().await;
    assert_eq!(frame["type"], "rsr", "{frame}");
    frame["data"]["calls"].clone()
}

#[tokio::test]
async fn a_parked_call_ends_when_newer_credentials_are_revoked() {
    let Started { broker, server, flag, .. } = started().await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    opened(&mut raw, "onTask", "ada/first").await;
    raw.json(&json!({"type": "auth", "data": {"auth": "Bearer ada/second"}})).await;
    assert_eq!(raw.next().await["data"]["res"], "success");
    drop(raw);
    until("the call is parked", || server.streams.parked() == 1).await;
    assert!(flag.0.load(SeqCst));
    broker.revoke(Revocation::auth_id("ada", "second")).await.unwrap();
    until("the call ends", || server.streams.parked() == 0 && !flag.0.load(SeqCst)).await;
}

#[tokio::test]
async fn a_parked_call_ends_when_its_credentials_expire() {
    let Started { server, flag, .. } = started().await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    opened(&mut raw, "onTask", "ada/brief").await;
    drop(raw);
    until("the call is parked", || server.streams.parked() == 1).await;
    until("the call ends", || server.streams.parked() == 0 && !flag.0.load(SeqCst)).await;
}

#[tokio::test]
async fn credentials_that_are_revoked_while_they_are_looked_at_resume_nothing() {
    let Started { broker, server, tokens, .. } = started().await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    let token = opened(&mut raw, "forever", "ada/first").await;
    drop(raw);
    until("the call is parked", || server.streams.parked() == 1).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&rsm(&[(1, &token)], Some("ada/held"))).await;
    until("the authenticator was asked", || tokens.asked.load(SeqCst) == 1).await;
    broker.revoke(Revocation::auth_id("ada", "held")).await.unwrap();
    tokens.go_on.add_permits(1);
    assert_eq!(resumed(&mut raw).await[0]["ok"], false);
}

#[tokio::test]
async fn a_resumed_call_ends_with_the_credentials_that_resumed_it() {
    let Started { broker, server, .. } = started().await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    let token = opened(&mut raw, "forever", "ada/first").await;
    drop(raw);
    until("the call is parked", || server.streams.parked() == 1).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&rsm(&[(1, &token)], Some("ada/second"))).await;
    assert_eq!(resumed(&mut raw).await[0]["ok"], true);
    broker.revoke(Revocation::auth_id("ada", "second")).await.unwrap();
    raw.text(r#"{"type":"ping"}"#).await;
    let frame = raw.next().await;
    assert_eq!(frame["data"]["why"]["c"], "revoked", "{frame}");
}

#[tokio::test]
async fn a_call_that_is_named_twice_is_resumed_once() {
    let Started { server, .. } = started().await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    let token = opened(&mut raw, "forever", "ada/first").await;
    drop(raw);
    until("the call is parked", || server.streams.parked() == 1).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&rsm(&[(1, &token), (1, &token)], Some("ada/first"))).await;
    let calls = resumed(&mut raw).await;
    assert_eq!((&calls[0]["ok"], &calls[1]["ok"]), (&json!(true), &json!(false)));
    raw.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_is_not_lost_with_the_socket_that_was_about_to_resume_it() {
    let Started { server, let_go, .. } = started().await;
    let (mut lost, _) = Raw::extended(&server.url).await;
    let token = opened(&mut lost, "forever", "ada/first").await;
    drop(lost);
    until("the call is parked", || server.streams.parked() == 1).await;
    // A second call, whose socket does not let go of it at once.
    let (mut stuck, _) = Raw::extended(&server.url).await;
    stuck.json(&open_with(2, "forever", &[], &json!({"r": true}))).await;
    let other = stuck.next().await["data"]["x"]["t"].as_str().unwrap().to_owned();
    stuck.json(&open_with(3, "blocks", &[], &json!({}))).await;
    assert_eq!(stuck.frames(2).await, ["success", "int 1"]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&rsm(&[(1, &token), (2, &other)], Some("ada/first"))).await;
    until("the first call is taken", || server.streams.parked() == 0).await;
    // The server loses it before it has answered.
    let sockets = server.streams.sockets();
    drop(raw);
    until("the socket is lost", || server.streams.sockets() < sockets).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&rsm(&[(1, &token)], Some("ada/first"))).await;
    let_go.send(()).unwrap();
    assert_eq!(resumed(&mut raw).await[0]["ok"], true);
}

#[tokio::test]
async fn a_resumption_that_waits_for_its_authenticator_does_not_outlive_the_server() {
    let Started { server, tokens, .. } = started().await;
    let before = Arc::strong_count(&tokens.waits);
    let (mut raw, _) = Raw::extended(&server.url).await;
    let token = opened(&mut raw, "forever", "ada/first").await;
    drop(raw);
    until("the call is parked", || server.streams.parked() == 1).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    raw.json(&rsm(&[(1, &token)], Some("ada/held"))).await;
    until("the authenticator was asked", || tokens.asked.load(SeqCst) == 1).await;
    tokio::join!(server.streams.close(), raw.closed());
    assert_eq!(Arc::strong_count(&tokens.waits), before, "what asks it has outlived the server");
}
