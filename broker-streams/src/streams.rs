//! Streams: the handle of a streaming server, and how it stops.

use std::{fmt, sync::Arc, time::Duration};

use broker_core::Broker;
use tokio::time::timeout;

use crate::{StreamsBuilder, StreamsService, server::Server};

/// The time that sockets have to close, after the calls have ended.
const SOCKETS: Duration = Duration::from_secs(2);

/// A streaming server. Cloning is cheap, and all clones are one.
#[derive(Clone)]
pub struct Streams(pub(crate) Arc<Server>);

impl Streams {
    /// Begins to build a server, whose calls are sessions of this broker.
    pub fn builder(broker: Broker) -> StreamsBuilder {
        StreamsBuilder::new(broker)
    }

    /// The service to route at `/v1/websocket`.
    #[must_use]
    pub fn service(&self) -> StreamsService {
        StreamsService::new(Arc::clone(&self.0))
    }

    /// The service to route at `/websocket`, for the [`StreamingEndpoint`](crate::StreamingEndpoint)s. It is another one than
    /// [`service`](Self::service), and knows no paths, so that each can be routed wherever its clients look for it.
    #[cfg(feature = "endpoints")]
    #[cfg_attr(docsrs, doc(cfg(feature = "endpoints")))]
    #[must_use]
    pub fn endpoints_service(&self) -> crate::EndpointsService {
        crate::EndpointsService::new(Arc::clone(&self.0))
    }

    /// How many sockets are open.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.0.tasks.len()
    }

    /// How many calls wait for clients that have lost their sockets.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.0.parking.calls()
    }

    /// Stops the server: from now on new sockets and calls are refused, and [`Call::draining`](crate::Call::draining) fires.
    /// Half of the time later the calls that are still open are ended; after three quarters of it, or as soon as it has no
    /// call, each socket is closed, for which there are two seconds more. When it returns, no task of this server is left, unless a method keeps its thread without an await for longer
    /// than the time and two seconds; the log warns of that. Call it before [`Broker::drain`].
    ///
    /// Cancel safe: a dropped call leaves the server on its way to stop, at the stage that was reached; call it again, or
    /// [`close`](Self::close).
    pub async fn drain(&self, within: Duration) {
        let _ = self.0.within.set(within);
        self.0.draining.cancel();
        if timeout(within / 2, self.0.ended()).await.is_ok() {
            return;
        }
        self.0.ending.cancel();
        // The ends of calls are written by then, to every client that reads.
        if timeout(within / 4, self.0.ended()).await.is_ok() {
            return;
        }
        self.close().await;
    }

    /// Stops the server at once: calls end, and sockets are closed. When it returns, no task of this server is left, unless
    /// a method keeps its thread without an await for longer than two seconds; the log warns of that.
    pub async fn close(&self) {
        self.0.draining.cancel();
        self.0.ending.cancel();
        self.0.closing.cancel();
        if timeout(SOCKETS, self.0.ended()).await.is_err() {
            tracing::warn!(sockets = self.0.tasks.len(), "sockets are still open: a method keeps a thread");
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Streams").field(&self.0).finish()
    }
}
