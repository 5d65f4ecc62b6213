//! The sessions of a broker: opening one, and finding all of them to close them.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError, Weak, atomic::Ordering},
};

use super::Broker;
use crate::{CloseReason, Error, ErrorKind, Identity, Session, session::state};

impl Broker {
    /// Why a session that is closed does nothing any more.
    pub(crate) fn session_closed(&self, operation: &'static str) -> Error {
        if self.is_closed() {
            return self.closed_error().with_operation(operation); // another session would not help
        }
        let message = "the session is closed; open another with broker.session()";
        Error::new(ErrorKind::Closed, message).with_operation(operation)
    }

    /// Opens an anonymous session, which no revocation touches. [`session_for`](Self::session_for) opens that of a
    /// user.
    pub fn session(&self) -> Session {
        Session::new(self.clone(), self.new_session(), None)
    }

    pub(super) fn new_session(&self) -> Arc<state::Shared> {
        let id = self.0.next_session.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(state::Shared::new(id, Arc::clone(&self.0.hub)));
        self.sessions().insert(id, Arc::downgrade(&shared));
        if self.is_closed() {
            drop(shared.close(&CloseReason::BrokerClosed));
        }
        shared
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Weak<state::Shared>>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget_session(&self, id: u64, identity: Option<&Identity>) {
        let session = self.sessions().remove(&id);
        drop(session);
        if let Some(identity) = identity {
            self.0.registry.forget(id, identity);
        }
    }
}
