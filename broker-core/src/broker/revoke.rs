//! Sessions of identified users, and the revocation of their authentication.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{Backend, Broker};
use crate::{
    ChannelName, CloseReason, Error, ErrorKind, Event, Identity, Receipt, Result, Revocation,
    RevocationOutcome, Session,
    revocation::{record::RecordId, registry::Refused, serverpod},
    runtime::user_code::shielded,
    supervisor::outbox::Priority,
};

impl Broker {
    /// Opens a session of a user whose authentication has been checked. It ends when that is
    /// [revoked](Session::revoke_authentication), on whatever server.
    ///
    /// The first one of a process waits until what was revoked so far has been read; the others do not wait.
    /// Cancel safe.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use std::time::Instant;
    /// use broker::Identity;
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let began = Instant::now(); // before the token is looked at
    /// let session = broker.session_for(Identity::new("ada", began).with_scopes(["board"])).await?;
    /// assert_eq!(session.identity().unwrap().user(), "ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Revoked`](ErrorKind::Revoked) when it was revoked since its check began; [`Error::retry_after`] says how long a new
    /// token would be refused as well, if it is dated as this one is;
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an empty or overlong user, id or scope, and for one that is dated
    /// further in the future than [`clock_skew`](crate::Options::clock_skew); [`Unavailable`](ErrorKind::Unavailable) when it cannot be known what is revoked, within `subscribe_timeout`, or
    /// the lease has run out; [`Forbidden`](ErrorKind::Forbidden) or [`Misconfigured`](ErrorKind::Misconfigured) when
    /// the log cannot be read until an operator changes something; [`Closed`](ErrorKind::Closed).
    pub async fn session_for(&self, identity: Identity) -> Result<Session> {
        let opened = self.open_for(identity).await;
        opened.map_err(|error| self.about("session_for", error))
    }

    async fn open_for(&self, identity: Identity) -> Result<Session> {
        identity.check()?;
        let dated = identity.until_now(self.0.options.clock_skew)?;
        if let Some(backend) = &self.0.backend {
            self.follow_log(backend);
            self.unless_closed(backend.follower.known(&self.0.runtime, self.0.options.subscribe_timeout))
                .await?;
        }
        let shared = self.new_session();
        // From here on dropping it takes it back.
        let session = Session::new(self.clone(), Arc::clone(&shared), Some(identity.clone()));
        if self.0.backend.is_some() && self.0.options.serverpod_revocations {
            // Dispatch applies what comes; the listener keeps the channel subscribed as long as the session is open.
            session.add_listener(serverpod::channel(identity.user())?, |_: Event| {}).await?;
        }
        if let Err(Refused { what, wait }) = self.0.registry.admit(shared.id, &dated, &shared) {
            let message = match wait {
                None => format!("{what} was revoked since the check began; sign in again"),
                Some(wait) => {
                    format!("{what} was revoked since the token was issued; sign in again in {wait:.1?}")
                }
            };
            return Err(Error::new(ErrorKind::Revoked, message).with_retry_after(wait));
        }
        // After it was admitted: from then on it is closed when the lease runs out.
        if let Some(backend) = &self.0.backend {
            backend.follower.check_lease()?;
        }
        match shared.close_reason() {
            Some(CloseReason::BrokerClosed) => Err(self.closed_error()),
            _ => Ok(session),
        }
    }

    /// Revokes an authentication on every server: [`Session::revoke_authentication`], outside of any session.
    ///
    /// # Errors
    /// As [`Session::revoke_authentication`].
    pub async fn revoke(&self, revocation: Revocation) -> Result<RevocationOutcome> {
        let revoked = self.revoke_everywhere(revocation).await;
        revoked.map_err(|error| self.about("revoke_authentication", error))
    }

    async fn revoke_everywhere(&self, revocation: Revocation) -> Result<RevocationOutcome> {
        revocation.check()?;
        if self.is_closed() {
            return Err(self.closed_error());
        }
        let deadline = Instant::now() + self.0.options.revoke_timeout;
        let serverpods = self.for_serverpod(&revocation)?;
        let (id, record) = self.0.registry.revoke(revocation)?;
        let Some(backend) = &self.0.backend else { return Ok(RevocationOutcome::Local) };
        self.follow_log(backend);
        let told =
            serverpods.map(|(name, payload)| backend.outbox.send_control(&name, payload, Priority::Ahead));
        let outcome = self.store(backend, id, record, deadline).await?;
        if let Some(told) = told {
            let told = async { told?.await.unwrap_or_else(|_| Err(Error::closed())) };
            match self.0.runtime.timeout(deadline.saturating_duration_since(Instant::now()), told).await {
                Ok(told) => told.map_err(|error| only_here(&error))?,
                Err(_) => return Err(only_here(&self.late())),
            };
        }
        Ok(outcome)
    }

    /// The channel and the payload by which Serverpod's servers learn of a revocation, where they are to.
    fn for_serverpod(&self, revocation: &Revocation) -> Result<Option<(ChannelName, Bytes)>> {
        let wanted = self.0.options.serverpod_revocations;
        let channel = wanted.then(|| serverpod::channel(revocation.user_id())).transpose()?;
        Ok(channel.map(|channel| (channel, serverpod::encode(revocation.what()))))
    }

    async fn store(
        &self,
        backend: &Backend,
        id: RecordId,
        record: Bytes,
        deadline: Instant,
    ) -> Result<RevocationOutcome> {
        // Before it is stored, which may take long, for all who receive it now; and after, for a node whose link came up
        // in between: it has read the log too early, and received nothing yet.
        drop(backend.announce(&record));
        let rest = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let stored = self.unless_closed(backend.follower.append(id, record.clone()));
        let stored = self.0.runtime.timeout(rest(deadline), stored);
        match stored.await {
            Ok(Ok(())) => {
                drop(backend.announce(&record));
                Ok(RevocationOutcome::Logged)
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Unsupported => {
                let announced =
                    async { backend.announce(&record)?.await.unwrap_or_else(|_| Err(Error::closed())) };
                match self.0.runtime.timeout(rest(deadline), announced).await {
                    Ok(Ok(_)) => Ok(RevocationOutcome::Announced),
                    Ok(Err(error)) => Err(only_here(&error)),
                    Err(_) => Err(only_here(&self.late())),
                }
            }
            Ok(Err(error)) => Err(only_here(&error)),
            Err(_) => Err(only_here(&self.last_log_error(backend))),
        }
    }

    /// Why a record is not stored in time.
    fn last_log_error(&self, backend: &Backend) -> Error {
        // Away, there is nobody who could give another reason.
        backend
            .outbox
            .check()
            .err()
            .or_else(|| backend.follower.append_error())
            .unwrap_or_else(|| self.late())
    }

    fn late(&self) -> Error {
        let limit = self.0.options.revoke_timeout;
        Error::new(ErrorKind::Timeout, format!("not stored within {limit:?}"))
    }

    fn follow_log(&self, backend: &Backend) {
        if backend.follower.want() {
            backend.subscriptions.wake();
        }
    }

    async fn unless_closed<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        tokio::select! {
            done = shielded(call) => done,
            () = shielded(self.0.stop.cancelled()) => Err(self.closed_error()),
        }
    }
}

impl Backend {
    /// Announces it to every connected node, ahead of all other posts; also when the outcome is dropped.
    fn announce(&self, record: &Bytes) -> Result<oneshot::Receiver<Result<Receipt>>> {
        let (name, frame) = self.follower.announcement(record);
        self.outbox.send_control(&name, frame, Priority::Ahead)
    }
}

/// The revocation is applied here, and perhaps elsewhere.
fn only_here(error: &Error) -> Error {
    let message =
        format!("revoked on this server, but perhaps not on others; call again: {}", error.message());
    let kind = if error.kind() == ErrorKind::Interrupted { ErrorKind::Unavailable } else { error.kind() };
    Error::new(kind, message).with_source(error.clone())
}
