//! Ground: the thread on which the client's tasks run, and end.
//!
//! A client has two tasks: one reads the socket, the other the queue into which the first puts what the server
//! complains about. Only where tasks run one at a time, in the order in which they were woken, is a complaint
//! that came before a barrier known before the barrier is. And a task that hangs with a full socket ends with
//! its thread, and with nothing else.

use std::thread;

use broker_core::{Error, ErrorKind, Result};
use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

/// See the module. Dropping it ends the thread and everything on it.
#[derive(Debug)]
pub(crate) struct Ground {
    handle: Handle,
    /// Whether it is to end. The thread holds the receiver, so this also tells when it has.
    stop: watch::Sender<bool>,
}

impl Ground {
    pub(crate) fn new() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Other, format!("no thread for a connection: {error}")).with_source(error)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, mut stopped) = watch::channel(false);
        let life = move || {
            let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
            drop(runtime);
            drop(stopped);
        };
        thread::Builder::new().name("broker-nats".to_owned()).spawn(life).map_err(failed)?;
        Ok(Self { handle, stop })
    }

    /// Runs a future here. `None` if it panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.handle.spawn(future).await.ok()
    }

    /// Ends it, and waits until nothing runs here any more and every socket is closed.
    pub(crate) async fn end(&self) {
        self.stop.send_replace(true);
        self.stop.closed().await;
    }
}
