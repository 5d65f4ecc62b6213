//! Methods whose calls live long: they are resumed, go on by a cursor, begin anew, and have gaps.

use broker_streams::{
    Args, Call, Cursor, Endpoint, Failure, Fault, Incoming, InputError, Model, Out, method,
};
use futures_util::Stream;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Model)]
pub(crate) struct Numbered {
    pub(crate) number: i64,
}

/// The channel that `relay` listens to.
pub(crate) const CHANNEL: &str = "numbers";

#[derive(Debug, Serialize, Deserialize, Fault)]
struct OutOfOrder {
    expected: i64,
    found: i64,
}

impl std::fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in place of {}", self.found, self.expected)
    }
}

impl std::error::Error for OutOfOrder {}

pub(crate) fn endpoint(name: &str) -> Endpoint {
    Endpoint::new(name)
        .method("echo", method(echo).inputs(["input"]).resumable())
        .method("echoAnew", method(echo).inputs(["input"]))
        .method("count", method(count).inputs(["input"]).resumable())
        .method("numbers", method(numbers).resumable())
        .method("numbersByCursor", by_cursor)
        .method("resumableByCursor", method(by_cursor).resumable())
        .method("numbersAnew", numbers)
        .method("relay", method(relay).resumable())
}

pub(crate) fn echo(input: Incoming<i64>) -> impl Stream<Item = Result<i64, InputError>> {
    input
}

/// Counts what comes in, which must be 0, 1, 2 and so on.
async fn count(mut input: Incoming<i64>) -> Result<i64, Failure> {
    let mut expected = 0;
    while let Some(value) = input.next().await {
        let found = value?;
        if found != expected {
            return Err(OutOfOrder { expected, found }.into());
        }
        expected += 1;
    }
    Ok(expected)
}

#[derive(Deserialize)]
struct Count {
    count: i64,
}

async fn numbers(Args(Count { count }): Args<Count>, out: Out<i64>) -> Result<(), Failure> {
    for number in 0..count {
        out.send(number).await?;
    }
    Ok(())
}

async fn by_cursor(
    Args(Count { count }): Args<Count>,
    Cursor(cursor): Cursor,
    out: Out<i64>,
) -> Result<(), Failure> {
    let next = cursor.map_or(Ok(0), |cursor| cursor.parse::<i64>()).map_err(Failure::internal)?;
    for number in next..count {
        out.send_at(number, number + 1).await?;
    }
    Ok(())
}

/// What is posted from now on. The first value says that it listens.
async fn relay(call: Call, out: Out<Numbered>) -> Result<(), Failure> {
    let posted = call.session().create_stream::<Numbered>(CHANNEL).await?;
    out.send(Numbered { number: -1 }).await?;
    out.relay(posted).await
}
