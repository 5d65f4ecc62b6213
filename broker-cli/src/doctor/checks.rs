//! The checks, in their order. Those that need a connection are left out when there is none.

use std::time::{Duration, Instant, SystemTime};

use broker::{
    Broker, Error, ErrorKind, Event, Identity, Options, Reach, Revocation, RevocationOutcome, Scope,
    Subscription,
};
use broker_core::{
    BrokerUrl,
    driver::{Transport, random},
};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::time::timeout;

use super::{
    Finding,
    server_report::{ServerReport, clock, idle, log, warnings},
};

/// How often what is quick is tried.
const TIMES: usize = 100;
/// An echo that takes longer than this is worth a look.
const SLOW: Duration = Duration::from_millis(50);

/// What is examined, and how far that has come.
pub(super) struct Examination<'a> {
    raw: &'a str,
    limit: Duration,
    revokes: bool,
    url: Option<BrokerUrl>,
    broker: Option<Broker>,
    report: Option<ServerReport>,
    next: usize,
    /// What the server's report warns of, and has not been shown.
    warnings: Vec<Finding>,
}

/// The channel of a check, which nobody else has.
fn channel() -> String {
    format!("doctor.{:016x}", random())
}

impl<'a> Examination<'a> {
    pub(super) fn new(raw: &'a str, limit: Duration, revokes: bool) -> Self {
        Self { raw, limit, revokes, url: None, broker: None, report: None, next: 0, warnings: Vec::new() }
    }

    /// What the next check finds; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Finding> {
        if let Some(warning) = self.warnings.pop() {
            return Some(warning);
        }
        self.next += 1;
        match self.next {
            1 => Some(self.parse()),
            2 => Some(self.connect().await).filter(|_| self.url.is_some()),
            number => {
                let (url, broker) = (self.url.as_ref()?, self.broker.as_ref()?);
                match number {
                    3 => Some(version(broker)),
                    4 => Some(encryption(url)),
                    5 => Some(subscribe(broker).await),
                    6 => Some(self.within("barrier", barrier(broker)).await),
                    7 => Some(self.within("latency", latency(broker)).await),
                    8 => Some(self.within("payload", payload(broker)).await),
                    9 => {
                        let stored = if self.revokes { Some(revoke_nobody(broker).await) } else { None };
                        let (options, began) = (broker.options().clone(), SystemTime::now());
                        let report = broker::inspect(self.raw, options).await.unwrap_or_default();
                        let finding = revocations(broker, stored, report.log_on_disk);
                        self.warnings = warnings(&report);
                        self.report = Some((began, report, SystemTime::now()));
                        Some(finding)
                    }
                    10 => Some(clock(broker.options().clock_skew, self.report.as_ref())),
                    11 => Some(idle(broker.options().heartbeat, self.report.as_ref())),
                    12 => Some(health(broker)),
                    _ => None,
                }
            }
        }
    }

    pub(super) async fn close(self) {
        if let Some(broker) = self.broker {
            broker.close().await;
        }
    }

    fn parse(&mut self) -> Finding {
        match BrokerUrl::parse(self.raw) {
            Ok(url) => {
                let finding = Finding::ok("url", place(&url));
                self.url = Some(url);
                finding
            }
            Err(error) => {
                Finding::fail("url", error.to_string(), format!("write it as in {}", example(self.raw)))
            }
        }
    }

    async fn connect(&mut self) -> Finding {
        let mut options = Options::default();
        (options.connect_timeout, options.subscribe_timeout) = (self.limit, self.limit);
        (options.publish_timeout, options.revoke_timeout) = (self.limit, self.limit);
        let began = Instant::now();
        match broker::connect_with(self.raw, options).await {
            Ok(broker) => {
                self.broker = Some(broker);
                Finding::ok("connect", format!("connected and echoing in {}", shown(began.elapsed())))
            }
            Err(error) => Finding::fail("connect", error.to_string(), self.remedy(&error)),
        }
    }

    async fn within(
        &self,
        check: &'static str,
        work: impl Future<Output = Result<Finding, Error>>,
    ) -> Finding {
        match timeout(self.limit, work).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(error)) => Finding::fail(check, error.to_string(), self.remedy(&error)),
            Err(_) => Finding::fail(
                check,
                format!("not done within {}", shown(self.limit)),
                "the server answers, but not in time: check its load and its log, or raise --limit",
            ),
        }
    }

    fn remedy(&self, error: &Error) -> String {
        let place = self.url.as_ref().map(place).unwrap_or_default();
        match error.kind() {
            ErrorKind::Forbidden => {
                "check user and password, and that the user may use the broker's own channels, which begin with `$`; \
                 the backend's page names every permission"
                    .to_owned()
            }
            ErrorKind::Timeout => format!(
                "do as the message says, if it names a setting; else something at {place} takes connections and does not answer: \
                 a frozen server, or a firewall that swallows packets; restart it, or look between"
            ),
            ErrorKind::Unavailable => {
                format!("start the server, or check host, port and firewall: nothing usable answers at {place}")
            }
            ErrorKind::Protocol => format!("another kind of server listens at {place}: check scheme and port"),
            ErrorKind::TooLarge => "raise the server's limit, or lower max_payload on every node".to_owned(),
            ErrorKind::Misconfigured => "change the configuration of the server, or the URL, as the message says".to_owned(),
            ErrorKind::Unsupported => "upgrade the server, or use another backend".to_owned(),
            ErrorKind::InvalidInput => "correct the URL as the message says".to_owned(),
            _ => "check the server's log".to_owned(),
        }
    }
}

/// What a URL with the scheme of this one looks like, if it has one that this build knows.
fn example(raw: &str) -> String {
    let (scheme, _) = raw.split_once(':').unwrap_or((raw, ""));
    let known = broker::backends().iter().find_map(|backend| backend.scheme(scheme));
    match known {
        Some(scheme) if scheme.transport == Transport::Local => format!("{}:", scheme.name),
        Some(scheme) => format!("{}://user:password@host", scheme.name),
        None => "redis://user:password@host:6379".to_owned(),
    }
}

/// Scheme, host and port; never the password.
fn place(url: &BrokerUrl) -> String {
    let hosts: Vec<String> = url
        .hosts()
        .map(|(host, port)| port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
        .collect();
    if hosts.is_empty() {
        format!("{}:{}", url.scheme(), url.path())
    } else {
        format!("{}://{}", url.scheme(), hosts.join(","))
    }
}

/// That it is new enough the connection has shown.
fn version(broker: &Broker) -> Finding {
    match (broker.health().server_version, broker.capabilities()) {
        (Some(version), _) => {
            Finding::ok("version", format!("the server runs {version}, which is supported"))
        }
        (None, Some(capabilities)) if capabilities.reach == Reach::Process => {
            Finding::ok("version", "part of this program")
        }
        (None, _) => Finding::unknown("version", "not reported by the server; what is needed of it works"),
    }
}

fn encryption(url: &BrokerUrl) -> Finding {
    let local = |host: &str| matches!(host, "localhost" | "::1" | "[::1]" | "") || host.starts_with("127.");
    let scheme = broker::backends().iter().find_map(|backend| backend.scheme(url.scheme()));
    let encrypted = match scheme.map(|scheme| scheme.transport) {
        Some(Transport::Encrypted) => return Finding::ok("tls", "encrypted"),
        Some(Transport::Local) => return Finding::ok("tls", "not needed: nothing leaves this machine"),
        Some(Transport::ByKey { key, plain, .. }) if url.key(key).is_some_and(|value| value != plain) => {
            return Finding::ok("tls", "encrypted");
        }
        Some(Transport::ByKey { key, .. }) => Some(format!("set the key `{key}` in the URL")),
        Some(Transport::Plain { encrypted, .. }) => encrypted.map(|scheme| format!("use {scheme}://")),
        _ => None,
    };
    if url.hosts().all(|(host, _)| local(host)) {
        return Finding::ok("tls", "not encrypted; nothing leaves this machine");
    }
    let remedy = match encrypted {
        Some(way) => format!("{way}, unless the network is yours alone"),
        None => "use it only in a network that is yours alone".to_owned(),
    };
    Finding::warn(
        "tls",
        "not encrypted: anybody on the way can read the password and everything else",
        remedy,
    )
}

async fn subscribe(broker: &Broker) -> Finding {
    let name = channel();
    let remedy = "grant the user subscribe and publish on the application's channels, and on `doctor.*` for this check";
    match broker.subscribe(&name).await {
        Err(error) => return Finding::fail("permissions", error.to_string(), remedy),
        Ok(subscription) => drop(subscription),
    }
    match broker.publish(&name, "may I?", Scope::Global).await {
        Err(error) => Finding::fail("permissions", error.to_string(), remedy),
        Ok(_) => Finding::ok("permissions", "may subscribe and publish"),
    }
}

/// The promise that subscribed means subscribed: what is published right after a subscription is received.
async fn barrier(broker: &Broker) -> Result<Finding, Error> {
    for _ in 0..TIMES {
        let name = channel();
        let mut subscription = broker.subscribe(&name).await?;
        broker.publish(&name, "at once", Scope::Global).await?;
        receive(&mut subscription).await?;
    }
    Ok(Finding::ok("barrier", format!("{TIMES} of {TIMES} posts right after a subscription were received")))
}

async fn latency(broker: &Broker) -> Result<Finding, Error> {
    let name = channel();
    let mut subscription = broker.subscribe(&name).await?;
    let of_ours = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Other, error.to_string());
    let mut took = Histogram::<u64>::new(3).map_err(|error| of_ours(&error))?;
    for _ in 0..TIMES {
        let posted = Instant::now();
        broker.publish(&name, "echo", Scope::Global).await?;
        receive(&mut subscription).await?;
        took.record(posted.elapsed().as_nanos() as u64).map_err(|error| of_ours(&error))?;
    }
    let at = |quantile| shown(Duration::from_nanos(took.value_at_quantile(quantile)));
    let what = format!("an echo takes {} (median), {} (p99)", at(0.5), at(0.99));
    if Duration::from_nanos(took.value_at_quantile(0.5)) > SLOW {
        return Ok(Finding::warn(
            "latency",
            what,
            "move server and backend closer together, or check the load of the backend",
        ));
    }
    Ok(Finding::ok("latency", what))
}

async fn payload(broker: &Broker) -> Result<Finding, Error> {
    let (name, most) = (channel(), broker.options().max_payload);
    let mut subscription = broker.subscribe(&name).await?;
    broker.publish(&name, Bytes::from(vec![b'x'; most]), Scope::Global).await?;
    receive(&mut subscription).await?;
    Ok(Finding::ok("payload", format!("the largest message of max_payload, {most} bytes, arrives")))
}

async fn receive(subscription: &mut Subscription) -> Result<(), Error> {
    match subscription.next().await {
        Some(Event::Message(_)) => Ok(()),
        Some(Event::Gap(gap)) => Err(Error::new(ErrorKind::Other, format!("instead of the message: {gap}"))),
        _ => Err(Error::new(ErrorKind::Other, "something other than the message arrived")),
    }
}

/// Reads the log of revocations, and appends to it.
async fn revoke_nobody(broker: &Broker) -> Result<RevocationOutcome, Error> {
    let nobody = channel();
    drop(broker.session_for(Identity::new(&nobody, Instant::now())).await?);
    broker.revoke(Revocation::user(&nobody)).await
}

/// Whether a revocation can be missed by a server that is cut off, or forgotten.
fn revocations(
    broker: &Broker,
    stored: Option<Result<RevocationOutcome, Error>>,
    on_disk: Option<bool>,
) -> Finding {
    match stored {
        None => Finding::unknown("revocations", "not checked: --without-revocations was given"),
        Some(Ok(RevocationOutcome::Logged)) => log(broker, on_disk),
        Some(Ok(_)) => Finding::fail(
            "revocations",
            "no log: a disconnected server misses the revocations made meanwhile",
            "enable the log (JetStream for NATS, Redis 7), or see the option on_unlogged_gap; for an application that \
             revokes no users give --without-revocations",
        ),
        Some(Err(error)) => Finding::fail(
            "revocations",
            error.to_string(),
            "grant the permissions for the revocation log that the backend's page names, or make room for it",
        ),
    }
}

/// Everything that went before has left the link whole.
fn health(broker: &Broker) -> Finding {
    let health = broker.health();
    if let Some(why) = health.degraded {
        return Finding::warn(
            "link",
            format!("a part of the backend is out of reach: {why}"),
            "start that server, or give this user its permissions there",
        );
    }
    match health.last_error {
        Some(error) if health.links > 1 || !health.is_connected() => Finding::warn(
            "link",
            format!("lost {} times meanwhile: {error}", health.links.saturating_sub(1)),
            "check the server's log for why it closes connections",
        ),
        _ => Finding::ok("link", "one connection for all checks"),
    }
}

pub(super) fn shown(duration: Duration) -> String {
    match duration {
        d if d.as_secs() > 0 => format!("{:.1} s", d.as_secs_f64()),
        d if d.as_millis() > 0 => format!("{:.1} ms", d.as_secs_f64() * 1e3),
        d => format!("{} µs", d.as_micros()),
    }
}
