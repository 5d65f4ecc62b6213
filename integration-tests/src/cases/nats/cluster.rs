//! Cases about a cluster of NATS servers: whoever is subscribed at one of them receives what is posted at another.

use std::{net::SocketAddr, time::Duration};

use broker::{ErrorKind, GapCause};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    free_port,
    harness::Harness,
    steps::{post, receives, wait_for_link},
    wait::{next_gap, within},
};
use futures_util::future::try_join;

use crate::{
    cases::backend_common::{again_after, connect, first_posts_lost},
    servers::nats::{cluster::NatsCluster, config::NatsConfig},
};

pub(super) const CASES: &[Case] = &[
    case!(first_posts_at_another_server_are_received, [1, 2]).needs(&[Need::Process]),
    case!(first_posts_at_a_distant_server_are_received, [1, 2]).needs(&[Need::Process]),
    case!(first_posts_at_a_server_that_has_just_started_are_received, [2, 6]).needs(&[Need::Process]),
    case!(a_server_that_is_frozen_meanwhile_is_a_gap_when_it_is_back, [2, 4]).needs(&[Need::Process]),
    case!(a_server_that_ends_is_no_gap_at_the_others, [2, 4]).needs(&[Need::Process]),
    case!(a_server_that_cannot_be_reached_is_named, [2, 10]).needs(&[Need::Process]),
    case!(the_documented_permissions_are_sufficient_in_a_cluster, [2, 11]).needs(&[Need::Process]),
];

/// How long it takes from one distant server to another.
const DISTANCE: Duration = Duration::from_millis(5);

async fn first_posts_at_another_server_are_received(h: &dyn Harness) -> Outcome {
    let cluster = NatsCluster::start(NatsConfig::default()).await?;
    let (here, there) = (connect(h, &cluster.url(0)).await?, connect(h, &cluster.url(1)).await?);
    assert_eq!(first_posts_lost(&here, &there, 1000, 1).await?, 0);
    let (here, there) = (connect(h, &cluster.url(1)).await?, connect(h, &cluster.url(2)).await?);
    assert_eq!(first_posts_lost(&here, &there, 1000, 16).await?, 0);
    Ok(())
}

async fn first_posts_at_a_distant_server_are_received(h: &dyn Harness) -> Outcome {
    let cluster = NatsCluster::start_apart(NatsConfig::default(), Some(DISTANCE)).await?;
    let (here, there) = (connect(h, &cluster.url(0)).await?, connect(h, &cluster.url(1)).await?);
    assert_eq!(first_posts_lost(&here, &there, 200, 1).await?, 0);
    Ok(())
}

/// Servers let clients in before they know each other.
async fn first_posts_at_a_server_that_has_just_started_are_received(h: &dyn Harness) -> Outcome {
    let cluster = NatsCluster::start_apart(NatsConfig::default(), Some(DISTANCE)).await?;
    let here = connect(h, &cluster.url(0)).await?;
    let mut received = here.subscribe("news").await?;
    for round in 0..5 {
        cluster.member(1).kill().await?;
        let mut options = h.options();
        (options.backoff_min, options.backoff_max) = (Duration::from_millis(1), Duration::from_millis(5));
        let there = broker::open(&cluster.url(1), options)?;
        let posting = async {
            within("the link", there.ready()).await?.map_err(|error| error.to_string())?;
            post(&there, "news", format!("first of {round}")).await
        };
        try_join(cluster.member(1).start_again(), posting).await?;
        receives(&mut received, &format!("first of {round}")).await?;
        there.close().await;
    }
    Ok(())
}

async fn a_server_that_is_frozen_meanwhile_is_a_gap_when_it_is_back(h: &dyn Harness) -> Outcome {
    let cluster = NatsCluster::start(NatsConfig::default()).await?;
    let (here, there) = (connect(h, &cluster.url(0)).await?, connect(h, &cluster.url(1)).await?);
    let mut before = here.subscribe("before").await?;
    cluster.member(1).pause().await?;
    let mut meanwhile = within("the subscription", here.subscribe("meanwhile")).await??;
    cluster.member(1).resume().await?;
    for subscription in [&mut before, &mut meanwhile] {
        let gap = next_gap(subscription).await?;
        assert_eq!(gap.cause, GapCause::Dropped, "{gap}");
    }
    assert_eq!(here.health().links, 1);
    within("the other link", there.ready()).await??;
    post(&there, "meanwhile", "again").await?;
    receives(&mut meanwhile, "again").await?;
    Ok(())
}

/// Killed, or about to shut down: its nodes go to another server, and nobody else loses anything.
/// On a busy machine another server may not answer for the second after which it is gone on without, and that is a gap, too:
/// then the attempt proves nothing.
async fn a_server_that_ends_is_no_gap_at_the_others(h: &dyn Harness) -> Outcome {
    again_after("got Gap(", || a_server_ends(h)).await
}

async fn a_server_ends(h: &dyn Harness) -> Outcome {
    // A server that ends lets go of its clients later than anybody waits here: they have to go by themselves.
    let config = NatsConfig::default().line("lame_duck_duration: 300s").line("lame_duck_grace_period: 200s");
    let cluster = NatsCluster::start_apart(config, Some(DISTANCE)).await?;
    let here = connect(h, &cluster.url(0)).await?;
    let mut received = here.subscribe("news").await?;
    for kill in [true, false] {
        // So that the node is at the member that ends.
        cluster.member(2).kill().await?;
        let there = connect(h, &cluster.url_of(&[1, 2])).await?;
        cluster.member(2).start_again().await?;
        cluster.complete().await?;
        if kill {
            cluster.member(1).kill().await?;
        } else {
            cluster.member(1).retire().await?;
        }
        wait_for_link(&there, 2).await?;
        assert_eq!(first_posts_lost(&here, &there, 200, 4).await?, 0);
        post(&there, "news", "from the other").await?;
        receives(&mut received, "from the other").await?;
        there.close().await;
        cluster.member(1).kill().await?;
        cluster.member(1).start_again().await?;
        cluster.complete().await?;
    }
    let back = connect(h, &cluster.url(1)).await?;
    post(&back, "news", "back").await?;
    receives(&mut received, "back").await?;
    assert_eq!(here.health().links, 1);
    Ok(())
}

async fn a_server_that_cannot_be_reached_is_named(h: &dyn Harness) -> Outcome {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let hidden = NatsConfig::default().line(&format!("client_advertise: \"{nowhere}\""));
    let config = NatsConfig::default();
    let cluster = NatsCluster::start_each([config.clone(), config, hidden]).await?;
    let (here, there) = (connect(h, &cluster.url(0)).await?, connect(h, &cluster.url(1)).await?);
    assert_eq!(first_posts_lost(&here, &there, 200, 1).await?, 0);
    let hidden = connect(h, &cluster.url(2)).await?;
    let mut received = hidden.subscribe("news").await?;
    // Where it is hidden from, subscribing goes on without it; from there on the others are known.
    assert_eq!(first_posts_lost(&hidden, &here, 200, 1).await?, 0);
    post(&here, "news", "hello").await?;
    receives(&mut received, "hello").await?;
    let warnings = broker::inspect(&cluster.url(0), h.options()).await?.warnings;
    let about = |part: &str| warnings.iter().filter(|one| one.what.contains(part)).count();
    assert_eq!((about(&nowhere.to_string()), about("names one server")), (1, 1), "{warnings:?}");
    let other = cluster.member(1).addr().to_string();
    assert!(warnings.iter().any(|one| one.remedy.contains(&other)), "{warnings:?}");
    let warnings = broker::inspect(&cluster.url_of_all(), h.options()).await?.warnings;
    assert!(warnings.iter().all(|one| !one.what.contains("names one server")), "{warnings:?}");
    Ok(())
}

async fn the_documented_permissions_are_sufficient_in_a_cluster(h: &dyn Harness) -> Outcome {
    let config = NatsConfig::default().allow(&["shop.>", "_INBOX.>"]).password("s3cret");
    let cluster = NatsCluster::start_apart(config, Some(DISTANCE)).await?;
    let url = |n| format!("{}?prefix=shop", cluster.url(n));
    let (here, there) = (connect(h, &url(0)).await?, connect(h, &url(1)).await?);
    assert_eq!(first_posts_lost(&here, &there, 200, 4).await?, 0);
    let warnings =
        broker::inspect(&format!("{}?prefix=shop", cluster.url_of_all()), h.options()).await?.warnings;
    assert_eq!(warnings, []);
    let elsewhere = connect(h, &format!("{}?prefix=shop2", cluster.url(0))).await;
    assert_eq!(elsewhere.map(drop).map_err(|error| error.kind()), Err(ErrorKind::Forbidden));
    Ok(())
}
