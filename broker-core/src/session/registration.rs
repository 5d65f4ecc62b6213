//! Registration: where a broker finds a session.

use std::sync::Arc;

use crate::{Broker, Identity};

/// The places where a broker finds a session: to close it with itself, or by a revocation. Dropping it removes the session from all of
/// them.
pub(super) struct Registration {
    pub(super) broker: Broker,
    pub(super) id: u64,
    pub(super) identity: Option<Arc<Identity>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.broker.forget_session(self.id, self.identity.as_deref());
    }
}
