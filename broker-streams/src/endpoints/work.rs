//! Work: the functions of the endpoints, which run one after the other for one connection.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use broker_model::Failure;
use futures_util::FutureExt;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{
    Any, Peer,
    erased::Opened,
    inbox::{Inbox, Item},
    shared::Shared,
};
use crate::{SendError, socket::link::Ending};

/// What a connection has of an endpoint.
pub(super) enum State {
    /// The user may not use it, or has just begun to.
    Unopened,
    Open(Box<dyn Opened>),
    /// It could not be opened.
    Failed,
}

/// Signs the client in, opens the endpoints, and handles what arrives until nothing comes any more, or the user may not be
/// served. Says how the connection ends.
pub(super) async fn work(
    shared: &Arc<Shared>,
    key: Option<String>,
    states: &Mutex<Vec<State>>,
    inbox: &Inbox,
) -> Ending {
    let states = &mut *states.lock().await;
    let mut handling = Box::pin(async {
        shared.authenticate(key.as_deref()).await;
        drop(key);
        for place in 0..states.len() {
            open(shared, states, place).await;
        }
        let mut number = 0_u64;
        while let Some(item) = inbox.next().await {
            match item {
                Item::Authenticate(key) => shared.authenticate(key.as_deref()).await,
                Item::Message(place, message) => {
                    number += 1;
                    handle(shared, states, place, number, message).await;
                }
                Item::Bad(why) => return Ending::Close(CloseCode::Policy, why),
            }
        }
        Ending::ClosedByClient
    });
    let ending = tokio::select! {
        biased;
        ending = shared.over() => ending,
        ending = handling.as_mut() => ending,
    };
    dropped(handling);
    ending
}

/// Drops what an endpoint holds, which must not take the end from the others.
pub(super) fn dropped(held: impl Sized) {
    if catch_unwind(AssertUnwindSafe(|| drop(held))).is_err() {
        tracing::error!("what a streaming endpoint held panicked when it was dropped");
    }
}

/// Opens an endpoint, if the user may use it.
async fn open(shared: &Arc<Shared>, states: &mut [State], place: usize) {
    let entry = &shared.server.streaming[place];
    if !shared.may_use(&entry.access) {
        return;
    }
    let peer = Peer::new(Arc::clone(shared), place);
    let opening = Arc::clone(&entry.endpoint).open(peer.clone());
    states[place] = match caught(opening).await {
        Ok(opened) => State::Open(opened),
        Err(failure) => {
            report(&peer, &failure, None);
            State::Failed
        }
    };
}

/// Handles a message, unless the user may not use its endpoint.
async fn handle(shared: &Arc<Shared>, states: &mut [State], place: usize, number: u64, message: Any) {
    if !shared.may_use(&shared.server.streaming[place].access) {
        return;
    }
    if matches!(states[place], State::Unopened) {
        open(shared, states, place).await;
    }
    let State::Open(opened) = &mut states[place] else { return };
    if let Err(failure) = caught(async { opened.handle(message).await }).await {
        report(&Peer::new(Arc::clone(shared), place), &failure, Some(number));
    }
}

/// Closes what is open, one after the other, until the time is over; then the rest is dropped.
pub(super) async fn close(states: Vec<State>, time: Duration) {
    let until = Instant::now() + time;
    for state in states {
        let State::Open(opened) = state else { continue };
        // Each by itself: what is dropped when the time is over may panic, too.
        let closing = async { timeout_at(until, opened.close()).await };
        match AssertUnwindSafe(closing).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::warn!("a streaming endpoint was not closed in time: it is dropped"),
            Err(_) => tracing::error!("a streaming endpoint panicked when a connection was closed"),
        }
    }
}

async fn caught<T>(work: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| Err(Failure::internal("the endpoint panicked")))
}

fn report(peer: &Peer, failure: &Failure, message: Option<u64>) {
    let endpoint = peer.endpoint();
    let lost = failure.source().and_then(|error| error.downcast_ref::<SendError>());
    if matches!(lost, Some(SendError::Closed)) {
        tracing::debug!(%endpoint, message, "a streaming endpoint could not send: the connection is over");
        return;
    }
    tracing::error!(%endpoint, message, %failure, "a streaming endpoint failed");
    let Some(hook) = &peer.server().on_stream_failure else { return };
    if catch_unwind(AssertUnwindSafe(|| hook(peer, failure))).is_err() {
        tracing::error!("the hook for failures panicked");
    }
}
