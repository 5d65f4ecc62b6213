//! Tests of the private Redis; ignored, with a word on standard error, where the program is missing.

use std::{sync::Arc, time::Duration};

use broker_conformance::required;
use redis::{Client, ClientTlsConfig, TlsCertificates, Value};

use super::{RedisServer, available};
use crate::servers::{
    Server,
    certificates::Certificates,
    redis::{Redis, config::RedisConfig, control::ExistingRedis},
};

/// A server, or `None` where there is no program and nobody insists on one.
async fn start(config: RedisConfig) -> Option<RedisServer> {
    if let Err(reason) = available() {
        assert!(!required("redis"), "{reason}");
        eprintln!("ignored: {reason}");
        return None;
    }
    Some(RedisServer::start(config).await.unwrap())
}

/// What a client without any configuration but the URL gets.
async fn ask(url: &str, command: &str) -> Result<Value, String> {
    let client = Client::open(url).map_err(|error| error.to_string())?;
    let mut connection =
        client.get_multiplexed_async_connection().await.map_err(|error| error.to_string())?;
    redis::cmd(command).query_async(&mut connection).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn stops_and_starts_again_on_its_port_and_empty() {
    let Some(server) = start(RedisConfig::default()).await else { return };
    let (addr, url) = (server.addr(), server.url_at(server.addr()));
    assert_eq!(ask(&url, "PING").await, Ok(Value::SimpleString("PONG".to_owned())));
    server.command(&[b"SET", b"key", b"\x00\xff"]).await.unwrap();
    assert_eq!(server.command(&[b"GET", b"key"]).await, Ok(Value::BulkString(vec![0, 255])));

    server.stop().await.unwrap();
    server.stop().await.unwrap();
    ask(&url, "PING").await.unwrap_err();
    server.command(&[b"PING"]).await.unwrap_err();
    server.start_again().await.unwrap();
    server.start_again().await.unwrap_err();

    assert_eq!(server.addr(), addr);
    assert_eq!(server.command(&[b"GET", b"key"]).await, Ok(Value::Nil));
    server.kill().await.unwrap();
    server.kill().await.unwrap();
    ask(&url, "PING").await.unwrap_err();
    server.start_again().await.unwrap();
    ask(&url, "PING").await.unwrap();
}

#[tokio::test]
async fn paused_it_holds_connections_and_answers_nothing() {
    let Some(server) = start(RedisConfig::default()).await else { return };
    let url = server.url_at(server.addr());
    server.pause().await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(100), ask(&url, "PING")).await;
    assert!(silence.is_err(), "a paused server answered: {silence:?}");
    server.resume().await.unwrap();
    ask(&url, "PING").await.unwrap();
    server.pause().await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn passwords_and_users_are_asked_for_and_commands_go_on() {
    let config = RedisConfig::default().password("secret").user("anna on >word ~* &orders:* +@all");
    let Some(server) = start(config).await else { return };
    let addr = server.addr();
    ask(&format!("redis://{addr}"), "PING").await.unwrap_err();
    ask(&format!("redis://:wrong@{addr}"), "PING").await.unwrap_err();
    ask(&format!("redis://anna:word@{addr}"), "PING").await.unwrap();
    ask(&server.url_at(addr), "PING").await.unwrap();
    server.command(&[b"ACL", b"SETUSER", b"anna", b"off"]).await.unwrap();
    ask(&format!("redis://anna:word@{addr}"), "PING").await.unwrap_err();
}

#[tokio::test]
async fn speaks_tls_only_and_asks_for_a_client_certificate() {
    let certificates = Arc::new(Certificates::new().unwrap());
    let config = RedisConfig::default().tls(Arc::clone(&certificates), true);
    let Some(server) = start(config).await else { return };
    // Only this test uses rustls here; another one may have been faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = server.url_at(server.addr());
    assert!(url.starts_with("rediss://"), "{url}");
    ask(&url.replace("rediss", "redis"), "PING").await.unwrap_err();
    ask(&url, "PING").await.unwrap_err();

    let read = |path| std::fs::read(path).unwrap();
    let shown = ClientTlsConfig {
        client_cert: read(certificates.client()),
        client_key: read(certificates.client_key()),
    };
    for (client_tls, welcome) in [(Some(shown), true), (None, false)] {
        let certs = TlsCertificates { client_tls, root_cert: Some(read(certificates.authority())) };
        let client = Client::build_with_tls(url.as_str(), certs).unwrap();
        let answer = match client.get_multiplexed_async_connection().await {
            Ok(mut connection) => redis::cmd("PING").query_async::<Value>(&mut connection).await,
            Err(error) => Err(error),
        };
        assert_eq!(answer.is_ok(), welcome, "{answer:?}");
    }
    server.command(&[b"PING"]).await.unwrap();
}

#[tokio::test]
async fn a_refused_configuration_says_what_the_server_said() {
    if start(RedisConfig::default()).await.is_none() {
        return;
    }
    let error = RedisServer::start(RedisConfig::default().line("no-such-thing 1")).await.unwrap_err();
    assert!(error.contains("no-such-thing"), "{error}");
}

#[tokio::test]
async fn dropping_it_leaves_neither_process_nor_files() {
    let Some(server) = start(RedisConfig::default()).await else { return };
    let (addr, socket) = (server.addr(), server.socket());
    assert!(socket.exists());
    drop(server);
    assert!(!socket.exists());
    std::net::TcpListener::bind(addr).unwrap();
}

#[tokio::test]
async fn an_existing_server_obeys_commands_but_is_not_stopped() {
    let Some(server) = start(RedisConfig::default().password("secret")).await else { return };
    let existing = ExistingRedis::connect(&server.url_at(server.addr())).await.unwrap();
    assert_eq!(existing.url_at(existing.addr()), server.url_at(server.addr()));
    existing.command(&[b"PING"]).await.unwrap();
    existing.stop().await.unwrap_err();
    ExistingRedis::connect(&format!("redis://{}", server.addr())).await.unwrap_err();
}
