//! Shared: what a connection and the peers of its endpoints share: who the client is, and the sessions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker_core::{ErrorKind, Identity, Session};
use broker_streams_wire::Cause;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::{
    auth::{self, Authenticated, Credentials, Head},
    call::{run::session_over, timers::instant_of},
    endpoint::Access,
    server::Server,
    socket::{STOPPING, link::Ending, outbox::Outbox},
};

/// What a connection and its peers share.
pub(super) struct Shared {
    pub(super) server: Arc<Server>,
    pub(super) outbox: Arc<Outbox>,
    head: Arc<Head>,
    /// For what is done while nobody is signed in.
    anonymous: Session,
    user: Mutex<Option<User>>,
    /// Another user, or other credentials.
    changed: Notify,
}

/// The user of a connection.
struct User {
    /// The session that the endpoints use.
    session: Session,
    /// That of the credentials that were shown last, if these are not the first ones. Only its end counts.
    renewed: Option<Session>,
    scopes: Vec<String>,
    until: Option<Instant>,
}

impl Shared {
    pub(super) fn new(server: Arc<Server>, outbox: Arc<Outbox>, head: Head) -> Self {
        let (head, anonymous) = (Arc::new(head), server.broker.session());
        Self { server, outbox, head, anonymous, user: Mutex::new(None), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<User>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that the endpoints use.
    pub(super) fn session(&self) -> Session {
        self.lock().as_ref().map_or(&self.anonymous, |user| &user.session).clone()
    }

    /// Whether the user may use such an endpoint.
    pub(super) fn may_use(&self, access: &Access) -> bool {
        let user = self.lock();
        !access.login
            || user.as_ref().is_some_and(|user| access.scopes.iter().all(|scope| user.scopes.contains(scope)))
    }

    /// Signs in by a key, or out without one. Who shows a key that is not known is nobody.
    pub(super) async fn authenticate(&self, key: Option<&str>) {
        // Before the key is looked at: what is revoked meanwhile counts.
        let began = std::time::Instant::now();
        let new = match key.and_then(|key| auth::unwrap(key, true)) {
            Some((scheme, secret)) => {
                let credentials = Credentials::new(scheme, secret, Arc::clone(&self.head));
                match auth::ask(&self.server, credentials).await {
                    Some(known) => self.sign_in(known, began).await,
                    None => None,
                }
            }
            None => None,
        };
        let over = self.replace(new);
        over.iter().for_each(Session::close);
        self.changed.notify_one();
    }

    async fn sign_in(&self, known: Authenticated, began: std::time::Instant) -> Option<User> {
        let access = self.server.streaming.iter().flat_map(|entry| &entry.access.scopes);
        // When one of these is taken from the user, the connection is closed: some endpoint may not be used any more.
        let required = access.filter(|scope| known.scopes.contains(scope));
        let identity = known.identity(began).with_scopes(required);
        let Authenticated { scopes, until, .. } = known;
        match self.server.broker.session_for(identity).await {
            Ok(session) => Some(User { session, renewed: None, scopes, until: until.and_then(instant_of) }),
            Err(error) => {
                if error.kind() != ErrorKind::Revoked {
                    tracing::error!(%error, "no session for a connection");
                }
                None
            }
        }
    }

    /// The new user, or the same one with new credentials. Gives the sessions that are over.
    fn replace(&self, new: Option<User>) -> Vec<Session> {
        fn name(user: &User) -> Option<&str> {
            user.session.identity().map(Identity::user)
        }

        let mut user = self.lock();
        match (&mut *user, new) {
            (Some(old), Some(new)) if name(old) == name(&new) => {
                // What was opened through the first session stays open.
                let renewed = old.renewed.replace(new.session);
                (old.scopes, old.until) = (new.scopes, new.until);
                renewed.into_iter().collect()
            }
            (old, new) => {
                let old = std::mem::replace(old, new);
                old.into_iter().flat_map(|old| old.renewed.into_iter().chain([old.session])).collect()
            }
        }
    }

    /// The connection is over: so are its sessions.
    pub(super) fn close(&self) {
        self.replace(None).iter().for_each(Session::close);
        self.anonymous.close();
    }

    /// How the connection ends, when its user may not be served any more, or the broker is closed.
    pub(super) async fn over(&self) -> Ending {
        loop {
            let (session, renewed, until) = {
                let user = self.lock();
                let user = user.as_ref();
                let session = user.map(|user| user.session.clone());
                (session, user.and_then(|user| user.renewed.clone()), user.and_then(|user| user.until))
            };
            let cause = tokio::select! {
                () = self.changed.notified() => continue,
                cause = session_over(&self.anonymous) => cause,
                cause = of(session) => cause,
                cause = of(renewed) => cause,
                () = at(until) => Cause::Expired,
            };
            return match cause {
                Cause::Draining => Ending::Close(CloseCode::Restart, STOPPING),
                Cause::Expired => Ending::Close(CloseCode::Policy, "the authentication has expired"),
                Cause::Revoked => Ending::Close(CloseCode::Policy, "the authentication was revoked"),
                _ => Ending::Close(CloseCode::Policy, "the authentication is in doubt"),
            };
        }
    }
}

async fn of(session: Option<Session>) -> Cause {
    match session {
        Some(session) => session_over(&session).await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
