//! A name with two addresses, of which the first does not answer: every backend is reached by the second, and TLS
//! verifies the name.
//!
//! The names are those of a file of hosts that only the tested command sees: it is run in a mount namespace of its
//! own. Where this user may not have one, the test is left out, and says so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use broker::Reach;
use broker_conformance::required;
use integration_tests::{
    harness::ENTRIES,
    servers::{
        self, Server, certificates::Certificates, nats::config::NatsConfig, redis::config::RedisConfig,
    },
    silent::Silent,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(60);
/// What `localhost` is here. The resolver prefers the first.
const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.9 localhost\n";
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Runs a command that takes the file for that of the system.
async fn with_hosts(hosts: &Path, command: &[&str]) -> Output {
    let script = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    let mut child = Command::new("unshare");
    child.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]).args(command);
    child.stdin(Stdio::null()).kill_on_drop(true);
    timeout(LIMIT, child.output()).await.expect("it ends").unwrap()
}

/// Passes connections on.
async fn relay(listener: TcpListener, to: SocketAddr) {
    while let Ok((mut from, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut server = TcpStream::connect(to).await.unwrap();
            let _ended = copy_bidirectional(&mut from, &mut server).await;
        });
    }
}

/// Posts to `url`, whose place is replaced by a name of two addresses.
async fn post(hosts: &Path, url: &str, server: SocketAddr) {
    for silent in [
        Silent::from_the_start(Ipv4Addr::LOCALHOST.into()).await.unwrap(),
        Silent::after_accepting().await.unwrap(),
    ] {
        let port = silent.addr().port();
        let relaying = tokio::spawn(relay(TcpListener::bind((SECOND, port)).await.unwrap(), server));
        let url = url.replace(&server.to_string(), &format!("localhost:{port}"));
        let posted = with_hosts(hosts, &[env!("CARGO_BIN_EXE_broker"), "pub", &url, "news", "hello"]).await;
        let said = String::from_utf8_lossy(&posted.stderr);
        assert!(posted.status.success(), "{url} {silent:?}: {said}");
        relaying.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_address_is_used_when_the_first_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, HOSTS).unwrap();
    let shown = with_hosts(&hosts, &["getent", "ahosts", "localhost"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout);
    if !shown.starts_with("127.0.0.1") || !shown.contains("127.0.0.9") {
        eprintln!("left out: no mount namespace with a file of hosts of its own here");
        return;
    }
    let certificates = Arc::new(Certificates::new().unwrap());
    let ca = format!("?ca={}", certificates.authority().display());
    for entry in ENTRIES.iter().filter(|entry| entry.capabilities.reach == Reach::Cluster) {
        if let Err(reason) = (entry.available)().await {
            assert!(!required(entry.name()), "{}: {reason}", entry.name());
            eprintln!("{} is left out: {reason}", entry.name());
            continue;
        }
        let plain = (entry.start)(&[]).await.unwrap();
        let url = plain.url();
        let place = url.rsplit_once('@').map_or(&*url, |(_, place)| place);
        let place = place.split("://").last().unwrap().split('/').next().unwrap();
        post(&hosts, &url, place.parse().unwrap()).await;
        if entry.name() == "rabbitmq" {
            let server = servers::rabbitmq::start().await.unwrap();
            let ca = server.certificates().authority();
            post(&hosts, &format!("amqps://{}/?ca={}", server.tls(), ca.display()), server.tls()).await;
            continue;
        }
        let server: Box<dyn Server> = match entry.name() {
            "redis" => {
                let config = RedisConfig::default().tls(Arc::clone(&certificates), false);
                servers::redis::start_own(config).await.unwrap()
            }
            _ => {
                let config = NatsConfig::default().tls(Arc::clone(&certificates), false);
                servers::nats::start(config).await.unwrap()
            }
        };
        post(&hosts, &(server.url_at(server.addr()) + &ca), server.addr()).await;
    }
    ENTRIES.iter().for_each(|entry| (entry.end)());
}
