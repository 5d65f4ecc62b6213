//! Tests of the private RabbitMQ, and of what its client leaves in this process. Ignored, with a word on standard
//! error, where the program is missing.

use std::time::Duration;

use broker::{Broker, ErrorKind, Options};
use broker_conformance::{
    required,
    wait::{LIMIT, eventually, until_is},
};

use super::{RabbitServer, available};
use crate::servers::{Server, rabbitmq::Rabbit};

/// A server, or `None` where there is no program and nobody insists on one.
async fn start() -> Option<RabbitServer> {
    if let Err(reason) = available() {
        assert!(!required("rabbitmq"), "{reason}");
        eprintln!("ignored: {reason}");
        return None;
    }
    Some(RabbitServer::start().await.unwrap())
}

fn options() -> Options {
    let mut options = Options::default();
    options.heartbeat = Duration::from_millis(200);
    options
}

/// A virtual host with a user of its name, and the URL.
async fn vhost(server: &RabbitServer, name: &str) -> String {
    server.control().add_vhost(name).await.unwrap();
    format!("amqp://{name}:{name}@{}/{name}", server.addr())
}

async fn connect(url: &str) -> Broker {
    broker::connect_with(url, options()).await.unwrap()
}

/// The client has a thread of its own for every connection.
fn client_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads
        .filter(|thread| {
            let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            name.starts_with("lapin")
        })
        .count()
}

/// Also of one whose peer has fallen silent, and of an attempt to connect that is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_dropped_link() {
    let Some(server) = start().await else { return };
    let url = vhost(&server, "drop").await;
    let proxy = broker_conformance::proxy::Proxy::start(server.addr()).await.unwrap();
    let through = url.replace(&server.addr().to_string(), &proxy.addr().to_string());
    let threads = client_threads();
    let brokers = [connect(&through).await, connect(&through).await];
    proxy.stall();
    let mut impatient = options();
    impatient.connect_timeout = Duration::from_millis(100);
    let error = broker::connect_with(&through, impatient).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // Closing waits a while for an answer, and then gives up.
    for broker in &brokers {
        broker.close().await;
    }
    eventually("the client's threads to end", LIMIT, || async {
        let now = client_threads();
        if now <= threads { Ok(()) } else { Err(format!("{now} threads, {threads} before")) }
    })
    .await
    .unwrap();
    drop(proxy);
    until_is("the server to forget them", 0, || async {
        Ok(server.control().connections("drop").await?.len())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn kills_pauses_and_starts_again_empty() {
    let Some(server) = start().await else { return };
    let before = server.addr();
    vhost(&server, "once").await;
    server.pause().await.unwrap();
    assert!(server.is_alive().await.unwrap());
    server.resume().await.unwrap();
    server.control().get("vhosts/once").await.unwrap();
    server.kill().await.unwrap();
    server.kill().await.unwrap();
    assert!(!server.is_alive().await.unwrap());
    server.control().get("vhosts").await.unwrap_err();
    server.start_again().await.unwrap();
    server.start_again().await.unwrap_err();
    assert_ne!(server.addr(), before);
    let missing = server.control().get("vhosts/once").await.unwrap_err();
    assert!(missing.contains("404"), "{missing}");
}
