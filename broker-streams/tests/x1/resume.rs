//! Calls that are resumed on another socket.

use std::{sync::Arc, time::Duration};

use broker::Revocation;
use broker_streams::{
    Authenticated, Authenticator, Credentials, Endpoint, Failure, Incoming, Limits, Out, State, Streams,
    StreamsBuilder, method,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::extended::open_with;
use crate::support::{Raw, Server, id, short, soon, value};

/// Sends a number for each permit, and ends after 20.
async fn counts(State(permits): State<Arc<Semaphore>>, out: Out<u32>) -> Result<(), Failure> {
    for number in 0..20 {
        permits.acquire().await.map_err(Failure::internal)?.forget();
        out.send(number).await?;
    }
    Ok(())
}

async fn echo(mut input: Incoming<u32>, out: Out<u32>) -> Result<(), Failure> {
    while let Some(number) = input.next().await {
        out.send(number?).await?;
    }
    Ok(())
}

async fn forever(_out: Out<u32>) {
    std::future::pending::<()>().await;
}

struct Names;

impl Authenticator for Names {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        Ok(Some(Authenticated::new(credentials.secret())))
    }
}

fn build(streams: StreamsBuilder, permits: &Arc<Semaphore>) -> StreamsBuilder {
    let test = Endpoint::new("test")
        .method("counts", method(counts).resumable())
        .method("echo", method(echo).inputs(["input"]).resumable())
        .method("mortal", forever);
    streams
        .state(Arc::clone(permits))
        .authenticator(Names)
        .endpoint(test)
        .endpoint(Endpoint::new("private").requires_login().method("forever", method(forever).resumable()))
}

async fn started(permits: usize) -> (Server, Raw, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(permits));
    let server = Server::start(|streams| build(streams, &permits)).await;
    let (raw, _) = Raw::extended(&server.url).await;
    (server, raw, permits)
}

/// Opens a call that may be resumed, and gives its token.
async fn opened(raw: &mut Raw, method: &str, inputs: &[&str]) -> String {
    raw.json(&open_with(1, method, inputs, &json!({"r": true}))).await;
    let opened = raw.next().await;
    opened["data"]["x"]["t"].as_str().expect("a token").to_owned()
}

/// Cuts a socket as a network does: without a word.
async fn cut(server: &Server, raw: Raw, parked: usize) {
    drop(raw);
    soon("the call is parked", async {
        while server.streams.parked() != parked {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn resume(raw: &mut Raw, token: &str, got: u64, auth: Option<&str>) -> Value {
    let mut data = json!({"calls": [{"cid": id(1), "t": token, "got": {"": got}}]});
    if let Some(auth) = auth {
        data["auth"] = json!(auth);
    }
    raw.json(&json!({"type": "rsm", "data": data})).await;
    loop {
        let frame = raw.next().await;
        if frame["type"] == "rsr" {
            return frame["data"]["calls"][0].clone();
        }
    }
}

async fn again(server: &Server, token: &str, got: u64) -> (Raw, Value) {
    let (mut raw, _) = Raw::extended(&server.url).await;
    let answer = resume(&mut raw, token, got, None).await;
    (raw, answer)
}

#[tokio::test]
async fn a_call_goes_on_behind_what_the_client_has() {
    let (server, mut raw, permits) = started(5).await;
    let token = opened(&mut raw, "counts", &[]).await;
    assert_eq!(raw.frames(5).await, ["int 0", "int 1", "int 2", "int 3", "int 4"]);
    cut(&server, raw, 1).await;
    // It has received two of five.
    let (mut raw, answer) = again(&server, &token, 2).await;
    assert_eq!(answer["ok"], true);
    permits.add_permits(15);
    let expected: Vec<String> = (2..20).map(|number| format!("int {number}")).collect();
    assert_eq!(raw.frames(18).await, expected);
    assert_eq!(raw.frames(1).await, ["close done"]);
    assert_eq!(server.streams.parked(), 0);
}

#[tokio::test]
async fn a_call_is_resumed_before_its_first_value_and_more_than_once() {
    let (server, mut raw, permits) = started(0).await;
    let mut token = opened(&mut raw, "counts", &[]).await;
    for round in 0..20 {
        cut(&server, raw, 1).await;
        let answer;
        (raw, answer) = again(&server, &token, round).await;
        assert_eq!(answer["ok"], true, "round {round}");
        token = answer["t"].as_str().unwrap().to_owned();
        permits.add_permits(1);
        assert_eq!(short(&raw.next().await), format!("int {round}"));
    }
    assert_eq!(raw.frames(1).await, ["close done"]);
}

#[tokio::test]
async fn a_token_is_good_however_many_answers_are_lost_and_so_is_each_that_was_answered() {
    let (server, mut raw, permits) = started(0).await;
    let token = opened(&mut raw, "counts", &[]).await;
    let mut answers = Vec::new();
    // The client says nothing of the call, as if it had none of the answers.
    for round in 0..20 {
        cut(&server, raw, 1).await;
        let answer;
        (raw, answer) = again(&server, &token, 0).await;
        assert_eq!(answer["ok"], true, "round {round}");
        answers.push(answer["t"].as_str().unwrap().to_owned());
    }
    // An older socket may have been read last: then the client has an answer that is not the latest.
    cut(&server, raw, 1).await;
    let (mut raw, answer) = again(&server, &answers[18], 0).await;
    assert_eq!(answer["ok"], true);
    permits.add_permits(1);
    assert_eq!(raw.frames(1).await, ["int 0"]);
    raw.json(&json!({"type": "flow", "data": {"cid": id(1), "got": 1}})).await;
    raw.silent().await;
    // Now it is known which one the client has.
    let latest = answer["t"].as_str().unwrap();
    cut(&server, raw, 1).await;
    for used in [&token, &answers[18], &answers[19]] {
        assert_eq!(again(&server, used, 1).await.1["ok"], false);
    }
    assert_eq!(again(&server, latest, 1).await.1["ok"], true);
}

#[tokio::test]
async fn the_end_of_a_call_waits_for_its_client() {
    let (server, mut raw, _permits) = started(20).await;
    let token = opened(&mut raw, "counts", &[]).await;
    raw.frames(21).await;
    // Nothing of it was consumed.
    cut(&server, raw, 1).await;
    let (mut raw, answer) = again(&server, &token, 19).await;
    assert_eq!(answer["ok"], true);
    assert_eq!(raw.frames(2).await, ["int 19", "close done"]);
    raw.flow(1, 21).await;
    raw.silent().await;
    drop(raw);
    let (_raw, answer) = again(&server, answer["t"].as_str().unwrap(), 21).await;
    assert_eq!(answer["ok"], false, "all of it was consumed");
}

#[tokio::test]
async fn inputs_go_on_behind_what_the_server_has() {
    let (server, mut raw, _permits) = started(0).await;
    let token = opened(&mut raw, "echo", &["input"]).await;
    for number in 0..3 {
        raw.json(&value(1, "echo", "input", "int", &json!(number))).await;
        assert_eq!(short(&raw.next().await), format!("int {number}"));
    }
    cut(&server, raw, 1).await;
    let (mut raw, answer) = again(&server, &token, 3).await;
    assert_eq!(answer["got"], json!({"input": 3}));
    let flow = raw.next().await;
    assert_eq!(flow["data"], json!({"cid": id(1), "p": "input", "got": 3}));
    raw.json(&value(1, "echo", "input", "int", &json!(7))).await;
    assert_eq!(raw.frames(1).await, ["int 7"]);
}

#[tokio::test]
async fn a_newcomer_wins_over_a_socket_that_looks_alive() {
    let (server, mut old, permits) = started(1).await;
    let token = opened(&mut old, "counts", &[]).await;
    old.frames(1).await;
    let (mut raw, answer) = again(&server, &token, 1).await;
    assert_eq!(answer["ok"], true);
    permits.add_permits(1);
    assert_eq!(raw.frames(1).await, ["int 1"]);
    assert_eq!(old.closed().await, None, "cut without a word");
}

#[tokio::test]
async fn a_token_is_good_for_nothing_once_the_resumed_call_has_received_a_frame() {
    let (server, mut raw, _permits) = started(0).await;
    let token = opened(&mut raw, "counts", &[]).await;
    cut(&server, raw, 1).await;
    let (mut raw, answer) = again(&server, &token, 0).await;
    assert_eq!(answer["ok"], true);
    // A ping may have crossed the answer; what is said of the call has not.
    raw.silent().await;
    raw.flow(1, 0).await;
    raw.silent().await;
    let (_other, refused) = again(&server, &token, 0).await;
    assert_eq!(refused["ok"], false);
    raw.silent().await;
}

#[tokio::test]
async fn other_users_and_guessed_tokens_are_refused() {
    let (server, mut raw, _permits) = started(0).await;
    let mut open = open_with(1, "forever", &[], &json!({"r": true}));
    open["data"]["en"] = json!("private");
    open["data"]["auth"] = json!("Bearer ada");
    raw.json(&open).await;
    let token = raw.next().await["data"]["x"]["t"].as_str().unwrap().to_owned();
    cut(&server, raw, 1).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    for (token, auth) in [
        (&*token, None),
        (&*token, Some("Bearer bob")),
        ("0123456789abcdef0123456789abcdef", Some("Bearer ada")),
    ] {
        assert_eq!(resume(&mut raw, token, 0, auth).await["ok"], false, "{auth:?}");
    }
    assert_eq!(resume(&mut raw, &token, 0, Some("Bearer ada")).await["ok"], true);
}

#[tokio::test]
async fn a_parked_call_is_revoked_as_any_other() {
    let broker = broker::connect("memory:").await.unwrap();
    let streams = build(Streams::builder(broker.clone()), &Arc::new(Semaphore::new(0))).build().unwrap();
    let server = Server::serve(streams, "127.0.0.1:0").await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    let mut open = open_with(1, "forever", &[], &json!({"r": true}));
    open["data"]["en"] = json!("private");
    open["data"]["auth"] = json!("Bearer ada");
    raw.json(&open).await;
    let token = raw.next().await["data"]["x"]["t"].as_str().unwrap().to_owned();
    cut(&server, raw, 1).await;
    broker.revoke(Revocation::user("ada")).await.unwrap();
    soon("the call ends", async {
        while server.streams.parked() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    assert_eq!(resume(&mut raw, &token, 0, Some("Bearer ada")).await["ok"], false);
}

#[tokio::test]
async fn a_call_that_is_not_resumed_ends() {
    let mut limits = Limits::default();
    limits.park = Duration::from_millis(500);
    let server = Server::start(|streams| build(streams, &Arc::new(Semaphore::new(0))).limits(limits)).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    let token = opened(&mut raw, "counts", &[]).await;
    cut(&server, raw, 1).await;
    soon("the end", async {
        while server.streams.parked() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (_raw, answer) = again(&server, &token, 0).await;
    assert_eq!(answer["ok"], false);
}

#[tokio::test]
async fn only_methods_that_allow_it_are_resumed() {
    let (_server, mut raw, _permits) = started(0).await;
    raw.json(&open_with(1, "mortal", &[], &json!({"r": true}))).await;
    assert_eq!(raw.next().await["data"].get("x"), None);
}
