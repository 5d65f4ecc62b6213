//! Call: what a method knows about itself, and the parts of a call.

pub(crate) mod incoming;
pub(crate) mod input;
pub(crate) mod open;
pub(crate) mod out;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod timers;
mod window;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use broker_core::{Gap, Identity, Session};
use broker_model::{Failure, Fault, Unreadable};
use serde::{Deserialize, Serialize};

use state::CallState;

/// A call of a streaming method: what the method knows about itself. Cloning is cheap.
///
/// When the client cancels the call, loses its socket or signs out, the method's future is dropped at its next
/// await. To clean up, implement `Drop`, or add a hook to the [session](Self::session).
#[derive(Clone)]
pub struct Call {
    state: Arc<CallState>,
    session: Session,
}

impl Call {
    pub(crate) const fn new(state: Arc<CallState>, session: Session) -> Self {
        Self { state, session }
    }

    /// The session of this call alone: what is opened through it ends with the call, and it ends when the user's
    /// authentication is revoked.
    #[must_use = "it is there to be used"]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whose call it is; `None` for an anonymous one.
    #[must_use]
    pub fn who(&self) -> Option<&Identity> {
        self.session.identity()
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.state.name.endpoint
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.state.name.method
    }

    /// The id of the call, which the client has chosen.
    #[must_use]
    pub fn id(&self) -> &str {
        self.state.id.as_str()
    }

    /// The time that is left for the call, if it is limited: by its client, by the server, or by the authentication.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.state.lock().timers.remaining()
    }

    /// Waits until the server begins to stop. The call has some time left then, to come to an end of its own.
    pub async fn draining(&self) {
        self.state.server.draining.cancelled().await;
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("endpoint", &self.endpoint())
            .field("method", &self.method())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Values of a relayed stream may be missing, and the client has no word for it but a fault.
#[derive(Debug, Serialize, Deserialize)]
struct BrokerGap {
    missed: Option<u64>,
    cause: String,
}

impl fmt::Display for BrokerGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values may be missing: call again")
    }
}

impl std::error::Error for BrokerGap {}

impl Fault for BrokerGap {
    fn class_name(&self) -> Cow<'static, str> {
        Cow::Borrowed("BrokerGap")
    }

    fn encode(&self) -> Result<String, serde_json::Error> {
        broker_model::derived::write(self)
    }

    fn decode(class_name: &str, json: &str) -> Option<Result<Self, Unreadable>> {
        (class_name == "BrokerGap").then(|| broker_model::derived::read(json))
    }
}

fn gap_failure(gap: &Gap) -> Failure {
    Failure::from(BrokerGap { missed: gap.missed, cause: gap.cause.as_str().to_owned() })
}
