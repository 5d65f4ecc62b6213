//! Pool: servers that start slowly, started once for a run.
//!
//! Most cases share one, on which they are kept apart by name. Those that break their server, or count what
//! is open on it, have a second one to themselves, one after the other.

use std::{
    fmt,
    ops::Deref,
    sync::{self, Arc, LazyLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

use crate::case::Need;

/// The servers of one backend: make it a `static`, and end it when the run is over.
pub struct Pool<S> {
    shared: Mutex<Option<Arc<S>>>,
    own: LazyLock<sync::Mutex<Own<S>>>,
}

type Own<S> = Arc<Mutex<Option<S>>>;

/// How long a case waits for the others who want a server to themselves. Whoever has it for longer hangs: no case may
/// run for so long.
const PATIENCE: Duration = Duration::from_secs(360);

impl<S: Send + Sync + 'static> Pool<S> {
    /// Nothing is started yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { shared: Mutex::const_new(None), own: LazyLock::new(sync::Mutex::default) }
    }

    /// The server for a case with these needs. `start` makes one where there is none yet. One that a case has
    /// to itself may have been left in any state by the case before: dead, or paused.
    ///
    /// # Errors
    /// It did not start.
    pub async fn lease<F>(&self, needs: &[Need], start: impl FnOnce() -> F + Send) -> Result<Lease<S>, String>
    where
        F: Future<Output = Result<S, String>> + Send,
    {
        if needs.contains(&Need::OwnServer) {
            let mut own = self.own_server().await;
            if own.is_none() {
                *own = Some(start().await?);
            }
            return Ok(Lease(Inner::Own(own)));
        }
        let mut shared = self.shared.lock().await;
        let server = match &*shared {
            Some(server) => Arc::clone(server),
            None => Arc::clone(shared.insert(Arc::new(start().await?))),
        };
        Ok(Lease(Inner::Shared(server)))
    }

    fn own(&self) -> sync::MutexGuard<'_, Own<S>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of the one server, and the turn. One that nobody will ever let go of is replaced.
    async fn own_server(&self) -> OwnedMutexGuard<Option<S>> {
        loop {
            let own = Arc::clone(&self.own());
            if let Ok(turn) = timeout(PATIENCE, Arc::clone(&own).lock_owned()).await {
                return turn;
            }
            let mut now = self.own();
            if Arc::ptr_eq(&own, &now) {
                *now = Arc::default();
            }
        }
    }

    /// Ends all servers, once no case runs any more.
    pub fn end(&self) {
        // Held only by a case that hangs, and that ends with the process.
        drop(self.shared.try_lock().ok().and_then(|mut shared| shared.take()));
        drop(self.own().try_lock().ok().and_then(|mut own| own.take()));
    }
}

impl<S: Send + Sync + 'static> Default for Pool<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// A server for one case.
#[derive(Debug)]
pub struct Lease<S>(Inner<S>);

#[derive(Debug)]
enum Inner<S> {
    Shared(Arc<S>),
    /// There is one in it.
    Own(OwnedMutexGuard<Option<S>>),
}

impl<S> Lease<S> {
    /// Whether the case has the server to itself.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self.0, Inner::Own(_))
    }
}

impl<S> Deref for Lease<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.0 {
            Inner::Shared(server) => server,
            Inner::Own(server) => server.as_ref().expect("started when it was leased"),
        }
    }
}
