//! Opening: the checks of an open, in Serverpod's order.

use std::sync::Arc;

use broker_core::{ErrorKind, Session};
use broker_streams_wire::{Again, Cause, OpenResult, Why};
use serde::de::IgnoredAny;
use smallvec::SmallVec;
use std::time::{Duration, Instant};

use super::{
    Call,
    state::{CallState, End},
};
use crate::{
    auth::{self, Credentials, Head, Scheme},
    endpoint::Access,
    meter::Held,
    method::{entry::Entry, extract::Start, handler::Running},
    server::Server,
    socket::outbox::Outbox,
};

/// What a client has sent to open a call.
pub(crate) struct Request {
    pub(crate) args: String,
    pub(crate) auth: Option<String>,
    /// `am` is `cookie`.
    pub(crate) by_cookie: bool,
    /// The trace of the client.
    pub(crate) traceparent: Option<String>,
    pub(crate) _permit: OpenPermit,
}

/// Held while a call is being opened: a socket has a number of them.
pub(crate) struct OpenPermit {
    held: Option<Arc<()>>,
    outbox: Arc<Outbox>,
}

impl OpenPermit {
    pub(crate) fn new(opens: &Arc<()>, outbox: &Arc<Outbox>) -> Self {
        Self { held: Some(Arc::clone(opens)), outbox: Arc::clone(outbox) }
    }
}

/// The socket may be waiting to read the next open.
impl Drop for OpenPermit {
    fn drop(&mut self) {
        self.held = None;
        self.outbox.wake();
    }
}

/// A call that can run.
pub(crate) struct Opened {
    pub(crate) call: Call,
    pub(crate) running: Running,
    pub(crate) until: Option<std::time::SystemTime>,
    pub(crate) on_task: bool,
    pub(crate) resumable: bool,
    pub(crate) held: Held,
}

/// Checks an open.
///
/// # Errors
/// What the client is told.
pub(crate) async fn open(
    state: &Arc<CallState>,
    request: &Request,
    head: &Arc<Head>,
) -> Result<Opened, OpenResult> {
    let server = &*state.server;
    serde_json::from_str::<IgnoredAny>(&request.args).map_err(|_| OpenResult::InvalidArguments)?;
    let credentials = credentials(server, request, head)?;
    let endpoint = server.endpoints.get(&*state.name.endpoint).ok_or(OpenResult::EndpointNotFound)?;
    let (session, until) = authenticate(state, &endpoint.access, credentials).await?;
    let entry = endpoint.methods.get(&*state.name.method).ok_or(OpenResult::EndpointNotFound)?;
    let call = Call::new(Arc::clone(state), session);
    let running = start(state, &call, entry, &request.args)?;
    let (on_task, resumable, held) = (entry.on_task, entry.resumable, entry.calls.hold());
    Ok(Opened { call, running, until, on_task, resumable, held })
}

fn credentials(
    server: &Server,
    request: &Request,
    head: &Arc<Head>,
) -> Result<Option<Credentials>, OpenResult> {
    if request.by_cookie {
        return Ok(Some(Credentials::new(Scheme::Cookie, String::new(), Arc::clone(head))));
    }
    let Some(shown) = &request.auth else { return Ok(None) };
    let (scheme, secret) =
        auth::unwrap(shown, server.any_credential_format).ok_or(OpenResult::AuthenticationFailed)?;
    Ok(Some(Credentials::new(scheme, secret, Arc::clone(head))))
}

/// The session of the call: one of the user where the endpoint requires one, else an anonymous one.
async fn authenticate(
    state: &CallState,
    access: &Access,
    credentials: Option<Credentials>,
) -> Result<(Session, Option<std::time::SystemTime>), OpenResult> {
    let server = &*state.server;
    if !access.login {
        return Ok((server.broker.session(), None));
    }
    // Before the credentials are looked at: what is revoked meanwhile counts.
    let began = Instant::now();
    let credentials = credentials.ok_or(OpenResult::AuthenticationFailed)?;
    let known = auth::ask(server, credentials).await.ok_or(OpenResult::AuthenticationFailed)?;
    if access.scopes.iter().any(|scope| !known.scopes.contains(scope)) {
        return Err(OpenResult::AuthorizationDeclined);
    }
    let identity = known.identity(began).with_scopes(&access.scopes);
    match server.broker.session_for(identity).await {
        Ok(session) => Ok((session, known.until)),
        Err(error) if is_transient(&error) => {
            // Nothing is wrong with the credentials. There is no word in `omsr` for that, so the call is opened and ends.
            tracing::warn!(%error, "it cannot be known now what is revoked");
            state.end(End::Why(later()));
            std::future::pending().await
        }
        Err(error) => {
            if error.kind() != ErrorKind::Revoked {
                tracing::error!(%error, "no session for a call");
            }
            Err(OpenResult::AuthenticationFailed)
        }
    }
}

/// Whether the same may succeed in a moment.
pub(crate) fn is_transient(error: &broker_core::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Interrupted)
}

/// The server cannot do it now.
pub(crate) const fn later() -> Why {
    Why { cause: Cause::Overloaded, again: Again::After(Duration::from_secs(1)) }
}

fn start(state: &Arc<CallState>, call: &Call, entry: &Entry, args: &str) -> Result<Running, OpenResult> {
    let mut changing = state.lock();
    let x1 = changing.is_x1();
    // What is not declared is ignored; values of it are answered as those of no call.
    changing.inputs.retain(|input| entry.inputs.iter().any(|declared| **declared == *input.name()));
    let place = |name: &str| changing.inputs.iter().position(|input| input.name() == name);
    let places: Vec<Option<usize>> = entry.inputs.iter().map(|name| place(name)).collect();
    drop(changing);
    let missing =
        entry.inputs.iter().zip(&places).filter(|(_, place)| place.is_none()).map(|(name, _)| &**name);
    let missing: SmallVec<[&str; 4]> = missing.collect();
    let states = &state.server.states;
    let mut start = Start { call, state, args, states, next_input: 0, inputs: &places };
    let running = entry.run.start(&mut start);
    if running.is_err() && !missing.is_empty() {
        tracing::debug!(call = ?state, ?missing, "inputs that the client did not name; the method may need them");
    }
    if !entry.streams && !x1 && running.is_ok() {
        return Err(OpenResult::EndpointNotFound);
    }
    running
}
