//! Reaching one of several servers, or one of several addresses of a name: attempts that are started one after
//! another without waiting for the one before, of which the first to succeed wins.

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    Error,
    ErrorKind::{Forbidden, InvalidInput, Timeout, Unavailable},
    Result,
    driver::{ConnectContext, Driver, Link, ServerAddr},
};

/// How long an attempt may take before the next one is started beside it: the delay that RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// One address of one server of a URL. `Display` shows the server, and the address if that is not already in it:
/// `example.net:6379 (10.0.0.1)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The server as the URL names it. A certificate is checked against this name.
    pub server: ServerAddr,
    /// One of its addresses.
    pub address: SocketAddr,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, address } = self;
        server.fmt(f)?;
        if server.host == address.ip().to_string() { Ok(()) } else { write!(f, " ({})", address.ip()) }
    }
}

impl Place {
    /// Opens a connection to any one address of any one server.
    ///
    /// The names are resolved. Then each address, those of several servers in turn and IPv6 and IPv4 in turn, gets an
    /// `attempt`, which is dropped when another one succeeds. The next attempt starts when one has failed, and at the
    /// latest 250 ms after the last one started. So an address that takes no connections, or takes them and does not
    /// answer, delays the others and does not keep them from being tried. An attempt should go as far as the server's
    /// first answer.
    ///
    /// There is no time limit: core's is `connect_timeout`. Cancel safe if the attempts are.
    ///
    /// # Errors
    /// Of a single address its own error. Of several, one error with the place and the cause of each, which is
    /// [transient](crate::ErrorKind::is_transient) if one of them is. [`Forbidden`] and [`InvalidInput`] end the
    /// search at once: credentials and files are the same everywhere.
    pub async fn reach<T: Send, F>(
        servers: &[ServerAddr],
        attempt: impl Fn(Self) -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let resolved = servers.iter().map(|server| async move {
            let addresses = server.addresses().await?;
            let place = |address| Self { server: server.clone(), address };
            Ok(addresses.into_iter().map(place).collect())
        });
        race(resolved, attempt).await
    }
}

/// For drivers: where a server can be reached.
impl ServerAddr {
    /// The addresses of this server, in the order in which they should be tried.
    ///
    /// # Errors
    /// [`Unavailable`] when the name does not exist or cannot be resolved.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        self.ordered(found.map(Iterator::collect))
    }

    /// IPv6 and IPv4 in turn, beginning with what the resolver prefers.
    fn ordered(&self, found: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>> {
        let failed = |cause: &dyn fmt::Display| {
            Error::new(Unavailable, format!("no connection to {self}: cannot resolve the name: {cause}"))
        };
        let found = found.map_err(|error| failed(&error))?;
        let preferred = found.first().ok_or_else(|| failed(&"it has no address"))?.is_ipv6();
        let (first, second): (Vec<_>, Vec<_>) =
            found.iter().partition(|address| address.is_ipv6() == preferred);
        Ok(in_turn([first.into(), second.into()]))
    }

    /// As [`Place::reach`], for a client that resolves names itself: one attempt for each server.
    ///
    /// # Errors
    /// As [`Place::reach`].
    pub async fn reach_any<T: Send, F>(
        servers: &[Self],
        attempt: impl Fn(Self) -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        race(servers.iter().map(|server| async { Ok(vec![server.clone()]) }), attempt).await
    }
}

/// The first of each queue, then the second of each, and so on.
fn in_turn<T>(mut queues: [VecDeque<T>; 2]) -> Vec<T> {
    let mut all = Vec::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        all.extend(queues.iter_mut().filter_map(VecDeque::pop_front));
    }
    all
}

/// Runs attempts at the candidates of several sources; see [`Place::reach`]. A source that is slow delays no other.
async fn race<C: fmt::Display + Send, T: Send, F: Future<Output = Result<T>> + Send>(
    sources: impl Iterator<Item = impl Future<Output = Result<Vec<C>>> + Send> + Send,
    attempt: impl Fn(C) -> F + Send + Sync,
) -> Result<T> {
    let mut sources: FuturesUnordered<_> =
        sources.enumerate().map(|(number, source)| async move { (number, source.await) }).collect();
    let mut waiting = Waiting { sources: (0..sources.len()).map(|_| (0, VecDeque::new())).collect() };
    let (mut attempts, mut failures) = (FuturesUnordered::new(), Vec::new());
    let (progress, mut next_start) = (Progress::current(), Instant::now());
    loop {
        if (attempts.is_empty() || next_start <= Instant::now())
            && let Some(candidate) = waiting.next()
        {
            let started = progress.started(&candidate);
            let running = attempt(candidate);
            attempts.push(async move { (started, running.await) });
            next_start = Instant::now() + STAGGER;
        }
        tokio::select! {
            Some((number, found)) = sources.next() => match found {
                Ok(found) => waiting.sources[number].1.extend(found),
                Err(error) => failures.push(error),
            },
            Some((started, outcome)) = attempts.next() => match outcome {
                Err(error) if !matches!(error.kind(), Forbidden | InvalidInput) => {
                    progress.failed(started, &error);
                    failures.push(error);
                    next_start = Instant::now();
                }
                decided => return decided,
            },
            () = sleep_until(next_start), if !waiting.is_empty() => {}
            else => return Err(all_failed(failures)),
        }
    }
}

/// The candidates that have not been started, by the source that they are from, with the number of those that have.
struct Waiting<C> {
    sources: Vec<(usize, VecDeque<C>)>,
}

impl<C> Waiting<C> {
    /// The next one of the source that has had the fewest.
    fn next(&mut self) -> Option<C> {
        let filled = self.sources.iter_mut().filter(|(_, queue)| !queue.is_empty());
        let (started, queue) = filled.min_by_key(|(started, _)| *started)?;
        *started += 1;
        queue.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.sources.iter().all(|(_, queue)| queue.is_empty())
    }
}

/// One error for all. The same call may succeed later if that is so at one of the places.
fn all_failed(mut failures: Vec<Error>) -> Error {
    if failures.len() < 2 {
        return failures.pop().unwrap_or_else(|| Error::new(Unavailable, "there is no server to connect to"));
    }
    let decisive = failures.iter().find(|error| error.is_transient()).or(failures.first());
    let kind = decisive.map_or(Unavailable, Error::kind);
    let causes: Vec<&str> = failures.iter().map(Error::message).collect();
    let message = format!("no connection to any of {} addresses: {}", causes.len(), causes.join("; "));
    Error::new(kind, message)
}

tokio::task_local! {
    static PROGRESS: Progress;
}

/// What has become of the attempts so far, for the error of an attempt that takes too long.
#[derive(Clone, Default)]
struct Progress(Arc<Mutex<Vec<Step>>>);

/// An attempt: its place, or the error that it ended with.
type Step = Result<String, String>;

impl Progress {
    /// That of the task, or one that nobody reads.
    fn current() -> Self {
        PROGRESS.try_with(Clone::clone).unwrap_or_default()
    }

    fn started(&self, place: &impl fmt::Display) -> usize {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push(Ok(place.to_string()));
        steps.len() - 1
    }

    fn failed(&self, number: usize, error: &Error) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps[number] = Err(error.message().to_owned());
    }

    fn late(&self, limit: Duration) -> Error {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Ok(place) => format!("no answer from {place}"),
                Err(failure) => failure.clone(),
            })
            .collect();
        let attempts =
            if attempts.is_empty() { String::new() } else { format!(" ({})", attempts.join("; ")) };
        let why = "is this the right address, and the right kind of server?";
        Error::new(Timeout, format!("no link within {limit:?}{attempts}: {why}"))
    }
}

/// Opens a link within a limit.
pub(crate) async fn open_link(
    driver: &dyn Driver,
    context: ConnectContext,
    limit: Duration,
) -> Result<Box<dyn Link>> {
    let progress = Progress::default();
    let opening = PROGRESS.scope(progress.clone(), driver.connect(context));
    timeout(limit, opening).await.unwrap_or_else(|_| Err(progress.late(limit)))
}

#[cfg(test)]
mod tests;
