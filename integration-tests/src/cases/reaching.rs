//! Cases about what an address leads to: one of several that does not answer, another kind of server, and TLS on one
//! side only. Each is for the backends that know lists of hosts, or for all that have a server.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use broker::{BrokerUrl, Error, ErrorKind};

use super::{
    only::{connect, hear_each_other, refusal, refusal_within, with_keys},
    steps::linked,
};
use crate::{
    case::{Case, Need, Outcome, case},
    certificates::Certificates,
    harness::{HARNESSES, Harness, rabbitmq::RabbitHarness},
    nats_config::NatsConfig,
    redis_config::RedisConfig,
    server::{Source, free_port},
    silent::Silent,
    wait::within,
};

pub(super) const REDIS: &[Case] = &[
    case!(another_kind_of_server_is_named_with_its_scheme, [10]),
    case!(tls_on_one_side_only_is_named_redis, [10]).needs(OWN),
];

pub(super) const NATS: &[Case] = &[
    case!(hosts_that_do_not_answer_delay_and_no_more, [6]),
    case!(every_host_that_failed_is_named, [10]),
    case!(another_kind_of_server_is_named_with_its_scheme, [10]),
    case!(tls_on_one_side_only_is_named_nats, [10]).needs(OWN),
    case!(a_server_that_begins_with_tls_needs_a_key, [1, 10]).needs(OWN),
];

pub(super) const RABBITMQ: &[Case] = &[
    case!(hosts_that_do_not_answer_delay_and_no_more, [6]),
    case!(every_host_that_failed_is_named, [10]),
    case!(another_kind_of_server_is_named_with_its_scheme, [10]),
    case!(tls_on_one_side_only_is_named_rabbitmq, [10]),
];

const OWN: &[Need] = &[Need::OwnServer];

/// The URL of the harness, with other hosts before and behind its own.
fn among(h: &dyn Harness, before: &[String], behind: &[String]) -> Result<String, Error> {
    let url = BrokerUrl::parse(&h.url())?;
    let own = format!("{}:{}", url.host().unwrap_or_default(), url.port().unwrap_or_default());
    let all = [before, std::slice::from_ref(&own), behind].concat().join(",");
    Ok(h.url().replace(&own, &all))
}

/// Half of them swallow what would open a connection, the others take it.
async fn hosts_that_do_not_answer_delay_and_no_more(h: &dyn Harness) -> Outcome {
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(Silent::from_the_start(Ipv4Addr::LOCALHOST.into()).await?);
        silent.push(Silent::after_accepting().await?);
    }
    let silent: Vec<(String, Silent)> = silent.into_iter().map(|one| (one.addr().to_string(), one)).collect();
    let names: Vec<String> = silent.iter().map(|(name, _)| name.clone()).collect();
    // Wherever it begins, and once more when the link was lost.
    for round in 0..5 {
        let node = connect(h, &among(h, &names[..round.min(4)], &names[round.min(4)..])?).await?;
        assert_eq!((node.health().links, node.health().failures), (1, 0));
        if round == 0 {
            h.drop_links().await?;
            linked(&node, 2).await?;
        }
        hear_each_other(&node, &connect(h, &h.url()).await?).await?;
        node.close().await;
    }
    Ok(())
}

async fn every_host_that_failed_is_named(h: &dyn Harness) -> Outcome {
    let (silent, full) =
        (Silent::after_accepting().await?, Silent::from_the_start(Ipv4Addr::LOCALHOST.into()).await?);
    let refusing = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
    let url = |hosts: &[&str]| {
        let scheme = h.url().split("://").next().unwrap_or_default().to_owned();
        format!("{scheme}://ada:s3cret@{}", hosts.join(","))
    };
    let error = refusal(h, &url(&[&refusing[0], &refusing[1]]), &refusing[0]).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains(&refusing[1]), "{error}");

    let (silent, full) = (silent.addr().to_string(), full.addr().to_string());
    let limit = Duration::from_secs(2);
    let error = refusal_within(h, &url(&[&refusing[0], &silent, &full]), &silent, limit).await?;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    for place in [&refusing[0], &silent, &full] {
        assert!(error.message().contains(place.as_str()), "{place} is not in: {error}");
    }
    Ok(())
}

/// The servers of all other backends, by plain URLs and by those with TLS.
async fn another_kind_of_server_is_named_with_its_scheme(h: &dyn Harness) -> Outcome {
    let own = HARNESSES.iter().find(|entry| entry.name() == h.backend()).ok_or("no such backend")?;
    let mut found = 0;
    for entry in HARNESSES.iter().filter(|entry| ![own.name(), "memory"].contains(&entry.name())) {
        if (entry.available)().await.is_err() {
            continue;
        }
        found += 1;
        let other = (entry.start)(&[]).await?;
        let (url, product) = (BrokerUrl::parse(&other.url())?, product(entry.name()));
        let place = format!("{}:{}", url.host().unwrap_or_default(), url.port().unwrap_or_default());
        for scheme in own.backend.schemes.iter().filter(|scheme| !scheme.contains("unix")) {
            let error = refusal(h, &format!("{scheme}://ada:s3cret@{place}"), &place).await?;
            assert_eq!(error.kind(), ErrorKind::Protocol, "{scheme}:// to {product}: {error}");
            for part in [format!("looks like a {product} server"), format!("use {}://", url.scheme())] {
                assert!(error.message().contains(&part), "{part} is not in: {error}");
            }
        }
    }
    if found == 0 {
        return Err("there is no server of another kind to be had".into());
    }
    Ok(())
}

fn product(backend: &str) -> &'static str {
    match backend {
        "redis" => "Redis",
        "nats" => "NATS",
        _ => "RabbitMQ",
    }
}

/// It is not taken for something that passes, and the scheme that fits is in it.
async fn misconfigured(h: &dyn Harness, url: &str, place: &str, part: &str) -> Outcome {
    let error = refusal(h, url, place).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{url}: {error}");
    assert!(!error.is_transient() && error.message().contains(part), "{part} is not in: {error}");
    Ok(())
}

async fn tls_on_one_side_only_is_named_redis(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let config = RedisConfig::default().tls(Arc::clone(&certificates), false);
    let (tls, plain) = (
        Source::from_env()?.start_redis(config).await?,
        Source::from_env()?.start_redis(RedisConfig::default()).await?,
    );
    let (tls, plain) = (tls.addr().to_string(), plain.addr().to_string());
    misconfigured(h, &format!("redis://{tls}"), &tls, "use rediss://").await?;
    let url = with_keys(&format!("rediss://{plain}"), &[("ca", &certificates.authority())]);
    misconfigured(h, &url, &plain, "use redis://").await
}

async fn tls_on_one_side_only_is_named_nats(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let source = Source::fresh_from_env()?;
    let plain = source.start_nats(NatsConfig::default()).await?;
    let place = plain.addr().to_string();
    let url = with_keys(&format!("tls://{place}"), &[("ca", &certificates.authority())]);
    misconfigured(h, &url, &place, "use nats://").await
}

async fn a_server_that_begins_with_tls_needs_a_key(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let config = || NatsConfig::default().tls(Arc::clone(&certificates), false);
    let source = Source::fresh_from_env()?;
    let (first, second) =
        (source.start_nats(config().tls_first()).await?, source.start_nats(config()).await?);
    let (addr, ca) = (first.addr().to_string(), certificates.authority());
    for url in [format!("nats://{addr}"), with_keys(&format!("tls://{addr}"), &[("ca", &ca)])] {
        misconfigured(h, &url, &addr, "`tls_first=true`").await?;
    }
    let url = format!("{}&tls_first=true", with_keys(&format!("tls://{addr}"), &[("ca", &ca)]));
    hear_each_other(&connect(h, &url).await?, &connect(h, &url.replace("127.0.0.1", "localhost")).await?)
        .await?;
    let addr = second.addr().to_string();
    let url = format!("{}&tls_first=true", with_keys(&format!("tls://{addr}"), &[("ca", &ca)]));
    misconfigured(h, &url, &addr, "leave out the key `tls_first`").await
}

async fn tls_on_one_side_only_is_named_rabbitmq(h: &dyn Harness) -> Outcome {
    let server = RabbitHarness::of(h)?.server();
    let (plain, tls) = (server.addr().to_string(), server.tls().to_string());
    misconfigured(h, &format!("amqp://{tls}"), &tls, "use amqps://").await?;
    let url = with_keys(&format!("amqps://{plain}"), &[("ca", &server.certificates().authority())]);
    within("an error", misconfigured(h, &url, &plain, "use amqp://")).await?
}
