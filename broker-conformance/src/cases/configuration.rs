//! Cases about URLs, options, and servers that cannot be reached.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use broker_core::{Backend, Broker, BrokerUrl, ConnectionState, ErrorKind, Options, Scope};
use tokio::runtime::{Builder, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, prepare},
    wait::{until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(constructing_does_no_io, [11]).needs(&[Need::OwnServer]),
    case!(an_invalid_url_or_option_is_named_before_any_io, [11]).needs(&[Need::OwnServer]),
    case!(connecting_to_a_stopped_server_fails_at_once, [6]).needs(&[Need::OwnServer, Need::Server]),
    case!(connecting_over_a_cut_line_fails_at_once, [6]).needs(&[Need::Server]),
    case!(connecting_to_a_silent_server_fails_within_the_limit, [6]).needs(&[Need::Server]),
    case!(a_node_may_start_before_its_server, [6, 10]).needs(&[Need::Server]),
    case!(an_unencoded_password_is_refused_and_not_shown, [11]).needs(&[Need::OwnServer]),
    case!(secrets_stay_out_of_errors_debug_and_logs, [11]).needs(&[Need::Server]),
];

/// Makes a broker on a runtime that never runs: whatever it opened, it opened while it was made.
async fn constructing_does_no_io(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    let idle = Builder::new_current_thread().enable_all().build()?;
    let broker = {
        let _entered = idle.enter();
        h.open(&line.url(), h.options())?
    };
    let state = broker.health().state;
    // Later than anything the construction may have begun.
    let node = h.node().await?;
    let with_node = h.connections().await?;
    node.close().await;
    assert_eq!(state, ConnectionState::Connecting);
    assert!(with_node > 0, "the server counts connections");
    // A server may notice some moments later that a node has left.
    until_is("connections beside a broker that was only made", 0, || h.connections()).await?;
    idle.shutdown_background();
    Ok(())
}

async fn an_invalid_url_or_option_is_named_before_any_io(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    let url = line.url();
    let key = if url.contains('?') { '&' } else { '?' };
    let (_, rest) = url.split_once(':').unwrap_or_default();
    for (url, part) in [
        (format!("gopher:{rest}"), "gopher"),
        (format!("{url}{key}no_such_key=1"), "`no_such_key`"),
        (format!("{url}{key}no_such_key=1"), "unsubscribe_delay"), // among the valid ones
        (format!("{url}{key}heartbeat=soon"), "heartbeat = `soon`"),
        (format!("{url}{key}heartbeat=0s"), "heartbeat"),
        (format!("{url}{key}heartbeat=1s&heartbeat=2s"), "`heartbeat` is given twice"),
        (format!("{url}{key}queue_capacity=0"), "queue_capacity = `0`"),
        (format!("{url}{key}queue_capacity=many"), "queue_capacity = `many`"),
        (format!("{url}{key}max_payload=900001"), "between 1 and 900000"),
        (format!("{url}{key}backoff_min=1s&backoff_max=1ms"), "backoff_max"),
        (format!("{url}{key}codec=xml"), "json or msgpack"),
        (format!("{url}{key}prefix=two.parts"), "one segment"),
        (format!("{url}#fragment"), "%23"),
        ("localhost".to_owned(), "has no scheme"),
        (String::new(), "scheme://"),
    ] {
        for outcome in [h.connect(&url, h.options()).await.err(), h.open(&url, h.options()).err()] {
            let Some(error) = outcome else { return Err(format!("`{url}` was taken").into()) };
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error}");
            assert!(error.to_string().contains(part), "`{url}` should name {part}: {error}");
            assert!(!error.is_transient() && !error.to_string().contains('\n'), "{error}");
        }
    }
    let mut options = h.options();
    options.queue_capacity = 0;
    let error = h.connect(&url, options).await.err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::InvalidInput));
    assert_eq!(h.connections().await?, 0);
    Ok(())
}

/// Connecting fails with one error, well before the limit for a server that does not answer.
async fn refused_at_once(h: &dyn Harness, url: &str) -> Outcome {
    let mut options = h.options();
    options.connect_timeout = Duration::from_secs(3600);
    let error = within("a refusal", h.connect(url, options)).await?.err();
    let Some(error) = error else { return Err("connected to nobody".into()) };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.operation(), Some("connect"), "{error}");
    assert_eq!(error.backend(), Some(h.backend().name), "{error}");
    Ok(())
}

async fn connecting_to_a_stopped_server_fails_at_once(h: &dyn Harness) -> Outcome {
    let url = h.url();
    h.kill_server().await?;
    refused_at_once(h, &url).await
}

async fn connecting_over_a_cut_line_fails_at_once(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    line.cut();
    refused_at_once(h, &line.url()).await?;
    line.heal();
    h.connect(&line.url(), h.options()).await?.close().await;
    Ok(())
}

async fn connecting_to_a_silent_server_fails_within_the_limit(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    line.stall();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut options = h.options();
    options.connect_timeout = Duration::from_millis(200);
    let began = Instant::now();
    let error = within("an error", h.connect(&line.url(), options)).await?.err();
    let Some(error) = error else { return Err("connected to nobody".into()) };
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains("200ms"), "{error}");
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    until("everything of the attempt to end", || tasks() <= before).await?;
    Ok(())
}

async fn a_node_may_start_before_its_server(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    line.cut();
    let node = h.open_on(Arc::clone(&line), |_| {})?;
    until("a failed attempt", || node.health().failures > 0).await?;
    assert_eq!(node.health().state, ConnectionState::Connecting);
    assert_eq!(node.health().last_error.map(|error| error.kind()), Some(ErrorKind::Unavailable));

    let error = node.publish("news", "too early", Scope::Global).await.err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Unavailable));
    node.publish("news", "for nobody", Scope::Local).await?;

    let subscribing = {
        let broker = node.broker.clone();
        tokio::spawn(async move { broker.subscribe("news").await })
    };
    line.heal();
    within("the server is there", node.ready()).await??;
    let mut news = subscribing.await??;
    node.publish("news", "in time", Scope::Global).await?;
    assert_eq!(crate::wait::collect(&mut news, 1).await?, ["in time"]);
    assert_eq!((node.health().state, node.health().failures), (ConnectionState::Connected, 0));
    Ok(())
}

const SECRET: &str = "hunter2";

/// The same URL with a user and a password that nobody knows.
fn with_secret(url: &str) -> String {
    with_credentials(url, &format!("ada:{SECRET}"))
}

fn with_credentials(url: &str, credentials: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{credentials}@{place}")
}

/// Credentials that a URL cannot hold as they are: no reader of URLs finds their end.
fn unquoted() -> Vec<String> {
    let passwords = ["/", "?", "#", "@/"].iter().flat_map(|end| {
        [
            format!("{SECRET}{end}x"),
            format!("x{end}{SECRET}"),
            format!("123{end}{SECRET}"),
            format!("{end}{SECRET}"),
        ]
    });
    passwords.flat_map(|password| [format!("ada:{password}"), format!(":{password}"), password]).collect()
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A password that is not percent-encoded is refused, with how to write it, and never taken for a place.
async fn an_unencoded_password_is_refused_and_not_shown(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    for credentials in unquoted() {
        let url = with_credentials(&line.url(), &credentials);
        for error in [h.connect(&url, h.options()).await.err(), h.open(&url, h.options()).err()] {
            let Some(error) = error else { return Err(format!("`{url}` was taken").into()) };
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error}");
            assert!(
                error.message().contains("%2F") && error.message().contains("last `@`"),
                "{url}: {error}"
            );
            assert!(!format!("{error} {error:?}").contains(SECRET), "{url}: {error}");
        }
    }
    assert_eq!(h.connections().await?, 0);
    Ok(())
}

/// Whatever can be shown of brokers with a secret in their URL: refused by the server, cut off, mistyped.
async fn secrets_stay_out_of_errors_debug_and_logs(h: &dyn Harness) -> Outcome {
    let (there, cut) = (h.line().await?, h.line().await?);
    cut.cut();
    let urls = vec![
        with_secret(&there.url()),
        with_secret(&cut.url()),
        cut.url(), // a backend may refuse to have users at all; this one is tried, and fails, on all
        // Without the colon before it, which makes it a user, and for some backends a token.
        with_credentials(&there.url(), SECRET),
        with_credentials(&cut.url(), SECRET),
        with_secret(&there.url()) + "#",
        format!("gopher://ada:{SECRET}@localhost/?token={SECRET}"),
        format!("{}&token={SECRET}", with_secret(&format!("{}?heartbeat=1s", h.url()))),
    ];
    let (backend, options) = (h.backend(), h.options());
    let log = Log::default();
    let writer = log.clone();
    // A thread and a runtime of its own, so that everything logged on the way ends up here.
    let shown = tokio::task::spawn_blocking(move || {
        let log = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
        let _logging = log.with_writer(move || writer.clone()).finish().set_default();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(show_everything(backend, &urls, options))
    });
    let shown = within("every attempt to end", shown).await???;
    assert!(shown.len() >= 12, "{shown:?}");
    for text in shown.into_iter().chain([log.text()]) {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(log.text().contains("the link is down"), "the log is not the broker's: {}", log.text());
    Ok(())
}

async fn show_everything(backend: Backend, urls: &[String], options: Options) -> io::Result<Vec<String>> {
    let mut shown = Vec::new();
    for url in urls {
        shown.push(format!("{:?}", BrokerUrl::parse(url)));
        let connected = async {
            let (driver, options) = prepare(backend, url, options.clone())?;
            Broker::connect(driver, options).await
        };
        if let Err(error) = connected.await {
            shown.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));
        }
        let opened = prepare(backend, url, options.clone());
        let Ok(broker) = opened.and_then(|(driver, options)| Broker::start(driver, options)) else {
            continue;
        };
        shown.push(fails(&broker).await);
    }
    Ok(shown)
}

/// Everything a broker shows of itself after its first failure; or when it is connected, where anybody may come.
async fn fails(broker: &Broker) -> String {
    let tried = || broker.health().failures > 0 || broker.health().is_connected();
    let failed = until("a failure", tried).await;
    let health = broker.health();
    let post = broker.publish("news", "post", Scope::Global).await;
    let shown = format!("{failed:?} {broker:?} {health:?} {:?} {post:?}", broker.session());
    broker.close().await;
    shown
}
