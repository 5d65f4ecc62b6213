//! Room: how many bytes may wait in the outbox, given to posts in turn.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{Error, ErrorKind, Result, runtime::Runtime};

/// See the module.
#[derive(Debug)]
pub(super) struct Room {
    /// One permit for each byte that may wait.
    bytes: Arc<Semaphore>,
    /// How many posts wait for room, or have it and are not queued yet: nobody gets ahead of them. And whose turn it
    /// is; the semaphore has an order too, but does not wait until the one before is queued.
    waiting: AtomicUsize,
    first: Mutex<()>,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes)), waiting: AtomicUsize::new(0), first: Mutex::new(()) }
    }

    /// Room for a frame, if there is some and nobody waits for it.
    pub(super) fn take(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        let nobody_waits = self.waiting.load(Acquire) == 0;
        nobody_waits.then(|| Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()).flatten()
    }

    /// Room for a frame, in turn: whoever began to wait later is queued later. The turn ends when it is dropped.
    pub(super) async fn wait(
        &self,
        bytes: u32,
        limit: Duration,
        runtime: &Runtime,
    ) -> Result<(OwnedSemaphorePermit, Turn<'_>)> {
        self.waiting.fetch_add(1, AcqRel);
        let mut turn = Turn { waiting: &self.waiting, _first: None };
        let room = async {
            turn._first = Some(self.first.lock().await);
            Arc::clone(&self.bytes).acquire_many_owned(bytes).await
        };
        match runtime.timeout(limit, room).await {
            Ok(Ok(room)) => Ok((room, turn)),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "no room for {bytes} bytes in the outbox within {limit:?}; post less, or raise outbox_bytes"
                ),
            )),
        }
    }
}

/// A post that waits for room, or has it and is not queued yet.
pub(super) struct Turn<'a> {
    waiting: &'a AtomicUsize,
    _first: Option<MutexGuard<'a, ()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, AcqRel);
    }
}
