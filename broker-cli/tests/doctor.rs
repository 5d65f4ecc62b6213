//! `broker doctor` beside a healthy server and broken ones: the right line fails, with a remedy that can be used. And
//! `broker conformance` beside a healthy one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{process::ExitCode, time::Duration};

use broker_cli::{Cli, Console, run};
use broker_conformance::{case::Need, harness::Harness, required};
use clap::Parser;
use integration_tests::{
    harness::ENTRIES,
    servers::{
        Server,
        nats::{self, config::NatsConfig, process::NatsServer},
        postgres::{self, Postgres, config::PostgresConfig, process::PostgresServer},
        redis::{self, config::RedisConfig, process::RedisServer, sentinel::RedisSentinel},
    },
};
use tokio::{
    io::{AsyncReadExt, duplex},
    net::TcpListener,
    time::timeout,
};

/// For what hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// What it prints, and whether nothing failed. A check may take as long as a busy machine needs.
async fn doctor(url: &str) -> (String, bool) {
    doctor_with(&[url, "--limit", "60"]).await
}

async fn doctor_with(words: &[&str]) -> (String, bool) {
    let (output, mut printed) = duplex(1 << 20);
    let cli = Cli::try_parse_from([&["broker", "doctor"], words].concat()).unwrap();
    let examined = run(cli, Console::new(tokio::io::empty(), output, tokio::io::sink()));
    let code = timeout(LIMIT, examined).await.expect("it ends").unwrap();
    let mut text = String::new();
    printed.read_to_string(&mut text).await.unwrap();
    // An exit code can be compared in no other way.
    (text, format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS))
}

/// The suite's cases that leave a server alone hold on a fresh one; here a few of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_against_an_own_server() {
    let Some(server) = start_redis(RedisConfig::default().password("s3cret")).await else { return };
    let url = server.url_at(server.addr());
    for (part, line) in [
        ("subscribed_means_subscribed", "ok    subscribed means subscribed"),
        ("a_stalled_line_is_detected", "ok    a stalled line is detected and recovers"),
        ("a_hanging_server", "-     a hanging server is detected and recovers: it needs a server of its own"),
    ] {
        let (output, mut printed) = duplex(1 << 20);
        let cli = Cli::try_parse_from(["broker", "conformance", &url, "--case", part]).unwrap();
        run(cli, Console::new(tokio::io::empty(), output, tokio::io::sink())).await.unwrap();
        let mut text = String::new();
        printed.read_to_string(&mut text).await.unwrap();
        assert!(text.lines().any(|found| found.starts_with(line)), "no `{line}`:\n{text}");
        assert!(text.contains(" 0 failed") && !text.contains("s3cret"), "{text}");
    }
}

/// The line of a check begins like this, and the remedy under it has these words.
fn assert_line(text: &str, start: &str, remedy: &str) {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(start));
    assert!(lines.next().is_some(), "no line `{start}`:\n{text}");
    let under = lines.next().unwrap_or_default();
    assert!(
        under.trim_start().starts_with('→') && under.contains(remedy),
        "no `{remedy}` under `{start}`:\n{text}"
    );
}

/// Without the server it is no test: where somebody insists on one, it fails.
fn is_there(backend: &str, available: Result<(), String>) -> bool {
    let Err(reason) = available else { return true };
    assert!(!required(backend), "{backend}: {reason}");
    eprintln!("{backend} is left out: {reason}");
    false
}

/// The same text where echoes are quick: on a machine that is busy they may not be.
fn whatever_an_echo_takes(text: &str) -> String {
    let slow = text.lines().position(|line| line.starts_with("warn  latency "));
    let lines = text.lines().enumerate().filter(|(at, _)| slow.is_none_or(|slow| *at != slow + 1));
    lines.map(|(_, line)| line.replace("warn  latency ", "ok    latency ") + "\n").collect()
}

async fn start_redis(config: RedisConfig) -> Option<RedisServer> {
    if !is_there("redis", redis::process::available()) {
        return None;
    }
    Some(RedisServer::start(config).await.unwrap())
}

const CHECKS: [&str; 12] = [
    "url",
    "connect",
    "version",
    "tls",
    "permissions",
    "barrier",
    "latency",
    "payload",
    "revocations",
    "clock",
    "idle",
    "link",
];

#[tokio::test]
async fn a_healthy_server_is_healthy_in_every_line() {
    let mut servers: Vec<Box<dyn Harness>> = Vec::new();
    for entry in ENTRIES {
        if is_there(entry.name(), (entry.available)().await) {
            servers.push((entry.start)(&[Need::Durable]).await.unwrap());
        }
    }
    let urls = servers.iter().map(|server| server.url());
    for url in urls.chain(["memory:".to_owned()]) {
        let (text, healthy) = doctor(&url).await;
        let text = whatever_an_echo_takes(&text);
        assert!(healthy && !text.contains('→'), "{text}");
        for (line, check) in text.lines().zip(CHECKS) {
            // The one server that says neither its version nor the time.
            let word =
                if url.starts_with("amqp") && ["version", "clock"].contains(&check) { "-" } else { "ok" };
            assert!(line.starts_with(&format!("{word:<5} {check} ")), "{check}:\n{text}");
        }
        assert_eq!(text.lines().count(), CHECKS.len(), "{text}");
        assert!(!text.contains("takes 0 µs"), "nothing is that fast: {text}");
        if !url.starts_with("memory") {
            assert!(text.contains("that the server writes to disk"), "{text}");
        }
        if url.starts_with("redis") || url.starts_with("nats") {
            let version = text.lines().find(|line| line.contains(" version ")).unwrap();
            assert!(version.contains(|c: char| c.is_ascii_digit()), "{text}");
        }
    }
    drop(servers);
    ENTRIES.iter().for_each(|entry| (entry.end)());
}

#[tokio::test]
async fn servers_behind_sentinels_are_examined_as_one() {
    if !is_there("redis", redis::process::available()) {
        return;
    }
    let (servers, sentinels) = (RedisConfig::default().durable(), RedisConfig::default().password("s3cret"));
    let cluster = RedisSentinel::start(servers, sentinels).await.unwrap();
    let url = cluster.url("redis+sentinel", "&sentinel_password=s3cret");
    let (text, healthy) = doctor(&url).await;
    assert!(healthy && !whatever_an_echo_takes(&text).contains('→') && !text.contains("s3cret"), "{text}");
    assert_eq!(text.lines().count(), CHECKS.len(), "{text}");
    let hosts: Vec<String> = cluster.sentinels().iter().map(|sentinel| sentinel.addr().to_string()).collect();
    assert!(text.contains(&format!("redis+sentinel://{}\n", hosts.join(","))), "{text}");
    let (text, healthy) = doctor(&url.replace("master=main", "master=mian")).await;
    assert!(!healthy && text.contains("watches no master `mian`") && !text.contains("s3cret"), "{text}");
    assert_line(&text, "fail  connect ", "or the URL, as the message says");
}

#[tokio::test]
async fn a_log_that_a_restart_discards_is_a_warning() {
    let Some(server) = start_redis(RedisConfig::default()).await else { return };
    let (text, healthy) = doctor(&server.url_at(server.addr())).await;
    assert!(healthy, "{text}");
    assert_line(&text, "warn  revocations ", "appendonly yes");
}

#[tokio::test]
async fn an_idle_limit_within_the_heartbeat_is_a_warning() {
    let Some(server) = start_redis(RedisConfig::default().line("timeout 2")).await else { return };
    let (text, healthy) = doctor(&server.url_at(server.addr())).await;
    assert!(healthy && text.contains("idle for 2.0 s, and the heartbeat is 5.0 s"), "{text}");
    assert_line(&text, "warn  idle ", "timeout 0");
}

#[tokio::test]
async fn a_wrong_password_fails_to_connect_and_is_not_shown() {
    let Some(server) = start_redis(RedisConfig::default().password("right")).await else { return };
    let (text, healthy) = doctor(&format!("redis://:wr0ng@{}", server.addr())).await;
    assert!(!healthy && !text.contains("wr0ng"), "{text}");
    assert_line(&text, "fail  connect ", "check user and password");
}

#[tokio::test]
async fn a_user_without_the_applications_channels_lacks_permissions() {
    let rules = "anna on >secret resetchannels &$* ~* +@all";
    let Some(server) = start_redis(RedisConfig::default().user(rules)).await else { return };
    let (text, healthy) = doctor(&format!("redis://anna:secret@{}", server.addr())).await;
    assert!(!healthy, "{text}");
    assert!(text.contains("\nok    connect "), "{text}");
    assert_line(&text, "fail  permissions ", "grant the user subscribe and publish");
}

#[tokio::test]
async fn nats_without_jetstream_fails_unless_revocations_are_off() {
    if !is_there("nats", nats::process::program().map(drop)) {
        return;
    }
    let server = NatsServer::start(NatsConfig::default()).await.unwrap();
    let url = server.url_at(server.addr());
    let (text, healthy) = doctor(&url).await;
    assert!(!healthy && text.contains("the server runs "), "{text}");
    assert_line(&text, "fail  revocations ", "JetStream");
    let (text, healthy) = doctor_with(&[&url, "--without-revocations", "--limit", "60"]).await;
    assert!(
        healthy && text.contains("\n-     revocations  not checked: --without-revocations was given\n"),
        "{text}"
    );
}

/// The server answers: so it is not said to be frozen.
#[tokio::test]
async fn a_limit_for_statements_that_is_too_short_is_named() {
    if !is_there("postgres", postgres::process::available()) {
        return;
    }
    let server = PostgresServer::start(PostgresConfig::default()).await.unwrap();
    // In a time so short some statements are done by chance.
    let slow = "ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_itself; \
                CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(3600)'; \
                ALTER ROLE app SET statement_timeout = '10ms'";
    server.control().run("app", slow).await.unwrap();
    let (text, healthy) = doctor(&server.url_at(server.addr())).await;
    assert!(!healthy && text.contains("`statement_timeout`"), "{text}");
    assert_line(&text, "fail  connect ", "change the configuration of the server");
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_half_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for scheme in ["redis", "nats", "amqp"] {
        // The limit is waited for.
        let (text, healthy) = doctor_with(&[&format!("{scheme}://{address}"), "--limit", "3"]).await;
        assert!(!healthy, "{text}");
        assert_line(&text, "fail  connect ", "takes connections and does not answer");
    }
}

#[tokio::test]
async fn an_unreachable_server_and_an_invalid_url_are_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (text, healthy) = doctor(&format!("redis://{address}")).await;
    assert!(!healthy, "{text}");
    assert_line(&text, "fail  connect ", "start the server");
    let (text, healthy) = doctor("localhost").await;
    assert!(!healthy, "{text}");
    assert_line(&text, "fail  url ", "redis://user:password@host");
    let (text, healthy) = doctor("nats://ada:sec/ret@127.0.0.1").await;
    assert!(!healthy, "{text}");
    assert_line(&text, "fail  url ", "nats://user:password@host");
}

/// What cannot be parsed is not taken for a place either, nor shown.
#[tokio::test]
async fn an_unencoded_password_is_not_shown() {
    for url in [
        "redis://ada:123/s3cret@127.0.0.1:1",
        "redis://:s3cret#1@127.0.0.1:1",
        "nats://s3cret?x@127.0.0.1:1",
        "amqp://ada:s3cret",
        "ada:s3cret@127.0.0.1",
        "redis://s3cret@127.0.0.1:1",
    ] {
        let (text, fine) = doctor(url).await;
        assert!(!fine && text.contains("fail") && !text.contains("s3cret"), "{url}:\n{text}");
    }
}
