//! Every backend at once, in one process, each over TLS with certificates made here: one provider serves them all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc};

use broker::{Event, Scope};
use broker_conformance::{required, wait::within};
use integration_tests::servers::{
    certificates::Certificates,
    nats::{self, Nats, config::NatsConfig},
    postgres::{self, Postgres, config::PostgresConfig},
    rabbitmq::{self, Rabbit},
    redis::{self, Redis, config::RedisConfig},
};

/// The servers, and the certificates of the first two.
struct Servers {
    redis: Box<dyn Redis>,
    nats: Box<dyn Nats>,
    rabbit: Box<dyn Rabbit>,
    postgres: Box<dyn Postgres>,
    certificates: Arc<Certificates>,
}

/// All of them, or `None` where one is missing and nobody insists on it.
async fn servers() -> Option<Servers> {
    for (backend, available) in [
        ("redis", redis::own_available().await),
        ("nats", nats::available().await),
        ("rabbitmq", rabbitmq::available().await),
        ("postgres", postgres::available().await),
    ] {
        if let Err(reason) = available {
            assert!(!required(backend), "{backend}: {reason}");
            eprintln!("ignored: {reason}");
            return None;
        }
    }
    let certificates = Arc::new(Certificates::new().unwrap());
    let config = RedisConfig::default().tls(Arc::clone(&certificates), true);
    Some(Servers {
        redis: redis::start_own(config).await.unwrap(),
        nats: nats::start(NatsConfig::default().tls(Arc::clone(&certificates), true)).await.unwrap(),
        rabbit: rabbitmq::start().await.unwrap(),
        postgres: postgres::start(PostgresConfig::default()).await.unwrap(),
        certificates,
    })
}

fn with_files(url: &str, ca: &Path, files: &Certificates) -> String {
    let start = if url.contains('?') { '&' } else { '?' };
    let [ca, cert, key] = [ca, &files.client(), &files.client_key()].map(|path| path.display().to_string());
    format!("{url}{start}ca={ca}&cert={cert}&key={key}")
}

#[tokio::test(flavor = "multi_thread")]
async fn all_backends_speak_tls_side_by_side() {
    let Some(servers) = servers().await else { return };
    let Servers { redis, nats, rabbit, postgres, certificates } = &servers;
    let (rabbits, of_postgres) = (rabbit.certificates(), postgres.certificates());
    let demanding = rabbit.demanding_tls().await.unwrap();
    // This user comes encrypted, and with a certificate.
    let certified = format!("postgres://certified@{}/app?sslmode=verify-full", postgres.addr());
    let urls = [
        with_files(&redis.url_at(redis.addr()), &certificates.authority(), certificates),
        with_files(&nats.url_at(nats.addr()), &certificates.authority(), certificates),
        with_files(&format!("amqps://guest:guest@{demanding}"), &rabbits.authority(), rabbits),
        with_files(&certified, &of_postgres.authority(), of_postgres),
    ];
    let mut brokers = Vec::new();
    for url in &urls {
        assert!(
            ["rediss:", "tls:", "amqps:", "postgres:"].iter().any(|scheme| url.starts_with(scheme)),
            "{url}"
        );
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
    assert_eq!(names, ["redis", "nats", "rabbitmq", "postgres"]);
}
