//! Every backend at once, in one process, each over TLS with certificates made here: one provider serves them all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc};

use broker::{Event, Scope};
use broker_conformance::{required, wait::within};
use integration_tests::servers::{
    certificates::Certificates,
    nats::{self, Nats, config::NatsConfig},
    rabbitmq::{self, Rabbit},
    redis::{self, Redis, config::RedisConfig},
};

/// The servers, as far as there are any.
async fn servers() -> Option<(Box<dyn Redis>, Box<dyn Nats>, Box<dyn Rabbit>, Arc<Certificates>)> {
    for (backend, available) in [
        ("redis", redis::own_available().await),
        ("nats", nats::available().await),
        ("rabbitmq", rabbitmq::available().await),
    ] {
        if let Err(reason) = available {
            assert!(!required(backend), "{backend}: {reason}");
            eprintln!("ignored: {reason}");
            return None;
        }
    }
    let certificates = Arc::new(Certificates::new().unwrap());
    let redis_server =
        redis::start_own(RedisConfig::default().tls(Arc::clone(&certificates), true)).await.unwrap();
    let nats_server = nats::start(NatsConfig::default().tls(Arc::clone(&certificates), true)).await.unwrap();
    let rabbit_server = rabbitmq::start().await.unwrap();
    Some((redis_server, nats_server, rabbit_server, certificates))
}

fn with_files(url: &str, ca: &Path, files: &Certificates) -> String {
    let start = if url.contains('?') { '&' } else { '?' };
    let [ca, cert, key] = [ca, &files.client(), &files.client_key()].map(|path| path.display().to_string());
    format!("{url}{start}ca={ca}&cert={cert}&key={key}")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_backends_speak_tls_side_by_side() {
    let Some((redis_server, nats_server, rabbit_server, certificates)) = servers().await else { return };
    let own = rabbit_server.certificates();
    let demanding = rabbit_server.demanding_tls().await.unwrap();
    let urls = [
        with_files(&redis_server.url_at(redis_server.addr()), &certificates.authority(), &certificates),
        with_files(&nats_server.url_at(nats_server.addr()), &certificates.authority(), &certificates),
        with_files(&format!("amqps://guest:guest@{demanding}"), &own.authority(), own),
    ];
    let mut brokers = Vec::new();
    for url in &urls {
        assert!(["rediss:", "tls:", "amqps:"].iter().any(|scheme| url.starts_with(scheme)), "{url}");
        brokers.push(within("a link", broker::connect(url)).await.unwrap().unwrap());
    }
    for broker in &brokers {
        let backend = broker.backend().unwrap_or_default();
        let mut received = broker.subscribe("news").await.unwrap();
        broker.publish("news", backend, Scope::Global).await.unwrap();
        let Some(Event::Message(message)) = within("the post", received.next()).await.unwrap() else {
            panic!("no message on {backend}");
        };
        assert_eq!(message.payload().unwrap(), backend);
    }
    let names: Vec<_> = brokers.iter().map(|broker| broker.backend().unwrap_or_default()).collect();
    assert_eq!(names, ["redis", "nats", "rabbitmq"]);
}
