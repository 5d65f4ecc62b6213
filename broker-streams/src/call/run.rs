//! Running: one call from its open to its end.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use broker_core::{CloseReason as SessionEnd, Session};
use broker_model::Failure;
use broker_streams_wire::{Cause, CloseReason, OpenResult, OpenedExtra, Why, write_opened};
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::{
    Call,
    open::{Opened, Request, is_transient, later, open},
    state::{CallState, Closing, End},
};
use crate::{
    auth::Head,
    method::handler::Running,
    park::{self, Ticket},
    trace,
};

/// How a call has ended.
enum Ended {
    /// Its method has returned.
    Returned(Result<(), Failure>),
    /// It was ended from outside.
    By(End),
}

/// Why a call was not opened.
enum NotOpened {
    Refused(OpenResult),
    Ended(End),
}

/// So much of a name is shown in the log.
const SHOWN: usize = 64;

fn shown(name: &str) -> &str {
    name.char_indices().nth(SHOWN).map_or(name, |(end, _)| &name[..end])
}

/// Opens a call, runs it, and writes its end.
pub(crate) fn run(
    state: Arc<CallState>,
    request: Request,
    head: Arc<Head>,
    life: Option<Duration>,
) -> park::Running {
    let (id, name) = (state.id, &state.name);
    // Names that do not exist come from the client: shortened and escaped.
    let (endpoint, method) = (shown(&name.endpoint), shown(&name.method));
    let span = tracing::info_span!("call", ?endpoint, ?method, cid = %id);
    trace::set_parent(&span, request.traceparent.as_deref());
    // In a box, and in no further `async` block, which would have room for it twice: each open call holds this.
    let running = AssertUnwindSafe(call(Arc::clone(&state), Box::new(request), head, life)).catch_unwind();
    let future = running.map(move |ended| {
        // What a user's type does when it is shown or dropped must not end the other calls of the socket.
        if ended.is_err() {
            tracing::error!("something of a call panicked outside of its method");
            let why = Some(Why::new(Cause::Internal));
            state.close(&Closing { reason: CloseReason::Error, fault: None, echo: true, why });
            state.session.get().into_iter().for_each(Session::close);
        }
    });
    park::Running { id, future: Box::pin(future.instrument(span)) }
}

async fn call(state: Arc<CallState>, request: Box<Request>, head: Arc<Head>, life: Option<Duration>) {
    let (state, began) = (&state, Instant::now());
    // In a box, so that a call that runs does not keep the room.
    let opened = Box::pin(opened(state, &request, &head)).await;
    drop((request, head));
    let Opened { call, running, until, on_task, resumable, held: _held } = match opened {
        Ok(opened) => opened,
        Err(NotOpened::Refused(refused)) => return answer(state, refused),
        Err(NotOpened::Ended(end)) => return not_opened(state, end),
    };
    state.set_timers(began, life, until);
    let _ = state.session.set(call.session().clone());
    if resumable && state.resumable {
        let outbox = Arc::clone(&state.lock().outbox);
        Ticket::new(state, &outbox).map(|ticket| state.ticket.set(ticket));
    }
    state.opened();
    answer(state, OpenResult::Success);
    let mut running = if on_task { on_a_task(state, running) } else { running };
    let ended = until_the_end(state, call.session(), &mut running).await;
    finish(state, &call, &ended);
    // After the frames of the end: what the method held has nothing more to say.
    if catch_unwind(AssertUnwindSafe(|| drop(running))).is_err() {
        tracing::error!("what a method held panicked when it was dropped");
    }
    call.session().close();
}

/// Checks the open, unless the call is ended meanwhile. A panic of what the parameters are made of refuses the call.
async fn opened(state: &Arc<CallState>, request: &Request, head: &Arc<Head>) -> Result<Opened, NotOpened> {
    let opening = AssertUnwindSafe(open(state, request, head)).catch_unwind();
    tokio::select! {
        biased;
        end = poll_fn(|cx| state.poll_end(cx)) => Err(NotOpened::Ended(end)),
        opened = opening => match opened {
            Ok(opened) => opened.map_err(NotOpened::Refused),
            Err(_) => {
                tracing::error!("a parameter of the method panicked when it was made");
                Err(NotOpened::Refused(OpenResult::InvalidArguments))
            }
        },
    }
}

/// The answer to an open.
fn answer(state: &CallState, result: OpenResult) {
    let changing = state.lock();
    let windows =
        || changing.inputs.iter().map(|input| (input.name().to_owned(), state.server.limits.window));
    let token = state.ticket.get().and_then(Ticket::token);
    let says = changing.is_x1() && result == OpenResult::Success;
    let extra = (says && (token.is_some() || !changing.inputs.is_empty()))
        .then(|| OpenedExtra { windows: windows().collect(), token });
    let frame = write_opened(&state.target(), result, extra.as_ref());
    state.server.meter.opened(result.as_str());
    changing.outbox.value(frame.into());
}

/// The frames of a call that was ended before it was open. There is no word in `omsr` for its reasons.
fn not_opened(state: &CallState, end: End) {
    if let End::Why(why) = end {
        state.opened();
        answer(state, OpenResult::Success);
        state.server.meter.closed(why.cause.as_str());
        state.close(&Closing { reason: CloseReason::Error, fault: None, echo: true, why: Some(why) });
    }
}

async fn until_the_end(state: &CallState, session: &Session, running: &mut Running) -> Ended {
    tokio::select! {
        biased;
        end = poll_fn(|cx| state.poll_end(cx)) => Ended::By(end),
        cause = session_over(session) => Ended::By(End::Why(Why::new(cause))),
        returned = AssertUnwindSafe(running).catch_unwind() => {
            Ended::Returned(returned.unwrap_or_else(|_| Err(Failure::internal("the method panicked"))))
        }
    }
}

/// Why the session has ended, if it was not by the method itself.
pub(crate) async fn session_over(session: &Session) -> Cause {
    match cause(&session.closed().await) {
        Some(cause) => cause,
        None => std::future::pending().await,
    }
}

/// What a client is told of why a session has ended, if it was from outside.
pub(crate) fn cause(reason: &SessionEnd) -> Option<Cause> {
    match reason {
        SessionEnd::AuthenticationRevoked(_) => Some(Cause::Revoked),
        SessionEnd::AuthenticationUncertain(_) => Some(Cause::Doubt),
        SessionEnd::BrokerClosed => Some(Cause::Draining),
        _ => None,
    }
}

/// The method on a task of its own, which ends with the call.
fn on_a_task(state: &CallState, running: Running) -> Running {
    let task = AbortOnDropHandle::new(state.server.parked.spawn(running));
    Box::pin(async move {
        match task.await {
            Ok(returned) => returned,
            Err(error) if error.is_panic() => Err(Failure::internal("the method panicked")),
            Err(_) => Err(Failure::internal("the runtime is shutting down")),
        }
    })
}

/// Writes the end of the call, and reports a failure of its method.
fn finish(state: &CallState, call: &Call, ended: &Ended) {
    let (reason, why, echo) = match ended {
        Ended::Returned(Ok(())) => (CloseReason::Done, None, true),
        Ended::Returned(Err(failure)) if failure.fault().is_some() => (CloseReason::Error, None, true),
        Ended::Returned(Err(failure)) if is_for_now(failure) => (CloseReason::Error, Some(later()), true),
        Ended::Returned(Err(_)) => (CloseReason::Error, Some(Why::new(Cause::Internal)), true),
        Ended::By(End::Cancelled | End::SocketLost) => (CloseReason::Done, None, false),
        Ended::By(End::Why(why)) => (CloseReason::Error, Some(*why), true),
    };
    state.server.meter.closed(word(ended));
    let failure = match ended {
        Ended::Returned(Err(failure)) => Some(failure),
        _ => None,
    };
    if let Some(failure) = failure {
        report(state, call, failure);
    }
    state.close(&Closing { reason, fault: failure.and_then(Failure::fault), echo, why });
}

/// The word for how a call has ended.
fn word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Returned(Ok(())) => "done",
        Ended::Returned(Err(failure)) if failure.fault().is_some() => "fault",
        Ended::Returned(Err(failure)) if is_for_now(failure) => Cause::Overloaded.as_str(),
        Ended::Returned(Err(_)) => Cause::Internal.as_str(),
        Ended::By(End::Cancelled) => "cancelled",
        Ended::By(End::SocketLost) => "lost",
        Ended::By(End::Why(why)) => why.cause.as_str(),
    }
}

/// Whether the broker could not do what the method wanted, and may in a moment.
fn is_for_now(failure: &Failure) -> bool {
    let error = failure.source().and_then(|error| error.downcast_ref::<broker_core::Error>());
    error.is_some_and(is_transient)
}

/// A fault is an answer; another failure is an error of the server.
fn report(state: &CallState, call: &Call, failure: &Failure) {
    if failure.fault().is_some() {
        tracing::debug!(%failure, "a method failed with a fault");
    } else if is_for_now(failure) {
        tracing::warn!(%failure, "a method failed, for the broker could not");
    } else {
        tracing::error!(%failure, "a method failed");
    }
    let Some(hook) = &state.server.on_failure else { return };
    if catch_unwind(AssertUnwindSafe(|| hook(call, failure))).is_err() {
        tracing::error!("the hook for failures panicked");
    }
}
