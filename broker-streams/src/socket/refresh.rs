//! Refreshing: new credentials for the calls of a socket.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Instant, UNIX_EPOCH},
};

use broker_core::{CloseReason, ErrorKind, Session};
use broker_streams_wire::{
    Authenticate, Authenticated as Answer, Cause, Credential, OpenResult, Why, write_data,
};
use futures_util::FutureExt;

use super::{Socket, Transport};
use crate::{
    auth::{self, Authenticated, Credentials, Head},
    call::{
        run::cause,
        state::{CallState, End},
    },
    server::Server,
};

/// New credentials that are being looked at.
pub(super) type Refreshing = Pin<Box<dyn Future<Output = Option<(Authenticated, Session)>> + Send>>;

impl<S: Transport> Socket<S> {
    /// The newest credentials count: those that are still being looked at are refused.
    pub(super) fn on_authenticate(&mut self, shown: Authenticate) {
        let (server, head) = (Arc::clone(&self.server), Arc::clone(&self.head));
        if let Some(old) = self.refreshing.replace(Box::pin(look(server, head, shown.auth))) {
            if catch_unwind(AssertUnwindSafe(|| drop(old))).is_err() {
                tracing::error!("what an authenticator held panicked when it was dropped");
            }
            self.answer_refresh(None);
        }
    }

    pub(super) fn poll_refresh(&mut self, cx: &mut Context<'_>) {
        let Some(refreshing) = &mut self.refreshing else { return };
        let Poll::Ready(known) = refreshing.poll_unpin(cx) else { return };
        self.refreshing = None;
        self.answer_refresh(known.as_ref().map(|(known, _)| known));
        if let Some((known, guard)) = known {
            self.refresh_calls(&known, &guard, |_| true);
        }
        self.outbox.wake();
    }

    fn answer_refresh(&self, known: Option<&Authenticated>) {
        let res = if known.is_some() { OpenResult::Success } else { OpenResult::AuthenticationFailed };
        let until = known.and_then(|known| known.until?.duration_since(UNIX_EPOCH).ok());
        let until = until.and_then(|until| u64::try_from(until.as_millis()).ok());
        self.outbox.control(write_data("authr", &Answer { res, until }).into());
    }

    /// Calls of the same user go on for as long as the new credentials are good; those of another one end.
    pub(super) fn refresh_calls(
        &self,
        known: &Authenticated,
        guard: &Session,
        concerned: impl Fn(&CallState) -> bool,
    ) {
        let identified = |call: &&Arc<CallState>| {
            concerned(call) && call.session.get().is_some_and(|session| session.identity().is_some())
        };
        let calls: Vec<_> = self.table.values().filter(identified).collect();
        let may_go_on = |call: &CallState| {
            let identity = call.session.get().and_then(Session::identity);
            identity.is_some_and(|identity| {
                let scopes = identity.scopes().all(|scope| known.scopes.iter().any(|has| has == scope));
                identity.user() == known.user && scopes
            })
        };
        let (same, other): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| may_go_on(call));
        for call in other {
            call.end(End::Why(Why::new(Cause::Identity)));
        }
        // The calls own the guard, and the guard does not own the calls.
        let guarded: Vec<Weak<CallState>> = same.iter().map(|call| Arc::downgrade(call)).collect();
        let hooked = guard.on_close(async move |reason| end_guarded(&guarded, &reason));
        for call in same {
            match &hooked {
                Ok(_) => call.refresh(guard, known.until),
                // The new credentials are revoked already.
                Err(_) => call.end(End::Why(Why::new(Cause::Revoked))),
            }
        }
    }
}

/// The newer credentials are good for nothing any more.
fn end_guarded(calls: &[Weak<CallState>], reason: &CloseReason) {
    let Some(cause) = cause(reason) else { return };
    for call in calls.iter().filter_map(Weak::upgrade) {
        call.end(End::Why(Why::new(cause)));
        // At once, as the call's own would be: what runs the call may be busy, or the call parked.
        call.session.get().into_iter().for_each(Session::close);
    }
}

/// Who shows the credentials, and a session that ends when they are revoked.
pub(super) async fn look(
    server: Arc<Server>,
    head: Arc<Head>,
    shown: Credential,
) -> Option<(Authenticated, Session)> {
    // Before the credentials are looked at: what is revoked meanwhile counts.
    let began = Instant::now();
    let (scheme, secret) = auth::unwrap(&shown.0, server.any_credential_format)?;
    let known = auth::ask(&server, Credentials::new(scheme, secret, head)).await?;
    let session = server.broker.session_for(known.identity(began)).await;
    let logged = session.inspect_err(|error| {
        if error.kind() != ErrorKind::Revoked {
            tracing::error!(%error, "no session for new credentials");
        }
    });
    let session = logged.ok()?;
    Some((known, session))
}
