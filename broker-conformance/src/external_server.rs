//! ExternalServer: the suite at a server that is already in use. Nodes get lines that break on purpose, as always, and
//! the server is left alone: the harness cannot control it, and a case that asks for that is left out.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    Backend, Broker, BrokerUrl, Error, ErrorKind, Options,
    driver::{Capabilities, Driver, Scheme, Transport, random},
};
use tokio::{net::lookup_host, time::timeout};
use url::Url;

use crate::{
    case::{Case, Need},
    cases,
    harness::{Harness, prepare, quick_options},
    line::{Line, ProxyLines},
    watch::Watch,
};

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(300);
/// The promise of revocation. Its cases would leave logs behind at the server, and are left out.
const REVOCATION: u8 = 9;

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not: why.
    Broken(String),
    /// It cannot be shown here: why.
    LeftOut(String),
}

/// See the module.
#[derive(Debug)]
pub struct ExternalServer {
    backend: Backend,
    capabilities: Capabilities,
    url: Url,
    upstream: SocketAddr,
    prefix: String,
}

impl ExternalServer {
    /// Looks a server up, and connects to it once to see what its links promise.
    ///
    /// # Errors
    /// The URL is wrong, is not one of the backend, or names no single host that can be found; its scheme is one that a
    /// proxy cannot stand before; or there is no link.
    pub async fn new(raw: &str, backend: Backend) -> Result<Self, String> {
        let (driver, options) =
            prepare(backend, raw, Options::default()).map_err(|error| error.to_string())?;
        let parsed = BrokerUrl::parse(raw).map_err(|error| error.to_string())?;
        let Some(default_port) = default_port(backend, parsed.scheme()) else {
            let schemes: Vec<String> = plain(backend).map(|scheme| format!("{scheme}://")).collect();
            return Err(format!(
                "conformance breaks connections between here and the server, which takes {}, not {}:",
                if schemes.is_empty() { "a server".to_owned() } else { schemes.join(" or ") },
                parsed.scheme()
            ));
        };
        if parsed.hosts().len() != 1 {
            return Err("conformance needs the URL of one server".to_owned());
        }
        let place = (parsed.host().unwrap_or_default(), parsed.port().unwrap_or(default_port));
        let found = lookup_host(place).await.map_err(|error| format!("{}:{}: {error}", place.0, place.1))?;
        let upstream = found.into_iter().next().ok_or_else(|| format!("{}: no address", place.0))?;
        let capabilities = promised(driver, options).await.map_err(|error| error.to_string())?;
        let mut url = Url::parse(raw).map_err(|_| "the url cannot be read".to_owned())?;
        // One of our own: nothing is published where an application listens.
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(key, _)| key != "prefix")
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
        let prefix = format!("conformance-{:08x}", random() as u32);
        Ok(Self { backend, capabilities, url, upstream, prefix })
    }

    /// What every channel begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The cases that are for all backends, those that are left out among them. Those about one alone are not tried:
    /// most of them control its server, and not all declare it.
    pub fn cases(&self) -> impl Iterator<Item = Case> + use<> {
        cases::all()
    }

    fn visit(&self) -> Visit {
        Visit {
            backend: self.backend,
            capabilities: self.capabilities,
            url: self.url.clone(),
            upstream: self.upstream,
            prefix: self.prefix.clone(),
            lines: ProxyLines::default(),
            watch: Watch::new(),
            lacked: Mutex::new(None),
        }
    }

    /// Runs one case.
    pub async fn run(&self, case: Case) -> Verdict {
        const HARMFUL: [Need; 4] = [Need::OwnServer, Need::Process, Need::Durable, Need::Permissions];
        if case.needs.iter().any(|need| HARMFUL.contains(need)) {
            return Verdict::LeftOut("it needs a server of its own".to_owned());
        }
        if case.promises.contains(&REVOCATION) {
            return Verdict::LeftOut("it would leave a revocation log behind".to_owned());
        }
        if let Some(reason) = case.not_applicable_to(&self.capabilities, |_| None) {
            return Verdict::LeftOut(reason);
        }
        let visit = Arc::new(self.visit());
        let running = Arc::clone(&visit);
        // A task of its own: it may panic.
        let task = tokio::spawn(async move { (case.run)(&*running).await });
        let outcome = match timeout(LIMIT, task).await {
            Ok(Ok(outcome)) => outcome.map_err(|failure| format!("{failure:?}")),
            Ok(Err(panic)) => Err(panic.to_string()),
            Err(_) => Err(format!("hangs: not done within {LIMIT:?}")),
        };
        match (outcome, visit.lacked()) {
            (Ok(()), _) => Verdict::Holds,
            (Err(_), Some(what)) => Verdict::LeftOut(format!("it would have to {what}")),
            (Err(reason), None) => Verdict::Broken(reason),
        }
    }
}

/// The port of a URL without one, where a proxy can stand before the server.
fn default_port(backend: Backend, scheme: &str) -> Option<u16> {
    match backend.scheme(scheme)?.transport {
        Transport::Plain { default_port, .. } | Transport::ByKey { default_port, .. } => Some(default_port),
        _ => None,
    }
}

/// The schemes of servers that a proxy can stand before.
fn plain(backend: Backend) -> impl Iterator<Item = &'static str> {
    let is_plain =
        |scheme: &&Scheme| matches!(scheme.transport, Transport::Plain { .. } | Transport::ByKey { .. });
    backend.schemes.iter().filter(is_plain).map(|scheme| scheme.name)
}

/// What the links to a server promise beyond the contract.
async fn promised(driver: Arc<dyn Driver>, options: Options) -> Result<Capabilities, Error> {
    let broker = Broker::connect(driver, options).await?;
    let capabilities = broker.capabilities();
    broker.close().await;
    capabilities.ok_or_else(|| Error::new(ErrorKind::Other, "a link says nothing of what it promises"))
}

/// One case at the server.
#[derive(Debug)]
struct Visit {
    backend: Backend,
    capabilities: Capabilities,
    url: Url,
    upstream: SocketAddr,
    prefix: String,
    lines: ProxyLines,
    watch: Watch,
    /// What a case has asked for in vain.
    lacked: Mutex<Option<&'static str>>,
}

impl Visit {
    fn lacked(&self) -> Option<&'static str> {
        *self.lacked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lacks<T>(&self, what: &'static str) -> Result<T, String> {
        *self.lacked.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        Err(format!("the suite cannot {what} here"))
    }

    /// The same server by way of another address.
    fn url_at(&self, addr: SocketAddr) -> String {
        let mut url = self.url.clone();
        // Neither fails for a URL that has a host.
        let _ = (url.set_host(Some(&addr.ip().to_string())), url.set_port(Some(addr.port())));
        url.into()
    }
}

#[async_trait]
impl Harness for Visit {
    fn backend(&self) -> Backend {
        self.backend
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn options(&self) -> Options {
        let mut options = quick_options();
        options.prefix.clone_from(&self.prefix);
        options
    }

    fn url(&self) -> String {
        self.url.clone().into()
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add(self.upstream, |addr| self.url_at(addr)).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.lacks("kill the server")
    }

    async fn start_server(&self) -> Result<(), String> {
        self.lacks("start the server")
    }

    async fn pause_server(&self) -> Result<(), String> {
        self.lacks("pause the server")
    }

    async fn resume_server(&self) -> Result<(), String> {
        self.lacks("pause the server")
    }

    async fn drop_links(&self) -> Result<(), String> {
        self.lacks("close connections at the server")
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn connections(&self) -> Result<usize, String> {
        self.lacks("count connections at the server")
    }

    async fn publish_raw(&self, _channel: &str, _bytes: &[u8]) -> Result<(), String> {
        self.lacks("publish what is no message of ours")
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.lacks("wipe the revocation log")
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.lacks("trim the revocation log")
    }

    async fn save_data(&self) -> Result<(), String> {
        self.lacks("save the server's data")
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.lacks("restore the server's data")
    }

    async fn allow_only(&self, _start: &str) -> Result<(), String> {
        self.lacks("change permissions")
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.lacks("change permissions")
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.lacks("change permissions")
    }
}

#[cfg(test)]
mod tests;
