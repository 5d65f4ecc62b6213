//! Guest: the suite at a server that is somebody's own. Nodes get lines that break on purpose, as always, and the server
//! is left alone: what would have to control it is lacking, and a case that asks for it is left out.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use broker::{BrokerUrl, Options, driver::random};
use tokio::{net::lookup_host, time::timeout};
use url::Url;

use crate::{
    case::{Case, Need},
    cases,
    harness::{Entry, HARNESSES, Harness, Line, ProxyLine, quick_options},
    proxy::Proxy,
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
pub struct Guest {
    entry: &'static Entry,
    url: Url,
    upstream: SocketAddr,
    prefix: String,
}

impl Guest {
    /// Looks a server up, and connects to nothing yet.
    ///
    /// # Errors
    /// The URL is wrong, names nothing, or nothing that a line could lead to.
    pub async fn new(raw: &str) -> Result<Self, String> {
        let parsed = BrokerUrl::parse(raw).map_err(|error| error.to_string())?;
        let (scheme, default) = match parsed.scheme() {
            "redis" => ("redis", 6379),
            "nats" => ("nats", 4222),
            "amqp" => ("rabbitmq", 5672),
            other => {
                return Err(format!(
                    "conformance needs redis://, nats:// or amqp://, through which its lines can break; not {other}:"
                ));
            }
        };
        let entry = HARNESSES.iter().find(|entry| entry.name() == scheme).ok_or("no such backend")?;
        if parsed.hosts().len() != 1 {
            return Err("conformance needs the URL of one server".to_owned());
        }
        let place = (parsed.host().unwrap_or_default(), parsed.port().unwrap_or(default));
        let found = lookup_host(place).await.map_err(|error| format!("{}:{}: {error}", place.0, place.1))?;
        let upstream = found.into_iter().next().ok_or_else(|| format!("{}: no address", place.0))?;
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
        Ok(Self { entry, url, upstream, prefix: format!("conformance-{:08x}", random() as u32) })
    }

    /// What every channel begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The cases that are for all backends, those that are left out among them. Those about one alone are not tried:
    /// most of them control its server, and RabbitMQ's do so without declaring that they need it.
    pub fn cases(&self) -> impl Iterator<Item = &'static Case> {
        cases::all()
    }

    /// Runs one case.
    pub async fn run(&self, case: &'static Case) -> Verdict {
        const HARMFUL: [Need; 4] = [Need::OwnServer, Need::Process, Need::Durable, Need::Permissions];
        if case.needs.iter().any(|need| HARMFUL.contains(need)) {
            return Verdict::LeftOut("it needs a server of its own".to_owned());
        }
        if case.promises.contains(&REVOCATION) {
            return Verdict::LeftOut("it would leave a revocation log behind".to_owned());
        }
        if let Some(reason) = case.not_applicable(self.entry) {
            return Verdict::LeftOut(reason);
        }
        let visit = Arc::new(Visit {
            backend: self.entry.name(),
            url: self.url.clone(),
            upstream: self.upstream,
            prefix: self.prefix.clone(),
            lacked: Mutex::new(None),
        });
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

/// One case at the server.
#[derive(Debug)]
struct Visit {
    backend: &'static str,
    url: Url,
    upstream: SocketAddr,
    prefix: String,
    /// What a case has asked for in vain.
    lacked: Mutex<Option<&'static str>>,
}

impl Visit {
    fn lacked(&self) -> Option<&'static str> {
        *self.lacked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lacks<T>(&self, what: &'static str) -> Result<T, String> {
        *self.lacked.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        Err(format!("a guest cannot {what}"))
    }

    /// The same server by way of another address.
    fn url_at(&self, addr: SocketAddr) -> Result<String, String> {
        let mut url = self.url.clone();
        let set =
            url.set_host(Some(&addr.ip().to_string())).is_ok() && url.set_port(Some(addr.port())).is_ok();
        if set { Ok(url.into()) } else { Err("the url has no place for a port".to_owned()) }
    }
}

#[async_trait]
impl Harness for Visit {
    fn backend(&self) -> &'static str {
        self.backend
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
        let proxy = Proxy::start(self.upstream).await.map_err(|error| format!("proxy: {error}"))?;
        let url = self.url_at(proxy.addr())?;
        Ok(Arc::new(ProxyLine { proxy: Arc::new(proxy), url }))
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

    async fn subscribed_channels(&self) -> Result<Vec<String>, String> {
        self.lacks("ask the server who is subscribed")
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
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_one_server_that_a_line_can_lead_to_will_do() {
        for (url, part) in [
            ("memory:", "not memory:"),
            ("rediss://localhost", "not rediss:"),
            ("nats://127.0.0.1,127.0.0.2", "one server"),
            ("redis://host.invalid", "host.invalid:6379"),
            ("nothing", "no scheme"),
        ] {
            let error = Guest::new(url).await.expect_err("refused");
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn credentials_and_options_go_along_and_the_prefix_is_our_own() {
        let guest =
            Guest::new("redis://ada:s3cret@127.0.0.1:7000/?prefix=shop&heartbeat=2s").await.expect("a guest");
        assert!(guest.prefix.starts_with("conformance-"));
        let visit = Visit {
            backend: "redis",
            url: guest.url.clone(),
            upstream: guest.upstream,
            prefix: guest.prefix.clone(),
            lacked: Mutex::default(),
        };
        let url = visit.url_at(SocketAddr::from(([127, 0, 0, 1], 9))).expect("a url");
        assert_eq!(url, "redis://ada:s3cret@127.0.0.1:9/?heartbeat=2s");
        assert!(visit.kill_server().await.is_err());
        assert_eq!(visit.lacked(), Some("kill the server"));
    }
}
