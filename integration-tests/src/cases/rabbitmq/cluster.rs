//! Cases about a cluster of RabbitMQ: what is bound at one member is known to all, and what happens to one of them is
//! told to those who lose by it.

use broker::{ErrorKind, Scope};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{post, quick_detection, receives, receives_again, receives_link_loss, wait_for_link},
    wait::{LIMIT, collect, eventually, until, within},
};
use futures_util::future::join_all;
use serde_json::json;

use super::connecting::ENOUGH;
use crate::{
    cases::backend_common::{connect, first_posts_lost, refusal},
    harness::clusters::rabbitmq_cluster::RabbitClusterHarness,
};

pub(super) const CASES: &[Case] = &[
    case!(first_posts_at_another_member_are_received, [1, 2]),
    case!(a_link_uses_two_members, [4]),
    case!(a_killed_member_is_one_gap_and_its_nodes_go_on_at_others, [4, 6]).needs(OWN),
    case!(a_post_for_a_queue_that_dies_is_interrupted_and_all_others_receive_it, [2, 4]).needs(OWN),
    case!(a_partition_that_is_ignored_is_found, [4, 6]).needs(OWN),
    case!(the_documented_permissions_are_sufficient_and_necessary_in_a_cluster, [10, 11]),
];

const OWN: &[Need] = &[Need::OwnServer];

/// The members, by their names, at which the case's user has connections.
async fn used(rabbit: &RabbitClusterHarness) -> Result<Vec<String>, String> {
    let list = rabbit.cluster().control(0).get(&format!("connections/username/{}", rabbit.name)).await?;
    let mut nodes: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["node"].as_str())
        .map(str::to_owned)
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

async fn first_posts_at_another_member_are_received(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitClusterHarness::of(h)?;
    let (here, there) = (connect(h, &rabbit.url_of(&[0])).await?, connect(h, &rabbit.url_of(&[1])).await?);
    assert_eq!(first_posts_lost(&here, &there, 1000, 16).await?, 0);
    Ok(())
}

async fn a_link_uses_two_members(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitClusterHarness::of(h)?;
    let node = connect(h, &h.url()).await?;
    let mut received = node.subscribe("news").await?;
    post(&node, "news", "hello").await?;
    receives(&mut received, "hello").await?;
    eventually("connections at two members", LIMIT, || async {
        let used = used(rabbit).await?;
        if used.len() == 2 { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await?;
    Ok(())
}

async fn a_killed_member_is_one_gap_and_its_nodes_go_on_at_others(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitClusterHarness::of(h)?;
    // Between them they use the member that is killed, and others.
    let (one, other) = (connect(h, &rabbit.url_of(&[2, 1])).await?, connect(h, &rabbit.url_of(&[0])).await?);
    let (mut lost, mut whole) = (one.subscribe("news").await?, other.subscribe("news").await?);
    rabbit.cluster().host(2).kill().await?;
    receives_link_loss(&mut lost).await?;
    wait_for_link(&one, 2).await?;
    for n in 0..10 {
        post(&other, "news", n.to_string()).await?;
        receives(&mut lost, &n.to_string()).await?;
        receives(&mut whole, &n.to_string()).await?;
    }
    rabbit.cluster().start_member(2).await?;
    rabbit.cluster().whole().await?;
    assert_eq!((one.health().links, other.health().links), (2, 1));
    Ok(())
}

async fn a_post_for_a_queue_that_dies_is_interrupted_and_all_others_receive_it(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitClusterHarness::of(h)?;
    let (here, there) = (connect(h, &rabbit.url_of(&[0, 1])).await?, connect(h, &rabbit.url_of(&[2])).await?);
    let (mut received, _dies) = (here.subscribe("news").await?, there.subscribe("news").await?);
    let posting = async {
        let (mut posted, mut late) = (Vec::new(), 0);
        // Until some were posted after it has died.
        while late < 100 {
            let posts = (0..20).map(|n| here.publish("news", (posted.len() + n).to_string(), Scope::Global));
            posted.extend(join_all(posts).await);
            late += if there.health().is_connected() { 0 } else { 20 };
        }
        posted
    };
    let killing = rabbit.cluster().host(2).kill();
    let (posted, killed) = within("the posts", async { tokio::join!(posting, killing) }).await?;
    killed?;
    for error in posted.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    }
    let texts = collect(&mut received, posted.len()).await?;
    assert!(texts.iter().enumerate().all(|(n, text)| *text == n.to_string()), "{texts:?}");
    rabbit.cluster().start_member(2).await?;
    rabbit.cluster().whole().await?;
    Ok(())
}

async fn a_partition_that_is_ignored_is_found(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitClusterHarness::of(h)?;
    let mut options = h.options();
    quick_detection(&mut options);
    let across = broker::connect_with(&rabbit.url_of(&[0, 2]), options).await?;
    let beside = connect(h, &rabbit.url_of(&[0, 1])).await?;
    let (mut lost, mut whole) = (across.subscribe("news").await?, beside.subscribe("news").await?);
    rabbit.cluster().cut_off(2)?;
    // Not once only: as long as the two do not reach each other.
    until("attempts of the other side", || across.health().failures >= 2).await?;
    assert_eq!(across.health().links, 1);
    post(&beside, "news", "on this side").await?;
    receives(&mut whole, "on this side").await?;
    assert_eq!(beside.health().links, 1);
    // Meeting again is not enough: the member has to learn what the others do.
    rabbit.cluster().host(2).kill().await?;
    rabbit.cluster().start_member(2).await?;
    rabbit.cluster().whole().await?;
    within("the other side", across.ready()).await??;
    receives_again(&beside, &mut lost).await?;
    Ok(())
}

async fn the_documented_permissions_are_sufficient_and_necessary_in_a_cluster(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitClusterHarness::of(h)?;
    let (control, name) = (rabbit.cluster().control(0), &rabbit.name);
    let allow = async |rights: [&str; 3]| {
        let [configure, write, read] = rights;
        let rights = json!({ "configure": configure, "write": write, "read": read });
        control.call("PUT", &format!("permissions/{name}/{name}"), Some(&rights)).await
    };
    allow([ENOUGH; 3]).await?;
    let (here, there) = (connect(h, &h.url()).await?, connect(h, &h.url()).await?);
    assert_eq!(first_posts_lost(&here, &there, 50, 1).await?, 0);
    for n in 0..3 {
        let mut rights = [ENOUGH; 3];
        rights[n] = "^$";
        allow(rights).await?;
        let error = refusal(h, &h.url(), "127.0.0.1").await?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{rights:?}: {error}");
    }
    Ok(())
}
