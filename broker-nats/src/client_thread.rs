//! ClientThread: the thread on which the client's tasks run, and end.
//!
//! A client has two tasks: one reads the socket, the other the queue into which the first puts what the server
//! complains about. Only where tasks run one at a time, in the order in which they were woken, is a complaint
//! that came before a barrier known before the barrier is. And a task that hangs with a full socket ends with
//! its thread, and with nothing else; so does a client that is about to heal itself.

use std::{sync::Arc, thread};

use broker_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::connection_state::ConnectionState;

/// See the module. It ends with its link: when that is lost, and when this is dropped.
pub(crate) struct ClientThread {
    handle: Handle,
    pub(crate) connection: Arc<ConnectionState>,
}

impl ClientThread {
    pub(crate) fn new(connection: Arc<ConnectionState>) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Other, format!("no thread for a connection: {error}")).with_source(error)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let mut over = connection.over.subscribe();
        let life = move || {
            let _ = runtime.block_on(over.wait_for(Option::is_some));
            drop(runtime);
            drop(over);
        };
        thread::Builder::new().name("broker-nats".to_owned()).spawn(life).map_err(failed)?;
        Ok(Self { handle, connection })
    }

    /// Runs a future here. `None` if it panics.
    ///
    /// What the client logs meanwhile is dropped: it logs the password that it sends, and as an error whatever a server
    /// says that refuses it, which may quote the password. What there is to say is in the driver's own errors.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.handle.spawn(future.with_subscriber(NoSubscriber::new())).await.ok()
    }

    /// Ends it, and waits until nothing runs here any more and every socket is closed.
    pub(crate) async fn end(&self) {
        self.connection.end(self.connection.peer.disconnected());
        self.connection.over.closed().await;
    }
}

impl Drop for ClientThread {
    fn drop(&mut self) {
        self.connection.end(self.connection.peer.disconnected());
    }
}
