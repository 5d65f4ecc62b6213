//! Cases about several nodes and applications on one server.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::{Broker, Codec, Scope};
use futures_util::future::{try_join, try_join_all};

use crate::steps::{Count, post, receive_nothing_more, receives};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, Node},
    wait::{collect, fence, next_item, next_message, text},
};

pub(super) const CASES: &[Case] = &[
    case!(different_prefixes_isolate_applications, [2]),
    case!(the_prefix_stands_before_the_name_on_the_wire, [11]).needs(&[Need::OwnServer]),
    case!(nodes_join_leave_and_crash_without_loss_for_others, [4, 12]),
    case!(three_nodes_receive_each_others_posts, [2, 3]),
    case!(twenty_nodes_share_a_channel, [1, 2]),
    case!(a_restarted_node_has_a_new_identity, [3, 4]),
    case!(nodes_with_different_codecs_share_channels, [2]),
];

async fn application(h: &dyn Harness, name: &str) -> Result<Node, String> {
    h.node_with(|options| options.prefix += name).await
}

/// Prefixes that begin alike, and names that look like a prefix and a name.
async fn different_prefixes_isolate_applications(h: &dyn Harness) -> Outcome {
    let (shop, shopping) = (application(h, "shop").await?, application(h, "shopping").await?);
    let second = application(h, "shop").await?;
    let mut received = Vec::new();
    for node in [&shop, &shopping, &second] {
        for channel in ["news", "ping.news", "shop.news"] {
            received.push((node, node.subscribe(channel).await?));
        }
    }
    for channel in ["news", "ping.news", "shop.news"] {
        post(&shop, channel, format!("shop to {channel}")).await?;
        post(&shopping, channel, format!("shopping to {channel}")).await?;
    }
    for (node, subscription) in &mut received {
        let name = if node.node_id() == shopping.node_id() { "shopping" } else { "shop" };
        let expected = format!("{name} to {}", subscription.channel());
        receives(subscription, &expected).await?;
    }
    // Now each of them alone: nothing of the other application stands before it.
    for channel in ["news", "ping.news", "shop.news"] {
        post(&second, channel, "shop, again").await?;
        post(&shopping, channel, "shopping, again").await?;
    }
    for (node, subscription) in &mut received {
        let name = if node.node_id() == shopping.node_id() { "shopping" } else { "shop" };
        receives(subscription, &format!("{name}, again")).await?;
    }
    Ok(())
}

async fn the_prefix_stands_before_the_name_on_the_wire(h: &dyn Harness) -> Outcome {
    let (shop, bare) = (application(h, "shop").await?, h.node().await?);
    let _subscriptions = [shop.subscribe("news").await?, bare.subscribe("news").await?];
    assert_eq!(h.subscribed_channels().await?.iter().filter(|name| !name.contains('$')).count(), 2);
    assert!(h.subscribed_channels().await?.contains(&"shop.news".to_owned()));
    // So an application without a prefix can listen in, which is why each has its own.
    let mut listening_in = bare.subscribe("shop.news").await?;
    post(&shop, "news", "secret").await?;
    receives(&mut listening_in, "secret").await?;
    Ok(())
}

/// Others come and go in good order, are cut off, and fall over, while numbers are posted without a pause.
async fn nodes_join_leave_and_crash_without_loss_for_others(h: &dyn Harness) -> Outcome {
    let large = |options: &mut broker_core::Options| options.queue_capacity = 1 << 20;
    let publisher = h.node().await?;
    let watchers = [h.node_with(large).await?, h.node_with(large).await?];
    let mut received = [watchers[0].subscribe("numbers").await?, watchers[1].subscribe("numbers").await?];
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let storm = async {
        let mut n = 0;
        while !*stopped.borrow() {
            post(&publisher, "numbers", n.to_string()).await?;
            n += 1;
        }
        Ok::<usize, String>(n)
    };
    let coming_and_going = async {
        for round in 0..12 {
            let node = h.node().await?;
            let mut numbers = node.subscribe("numbers").await.map_err(|error| error.to_string())?;
            post(&node, "others", round.to_string()).await?;
            next_message(&mut numbers).await?;
            match round % 3 {
                0 => node.close().await,
                1 => node.line.cut(),
                _ => node.line.stall(),
            }
            // Its line ends with it.
            drop((numbers, node));
        }
        stop.send_replace(true);
        Ok(())
    };
    let (count, ()) = try_join(storm, coming_and_going).await?;
    for received in &mut received {
        for n in 0..count {
            receives(received, &n.to_string()).await?;
        }
    }
    assert!(watchers.iter().all(|watcher| watcher.health().links == 1));
    receive_nothing_more(&publisher, &mut received.iter_mut().collect::<Vec<_>>()).await?;
    Ok(())
}

async fn three_nodes_receive_each_others_posts(h: &dyn Harness) -> Outcome {
    let nodes = [h.node().await?, h.node().await?, h.node().await?];
    let mut received = Vec::new();
    for node in &nodes {
        received.push(node.subscribe("news").await?);
    }
    let posts = |node: &Node| {
        let broker = node.broker.clone();
        async move {
            for n in 0..50 {
                post(&broker, "news", n.to_string()).await?;
            }
            Ok::<(), String>(())
        }
    };
    try_join_all(nodes.iter().map(posts)).await?;
    for received in &mut received {
        let mut by_origin: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for _ in 0..150 {
            let message = next_message(received).await?;
            by_origin.entry(message.origin()).or_default().push(text(&message)?);
        }
        assert_eq!(by_origin.len(), 3);
        for node in &nodes {
            let row = &by_origin[&node.node_id()];
            assert!(row.iter().eq(&(0..50).map(|n| n.to_string()).collect::<Vec<_>>()), "{row:?}");
        }
    }
    receive_nothing_more(&nodes[0], &mut received.iter_mut().collect::<Vec<_>>()).await?;
    Ok(())
}

async fn twenty_nodes_share_a_channel(h: &dyn Harness) -> Outcome {
    let nodes = try_join_all((0..20).map(|_| h.node())).await?;
    let mut received = try_join_all(nodes.iter().map(|node| node.subscribe("news"))).await?;
    try_join_all(nodes.iter().map(|node| post(node, "news", node.node_id().to_string()))).await?;
    let everyone: BTreeSet<String> = nodes.iter().map(|node| node.node_id().to_string()).collect();
    for received in &mut received {
        let texts = collect(received, nodes.len()).await?;
        assert_eq!(texts.into_iter().collect::<BTreeSet<_>>(), everyone);
    }
    receive_nothing_more(&nodes[7], &mut received.iter_mut().collect::<Vec<_>>()).await?;
    Ok(())
}

/// Its numbers begin again, and nobody takes them for duplicates.
async fn a_restarted_node_has_a_new_identity(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    let mut origins = BTreeSet::new();
    for _ in 0..3 {
        let starting = h.node().await?;
        post(&starting, "news", "hello").await?;
        let message = next_message(&mut received).await?;
        assert_eq!((text(&message)?.as_str(), message.sequence()), ("hello", Some(1)));
        assert!(origins.insert(message.origin()));
        starting.close().await;
    }
    fence(&node, &mut received).await?;
    Ok(())
}

async fn nodes_with_different_codecs_share_channels(h: &dyn Harness) -> Outcome {
    let nodes = [h.node().await?, h.node_with(|options| options.codec = Codec::MsgPack).await?];
    let sessions = nodes.each_ref().map(|node| Broker::session(node));
    let mut streams = Vec::new();
    for session in &sessions {
        streams.push(session.create_stream::<Count>("counts").await?);
    }
    for n in 0..20 {
        sessions[n % 2].post_message("counts", Count { n: n as u64 }, Scope::Global).await?;
        for stream in &mut streams {
            let count = next_item(stream).await??;
            let codec = if n % 2 == 0 { Codec::Json } else { Codec::MsgPack };
            assert_eq!((count.n, count.message().codec()), (n as u64, codec));
        }
    }
    Ok(())
}
