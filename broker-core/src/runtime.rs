//! Runtime: where a broker's tasks and timers run, whichever thread calls it.

use std::{future::Future, panic::catch_unwind, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Sleep, sleep},
};

use crate::{Error, ErrorKind, Result};

/// The Tokio runtime in which a broker was made. A local broker has none of its own: it takes the caller's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtime(Option<Handle>);

/// The limit passed first.
#[derive(Debug)]
pub(crate) struct Late;

impl Runtime {
    /// The one in which the caller is.
    pub(crate) fn current(what: &str) -> Result<Self> {
        let handle = current(what)?;
        if timer_here(Duration::ZERO).is_none() {
            let message =
                format!("{what} needs a tokio runtime with timers: call enable_all() on its builder");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(Self(Some(handle)))
    }

    /// Where a task of the broker runs.
    pub(crate) fn handle(&self, what: &str) -> Result<Handle> {
        self.0.clone().map_or_else(|| current(what), Ok)
    }

    /// Waits for a future for at most so long, also outside of any runtime. For a local broker there is no timer then,
    /// and no limit: it has nothing that could take long.
    pub(crate) async fn timeout<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T> + Send,
    ) -> Result<T, Late> {
        match self.timer(limit) {
            None => Ok(future.await),
            Some(timer) => tokio::select! {
                biased;
                output = future => Ok(output),
                () = timer => Err(Late),
            },
        }
    }

    /// A timer of the caller's runtime; of the broker's for a caller that is in none, or in one without timers.
    fn timer(&self, limit: Duration) -> Option<Sleep> {
        let here = if Handle::try_current().is_ok() { timer_here(limit) } else { None };
        here.or_else(|| {
            let _entered = self.0.as_ref()?.enter();
            Some(sleep(limit))
        })
    }
}

/// A timer of the runtime in which the caller is. None where it has no timers: tokio says so by a panic only.
fn timer_here(limit: Duration) -> Option<Sleep> {
    catch_unwind(|| sleep(limit)).ok()
}

fn current(what: &str) -> Result<Handle> {
    Handle::try_current().map_err(|_| {
        let message = format!("{what} needs a tokio runtime: call this from within one");
        Error::new(ErrorKind::InvalidInput, message)
    })
}
