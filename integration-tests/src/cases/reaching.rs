//! Cases about what an address leads to: one of several that does not answer, and another kind of server. They are for
//! the backends that take lists of hosts, and for all that have a server.

use std::{net::Ipv4Addr, time::Duration};

use broker_conformance::{Entry, case::Outcome, free_port, harness::Harness, steps::wait_for_link};
use broker_core::{BrokerUrl, Error, ErrorKind, Reach, driver::Transport};

use crate::{
    cases::backend_common::{connect, receive_from_each_other, refusal, refusal_within},
    harness::ENTRIES,
    silent::Silent,
};

/// The URL of the harness, with other hosts before and behind its own.
fn among(h: &dyn Harness, before: &[String], behind: &[String]) -> Result<String, Error> {
    let url = BrokerUrl::parse(&h.url())?;
    let own = format!("{}:{}", url.host().unwrap_or_default(), url.port().unwrap_or_default());
    let all = [before, std::slice::from_ref(&own), behind].concat().join(",");
    Ok(h.url().replace(&own, &all))
}

/// Half of them swallow what would open a connection, the others take it.
pub(super) async fn silent_hosts_only_delay_the_connection(h: &dyn Harness) -> Outcome {
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
            wait_for_link(&node, 2).await?;
        }
        receive_from_each_other(&node, &connect(h, &h.url()).await?).await?;
        node.close().await;
    }
    Ok(())
}

pub(super) async fn every_failed_host_is_named(h: &dyn Harness) -> Outcome {
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
pub(super) async fn another_kind_of_server_is_named_with_its_scheme(h: &dyn Harness) -> Outcome {
    let own = h.backend();
    let mut found = 0;
    for entry in others(own.name) {
        if (entry.available)().await.is_err() {
            continue;
        }
        found += 1;
        let other = (entry.start)(&[]).await?;
        let url = BrokerUrl::parse(&other.url())?;
        let place = format!("{}:{}", url.host().unwrap_or_default(), url.port().unwrap_or_default());
        let remote = own.schemes.iter().filter(|scheme| scheme.transport != Transport::Local);
        for scheme in remote.map(|scheme| scheme.name) {
            // What a URL of that scheme must not be without.
            let keys = if scheme.ends_with("+sentinel") { "/?master=main" } else { "" };
            let error = refusal(h, &format!("{scheme}://ada:s3cret@{place}{keys}"), &place).await?;
            assert_eq!(error.kind(), ErrorKind::Protocol, "{scheme}:// to {}: {error}", entry.name());
            // Its name is written as its makers write it, and may be longer.
            let message = error.message().to_lowercase();
            for part in [format!("looks like a {}", entry.name()), format!("use {}://", url.scheme())] {
                assert!(message.contains(&part), "{part} is not in: {error}");
            }
        }
    }
    if found == 0 {
        return Err("there is no server of another kind to be had".into());
    }
    Ok(())
}

/// The other backends that have a server.
fn others(own: &str) -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(move |entry| entry.name() != own && entry.capabilities.reach == Reach::Cluster)
}
