//! The methods that the calls of these tests are about, and who may call them.

use std::sync::Arc;

use broker_streams::{
    Args, Authenticated, Authenticator, Choice, Endpoint, Failure, Fault, Incoming, InputError, Model, Out,
    State, StreamsBuilder, method,
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::Server;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Model)]
pub(crate) struct SimpleData {
    pub(crate) num: i64,
}

#[derive(Clone, Debug, PartialEq, Choice)]
pub(crate) enum Mixed {
    Number(i64),
    Simple(SimpleData),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Fault)]
pub(crate) struct NoSuchThing {
    pub(crate) what: String,
}

impl std::fmt::Display for NoSuchThing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no {}", self.what)
    }
}

impl std::error::Error for NoSuchThing {}

pub(crate) fn nothing_like(what: &str) -> NoSuchThing {
    NoSuchThing { what: what.to_owned() }
}

#[derive(Deserialize)]
struct Count {
    count: i64,
}

fn ints(Args(Count { count }): Args<Count>) -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter((0..count).map(Ok))
}

fn fails_typed() -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter([Ok(1), Err(nothing_like("two").into())])
}

async fn fails_first(_out: Out<i64>) -> Result<(), Failure> {
    Err(Failure::internal("a secret of the server"))
}

async fn first(mut input: Incoming<i64>) -> Result<i64, Failure> {
    Ok(input.next().await.ok_or("no value")??)
}

async fn single_fails(_input: Incoming<i64>) -> Result<i64, Failure> {
    Err("a secret of the server".into())
}

async fn void(mut input: Incoming<i64>) -> Result<(), Failure> {
    match input.next().await {
        Some(Ok(1)) => Err(nothing_like("one").into()),
        Some(Ok(2)) => Err("a secret of the server".into()),
        _ => Ok(()),
    }
}

fn mixed(input: Incoming<Mixed>) -> impl Stream<Item = Result<Mixed, InputError>> {
    input
}

fn union(a: Incoming<i64>, b: Incoming<i64>) -> impl Stream<Item = Result<i64, InputError>> {
    stream::select(a, b)
}

/// Says how its input failed.
async fn listens(mut input: Incoming<i64>) -> Result<String, Failure> {
    let mut seen = String::new();
    while let Some(item) = input.next().await {
        match item {
            Ok(value) => seen += &format!("{value} "),
            Err(InputError::Fault(fault)) => {
                let fault: NoSuchThing = fault.read().ok_or("another fault")?.map_err(Failure::internal)?;
                seen += &format!("no {} ", fault.what);
            }
            Err(InputError::Failed) => seen += "failed",
            Err(other) => return Err(Failure::internal(other)),
        }
    }
    Ok(seen)
}

async fn waits(State(gate): State<Arc<Notify>>, out: Out<i64>) -> Result<(), Failure> {
    out.send(1).await?;
    gate.notified().await;
    out.send(2).await?;
    Ok(())
}

/// Neither takes nor gives a stream.
async fn plain_call(Args(Count { count }): Args<Count>) -> i64 {
    count + 1
}

async fn who(who: broker_streams::Who, _out: Out<i64>) {
    drop(who);
}

struct Tokens;

impl Authenticator for Tokens {
    async fn authenticate(
        &self,
        credentials: broker_streams::Credentials,
    ) -> Result<Option<Authenticated>, Failure> {
        let is_good = credentials.secret() == "good" || credentials.cookie("sid") == Some("good");
        Ok(is_good.then(|| Authenticated::new("anna")))
    }
}

fn endpoint() -> Endpoint {
    Endpoint::new("test")
        .method("ints", ints)
        .method("failsTyped", fails_typed)
        .method("failsFirst", fails_first)
        .method("first", method(first).inputs(["input"]))
        .method("singleFails", method(single_fails).inputs(["input"]))
        .method("void", method(void).inputs(["input"]))
        .method("mixed", method(mixed).inputs(["input"]))
        .method("union", method(union).inputs(["a", "b"]))
        .method("listens", method(listens).inputs(["input"]))
        .method("waits", waits)
        .method("plainCall", plain_call)
}

pub(crate) async fn server() -> (Server, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let state = Arc::clone(&gate);
    let build = move |streams: StreamsBuilder| {
        streams
            .state(state)
            .authenticator(Tokens)
            .endpoint(endpoint())
            .endpoint(Endpoint::new("closed").requires_login().method("who", who).method("waits", waits))
    };
    (Server::start(build).await, gate)
}
