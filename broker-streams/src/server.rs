//! The server: what all sockets share.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::Broker;
use broker_model::Failure;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Call, Limits,
    addresses::Addresses,
    auth::AnyAuthenticator,
    endpoint::Access,
    meter::Meter,
    method::{entry::Entry, extract::States},
    origin::Origins,
    park::Parking,
};

/// What all sockets share.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) limits: Limits,
    pub(crate) endpoints: HashMap<Box<str>, Methods>,
    pub(crate) states: States,
    pub(crate) authenticator: Option<Box<dyn AnyAuthenticator>>,
    pub(crate) any_credential_format: bool,
    pub(crate) origins: Origins,
    /// If sockets are limited by address.
    pub(crate) addresses: Option<Arc<Addresses>>,
    pub(crate) on_failure: Option<OnFailure>,
    pub(crate) meter: Meter,
    /// Endpoints that stream, in the order in which they were added.
    #[cfg(feature = "endpoints")]
    pub(crate) streaming: Vec<crate::endpoints::Entry>,
    #[cfg(feature = "endpoints")]
    pub(crate) on_stream_failure: Option<OnStreamFailure>,
    /// The time that the server has to stop, once that is known.
    pub(crate) within: OnceLock<Duration>,
    /// The server begins to stop: no new calls, and those that are open come to an end.
    pub(crate) draining: CancellationToken,
    /// Calls end now.
    pub(crate) ending: CancellationToken,
    /// Sockets close now.
    pub(crate) closing: CancellationToken,
    /// The tasks of sockets.
    pub(crate) tasks: TaskTracker,
    pub(crate) parking: Parking,
    /// The tasks of parked calls, and of methods that have one of their own.
    pub(crate) parked: TaskTracker,
    pub(crate) next_socket: AtomicU64,
}

/// Called for each failure of a method.
pub(crate) type OnFailure = Box<dyn Fn(&Call, &Failure) + Send + Sync>;

/// Called for each failure of an endpoint that streams.
#[cfg(feature = "endpoints")]
pub(crate) type OnStreamFailure = Box<dyn Fn(&crate::Peer, &Failure) + Send + Sync>;

/// The methods of an endpoint.
pub(crate) struct Methods {
    pub(crate) access: Access,
    pub(crate) methods: HashMap<Box<str>, Arc<Entry>>,
    /// Its place among the endpoints that stream.
    #[cfg(feature = "endpoints")]
    pub(crate) streaming: Option<usize>,
}

impl Server {
    /// The number of the next socket, for the log.
    pub(crate) fn socket_number(&self) -> u64 {
        self.next_socket.fetch_add(1, Relaxed)
    }
}

impl Server {
    /// Waits until no task of this server is left.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        // Only sockets park calls.
        self.parked.close();
        self.parked.wait().await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("sockets", &self.tasks.len()).finish_non_exhaustive()
    }
}
