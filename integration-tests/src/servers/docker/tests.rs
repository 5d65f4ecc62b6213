//! Tests of the servers in containers; without an engine they say so and pass, unless CI insists.

use std::{sync::Arc, time::Duration};

use broker_conformance::required;
use redis::Value;
use tokio::net::TcpStream;

use super::available;
use crate::servers::{
    Server,
    certificates::Certificates,
    nats::{
        Nats,
        config::NatsConfig,
        control::{ask, publish_raw},
        docker::DockerNats,
    },
    rabbitmq::{Rabbit, docker::DockerRabbit},
    redis::{Redis, config::RedisConfig, control::ExistingRedis, docker::DockerRedis},
};

async fn start(config: RedisConfig) -> Option<DockerRedis> {
    if let Err(reason) = available().await {
        assert!(!required("redis"), "{reason}");
        eprintln!("ignored: {reason}");
        return None;
    }
    Some(DockerRedis::start(config).await.unwrap())
}

/// What a client gets at the address that `server` gives now.
async fn reach(server: &DockerRedis) -> Result<(), String> {
    ExistingRedis::connect(&server.url_at(server.addr())).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_dies_and_starts_again_empty() {
    let Some(server) = start(RedisConfig::default().password("secret")).await else { return };
    assert!(server.addr().ip().is_loopback());
    reach(&server).await.unwrap();
    server.command(&[b"SET", b"key", b"\x00\xff"]).await.unwrap();

    server.stop().await.unwrap();
    server.stop().await.unwrap();
    reach(&server).await.unwrap_err();
    server.start_again().await.unwrap();
    server.start_again().await.unwrap_err();
    reach(&server).await.unwrap();
    assert_eq!(server.command(&[b"GET", b"key"]).await, Ok(Value::Nil));

    server.pause().await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(200), reach(&server)).await;
    assert!(silence.is_err(), "a paused server answered: {silence:?}");
    server.resume().await.unwrap();
    reach(&server).await.unwrap();

    server.pause().await.unwrap();
    server.kill().await.unwrap();
    server.kill().await.unwrap();
    reach(&server).await.unwrap_err();
    server.start_again().await.unwrap();
    reach(&server).await.unwrap();

    let addr = server.addr();
    drop(server);
    TcpStream::connect(addr).await.unwrap_err();
}

#[tokio::test]
async fn takes_certificates_along() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let Some(server) = start(RedisConfig::default().tls(certificates, false)).await else { return };
    assert!(server.url_at(server.addr()).starts_with("rediss://"));
    // A plain client is refused at the TLS port, while commands take the other one.
    ExistingRedis::connect(&format!("redis://{}", server.addr())).await.unwrap_err();
    server.command(&[b"PING"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_dies_starts_again_and_takes_another_configuration() {
    if let Err(reason) = available().await {
        assert!(!required("nats"), "{reason}");
        eprintln!("ignored: {reason}");
        return;
    }
    let server = DockerNats::start(NatsConfig::default()).await.unwrap();
    assert!(server.addr().ip().is_loopback() && server.monitor().ip().is_loopback());
    publish_raw(server.addr(), "news", b"hello").await.unwrap();
    let limit = || async { ask(server.monitor(), "varz").await.unwrap()["max_payload"].as_u64() };
    server.reconfigure(NatsConfig::default().line("max_payload: 777")).await.unwrap();
    assert_eq!(limit().await, Some(777));
    server.kill().await.unwrap();
    publish_raw(server.addr(), "news", b"hello").await.unwrap_err();
    server.start_again().await.unwrap();
    publish_raw(server.addr(), "news", b"hello").await.unwrap();
    server.pause().await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(200), ask(server.monitor(), "varz")).await;
    assert!(silence.is_err(), "a paused server answered: {silence:?}");
    server.resume().await.unwrap();
    assert_eq!(limit().await, Some(777));
}

#[tokio::test]
async fn rabbitmq_dies_starts_again_empty_and_evaluates() {
    if let Err(reason) = available().await {
        assert!(!required("rabbitmq"), "{reason}");
        eprintln!("ignored: {reason}");
        return;
    }
    let server = DockerRabbit::start().await.unwrap();
    assert!(server.addr().ip().is_loopback() && server.tls().ip().is_loopback());
    server.control().add_vhost("once").await.unwrap();
    server.evaluate("rabbit_vhost:delete(<<\"once\">>, <<\"test\">>)").await.unwrap();
    server.control().get("vhosts/once").await.unwrap_err();
    server.evaluate("this is no expression").await.unwrap_err();
    let demanding = server.demanding_tls().await.unwrap();
    assert_eq!(server.demanding_tls().await.unwrap(), demanding);

    server.control().add_vhost("once").await.unwrap();
    server.kill().await.unwrap();
    assert!(!server.is_alive().await.unwrap());
    server.start_again().await.unwrap();
    assert!(server.is_alive().await.unwrap());
    let missing = server.control().get("vhosts/once").await.unwrap_err();
    assert!(missing.contains("404"), "{missing}");
}

/// Also on a thread without a runtime, and on a runtime that did not start it.
#[test]
fn containers_are_removed_wherever_they_are_dropped() {
    let started = |threads: &mut tokio::runtime::Builder| {
        threads.enable_all().build().unwrap().block_on(start(RedisConfig::default()))
    };
    let Some(server) = started(&mut tokio::runtime::Builder::new_current_thread()) else { return };
    let addr = server.addr();
    drop(server);
    std::net::TcpStream::connect(addr).unwrap_err();

    let Some(server) = started(&mut tokio::runtime::Builder::new_multi_thread()) else { return };
    let (addr, runtime) = (server.addr(), tokio::runtime::Builder::new_multi_thread().build().unwrap());
    runtime.block_on(async move { drop(server) });
    std::net::TcpStream::connect(addr).unwrap_err();
}
