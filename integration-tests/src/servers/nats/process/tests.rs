//! Tests of the private NATS server; ignored, with a word on standard error, where the program is missing.

use std::{sync::Arc, time::Duration};

use broker_conformance::required;

use super::{NatsServer, program};
use crate::servers::{
    Server,
    certificates::Certificates,
    nats::{
        Nats,
        config::NatsConfig,
        control::{ask, connections, publish_raw},
    },
};

/// A server, or `None` where there is no program and nobody insists on one.
async fn start(config: NatsConfig) -> Option<NatsServer> {
    if let Err(reason) = program() {
        assert!(!required("nats"), "{reason}");
        eprintln!("ignored: {reason}");
        return None;
    }
    Some(NatsServer::start(config).await.unwrap())
}

#[tokio::test]
async fn stops_and_starts_again_on_its_ports() {
    let Some(server) = start(NatsConfig::default()).await else { return };
    let (addr, monitor) = (server.addr(), server.monitor());
    assert_eq!(server.url_at(addr), format!("nats://{addr}"));
    publish_raw(addr, "news", b"\x00\xff").await.unwrap();
    for kill in [false, true] {
        for _ in 0..2 {
            if kill { server.kill().await.unwrap() } else { server.stop().await.unwrap() }
        }
        publish_raw(addr, "news", b"").await.unwrap_err();
        server.start_again().await.unwrap();
        server.start_again().await.unwrap_err();
        assert_eq!((server.addr(), server.monitor()), (addr, monitor));
        publish_raw(addr, "news", b"").await.unwrap();
    }
    assert!(connections(monitor).await.unwrap().is_empty());
}

#[tokio::test]
async fn paused_it_holds_connections_and_answers_nothing() {
    let Some(server) = start(NatsConfig::default()).await else { return };
    server.pause().await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(100), ask(server.monitor(), "varz")).await;
    assert!(silence.is_err(), "a paused server answered: {silence:?}");
    server.resume().await.unwrap();
    ask(server.monitor(), "varz").await.unwrap();
    server.pause().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn takes_another_configuration_while_it_runs() {
    let Some(server) = start(NatsConfig::default()).await else { return };
    let limit = || async { ask(server.monitor(), "varz").await.unwrap()["max_payload"].as_u64() };
    assert_eq!(limit().await, Some(1 << 20));
    server.reconfigure(NatsConfig::default().line("max_payload: 777")).await.unwrap();
    assert_eq!(limit().await, Some(777));
}

#[tokio::test]
async fn passwords_and_certificates_are_in_its_url() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let config = NatsConfig::default().password("s3cret").tls(certificates, true);
    let Some(server) = start(config).await else { return };
    assert_eq!(server.url_at(server.addr()), format!("tls://app:s3cret@{}", server.addr()));
    assert_eq!(ask(server.monitor(), "varz").await.unwrap()["tls_verify"], true);
}

#[tokio::test]
async fn a_refused_configuration_says_what_the_server_said() {
    if start(NatsConfig::default()).await.is_none() {
        return;
    }
    let error = NatsServer::start(NatsConfig::default().line("no_such_thing: 1")).await.unwrap_err();
    assert!(error.contains("no_such_thing"), "{error}");
}

#[tokio::test]
async fn dropping_it_leaves_neither_process_nor_files() {
    let Some(server) = start(NatsConfig::default()).await else { return };
    let (addr, dir) = (server.addr(), server.dir.path().to_owned());
    assert!(dir.exists());
    drop(server);
    assert!(!dir.exists());
    std::net::TcpListener::bind(addr).unwrap();
}
