//! What the tests of revocations and of their log share.

use std::time::{Duration, Instant};

use broker_core::{Broker, CloseReason, Identity, Session, Uncertainty};
use tokio::time::{sleep, timeout};

use super::scripted::{Log, Scripted};

/// A server that keeps a log.
pub(crate) fn with_log() -> Scripted {
    let driver = Scripted::default();
    driver.world().log = Some(Log::default());
    driver
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T> + Send) -> T {
    timeout(Duration::from_secs(600), future).await.expect(what)
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool + Sync) {
    let waited = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon(what, waited).await;
}

pub(crate) async fn sign_in(broker: &Broker) -> Session {
    broker.session_for(Identity::new("ada", Instant::now())).await.unwrap()
}

pub(crate) async fn uncertainty(session: &Session) -> Uncertainty {
    match soon("the session to end", session.closed()).await {
        CloseReason::AuthenticationUncertain(uncertainty) => uncertainty,
        other => panic!("ended because {other}"),
    }
}
