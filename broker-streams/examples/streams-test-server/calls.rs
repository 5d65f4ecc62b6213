//! Methods of every shape, open to all, to users, and to users with a scope.

use std::{fmt, future::pending};

use broker_streams::{
    Args, Call, Choice, Endpoint, Failure, Fault, Incoming, InputError, Model, Out, State, Who, method,
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};

use crate::{Noted, Notes, long, secret};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Model)]
pub(crate) struct SimpleData {
    num: i64,
}

#[derive(Clone, Debug, Choice)]
enum Mixed {
    Number(i64),
    Text(String),
    Truth(bool),
    Simple(SimpleData),
}

#[derive(Debug, Serialize, Deserialize, Fault)]
struct NoSuchThing {
    what: String,
}

impl fmt::Display for NoSuchThing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {}", self.what)
    }
}

impl std::error::Error for NoSuchThing {}

fn no(what: &str) -> NoSuchThing {
    NoSuchThing { what: what.to_owned() }
}

/// What everybody may call.
pub(crate) fn open() -> Endpoint {
    Endpoint::new("test")
        .method("ints", ints)
        .method("same", same)
        .method("failsTyped", fails_typed)
        .method("failsFirst", fails_first)
        .method("first", method(first).inputs(["input"]))
        .method("singleFails", method(single_fails).inputs(["input"]))
        .method("void", method(void).inputs(["input"]))
        .method("echo", method(echo).inputs(["input"]))
        .method("union", method(union).inputs(["a", "b"]))
        .method("takes", method(takes).inputs(["input"]))
        .method("listens", method(listens).inputs(["input"]))
        .method("waits", waits)
}

/// What only users may call.
pub(crate) fn of_users() -> [Endpoint; 2] {
    [
        with_users(Endpoint::new("private").requires_login()),
        with_users(Endpoint::new("admin").requires_scopes(["admin"])),
    ]
}

fn with_users(endpoint: Endpoint) -> Endpoint {
    endpoint
        .method("who", who)
        .method("waits", waits)
        .method("echo", method(long::echo).inputs(["input"]).resumable())
}

#[derive(Deserialize)]
struct Count {
    count: i64,
}

fn ints(Args(Count { count }): Args<Count>) -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter((0..count).map(Ok))
}

/// Neither takes nor gives a stream.
async fn same(Args(Count { count }): Args<Count>) -> i64 {
    count
}

fn fails_typed() -> impl Stream<Item = Result<i64, Failure>> {
    stream::iter([Ok(1), Err(no("two").into())])
}

async fn fails_first(_out: Out<i64>) -> Result<(), Failure> {
    Err(secret())
}

async fn first(mut input: Incoming<i64>) -> Result<i64, Failure> {
    Ok(input.next().await.ok_or("no value")??)
}

async fn single_fails(_input: Incoming<i64>) -> Result<i64, Failure> {
    Err(secret())
}

async fn void(mut input: Incoming<i64>) -> Result<(), Failure> {
    match input.next().await {
        Some(Ok(1)) => Err(no("one").into()),
        Some(Ok(2)) => Err(secret()),
        _ => Ok(()),
    }
}

fn echo(input: Incoming<Mixed>) -> impl Stream<Item = Result<Mixed, InputError>> {
    input
}

fn union(a: Incoming<i64>, b: Incoming<i64>) -> impl Stream<Item = Result<i64, InputError>> {
    stream::select(a, b)
}

/// Takes so many values, wants no more, and waits for what never comes.
async fn takes(
    Args(Count { count }): Args<Count>,
    mut input: Incoming<i64>,
    out: Out<i64>,
) -> Result<(), Failure> {
    for _ in 0..count {
        out.send(input.next().await.ok_or("no value")??).await?;
    }
    drop(input);
    out.send(-1).await?;
    pending().await
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

/// Sends one value, and then waits for its end. Notes when that was.
async fn waits(call: Call, State(notes): State<Notes>, out: Out<i64>) -> Result<(), Failure> {
    let _dropped = Noted(notes.clone(), "waits dropped".to_owned());
    call.session().on_close(async move |_| notes.add("waits session over"))?;
    out.send(1).await?;
    pending().await
}

/// Who calls, and by which authentication.
async fn who(Who(who): Who, out: Out<String>) -> Result<(), Failure> {
    Ok(out.send(format!("{}/{}", who.user(), who.auth_id().unwrap_or_default())).await?)
}
