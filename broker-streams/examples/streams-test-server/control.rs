//! The endpoint `control`: by which a test makes the server do things, and looks at it.

use std::time::Duration;

use broker::{Broker, Revocation, Scope};
use broker_streams::{Args, Call, Endpoint, Failure, State};
use serde::Deserialize;

use crate::{
    Itself, Notes,
    long::{CHANNEL, Numbered},
};

pub(crate) fn endpoint() -> Endpoint {
    Endpoint::new("control")
        .method("revoke", revoke)
        .method("drain", drain)
        .method("post", post)
        .method("notes", notes)
        .method("sockets", sockets)
        .method("parked", parked)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Revoke {
    user: String,
    auth_id: Option<String>,
    scope: Option<String>,
}

/// Takes back what a user has: one authentication, one scope, or all.
async fn revoke(Args(what): Args<Revoke>, State(broker): State<Broker>) -> Result<(), Failure> {
    let revocation = match (what.auth_id, what.scope) {
        (Some(id), _) => Revocation::auth_id(what.user, id),
        (None, Some(scope)) => Revocation::scopes(what.user, [scope]),
        (None, None) => Revocation::user(what.user),
    };
    broker.revoke(revocation).await?;
    Ok(())
}

#[derive(Deserialize)]
struct Within {
    ms: u64,
}

/// Begins to stop the server. The process lives on, and refuses sockets.
async fn drain(Args(Within { ms }): Args<Within>, State(itself): State<Itself>) {
    tokio::spawn(async move {
        if let Some(streams) = itself.0.get() {
            streams.drain(Duration::from_millis(ms)).await;
        }
    });
}

#[derive(Deserialize)]
struct Range {
    from: i64,
    to: i64,
}

/// Posts these numbers to those who listen.
async fn post(call: Call, Args(Range { from, to }): Args<Range>) -> Result<(), Failure> {
    for number in from..to {
        call.session().post_message(CHANNEL, Numbered { number }, Scope::Local).await?;
    }
    Ok(())
}

async fn notes(State(notes): State<Notes>) -> Vec<String> {
    notes.all()
}

async fn sockets(State(itself): State<Itself>) -> Option<i64> {
    i64::try_from(itself.0.get()?.sockets()).ok()
}

async fn parked(State(itself): State<Itself>) -> Option<i64> {
    i64::try_from(itself.0.get()?.parked()).ok()
}
