//! Cases about handles of channels: posts by them are those of the broker, and many may be under way at once.

use broker_core::{Channel, Event, Post, Scope, TypedPost};

use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::{Count, count, receives, wait_for_link},
    wait::{collect, next_item, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_handle_posts_what_its_broker_posts, [1, 3]),
    case!(a_handle_outlives_the_subscribers_of_its_channel, [1, 2, 5]),
    case!(a_handle_of_a_session_ends_with_it, [1, 8]),
    case!(posts_in_flight_keep_their_order, [3]),
    case!(a_post_is_sent_though_its_future_is_dropped, [1]),
    case!(posts_in_flight_end_with_a_broken_link, [6]),
    case!(posts_in_flight_end_with_their_broker, [6, 9]),
];

const COUNTS: Channel<Count> = Channel::new("counts");

async fn a_handle_posts_what_its_broker_posts(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let counts = here.channel(COUNTS)?;
    let (mut near, mut far) = (here.create_stream(&counts).await?, there.create_stream(COUNTS).await?);
    for n in (1..=40).step_by(4) {
        counts.post_message(Count { n }, Scope::Global).await?;
        count(&here, "counts", n + 1).await?;
        counts.clone().send(Count { n: n + 2 }, Scope::Global).await?.await?;
        count(&here, "counts", n + 3).await?;
    }
    for n in 1..=40 {
        assert_eq!(next_item(&mut near).await??.n, n);
        assert_eq!(next_item(&mut far).await??.n, n);
    }
    counts.post_message(Count { n: 41 }, Scope::Local).await?;
    counts.send(Count { n: 42 }, Scope::Local).await?.await?;
    here.post_message(COUNTS, Count { n: 43 }, Scope::Local).await?;
    for n in 41..=43 {
        assert_eq!(next_item(&mut near).await??.n, n);
    }
    let news = here.channel::<String>("news")?;
    let (mut near, mut far) = (here.subscribe(&news).await?, there.subscribe("news").await?);
    news.publish("one", Scope::Global).await?;
    news.send_post(Post::new("two").with_header("k", "v"), Scope::Global).await?.await?;
    for subscription in [&mut near, &mut far] {
        receives(subscription, "one").await?;
        match within("the second", subscription.next()).await? {
            Some(Event::Message(message)) => assert_eq!(message.headers().get("k"), Some("v")),
            other => return Err(format!("expected a message, got {other:?}").into()),
        }
    }
    Ok(())
}

/// It stays while subscribers come and go, and what was noted for one of them is nothing to the next.
async fn a_handle_outlives_the_subscribers_of_its_channel(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (near, far) = (here.channel(COUNTS)?, there.channel(COUNTS)?);
    for round in 0..3 {
        let mut counts = there.create_stream(&far).await?;
        near.post_message(Count { n: round }, Scope::Global).await?;
        far.post_message(Count { n: 10 + round }, Scope::Local).await?;
        let mut received = [next_item(&mut counts).await??.n, next_item(&mut counts).await??.n];
        received.sort_unstable();
        assert_eq!(received, [round, 10 + round]);
        drop(counts);
        until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
        // These reach no one, and none of them is missed by the next subscriber.
        near.post_message(Count { n: 99 }, Scope::Global).await?;
        far.post_message(Count { n: 99 }, Scope::Local).await?;
    }
    Ok(())
}

async fn a_handle_of_a_session_ends_with_it(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (session, other) = (node.session(), node.session());
    let counts = session.channel(COUNTS)?;
    let (mut own, mut others) = (session.create_stream(&counts).await?, other.create_stream(COUNTS).await?);
    for scope in [Scope::Global, Scope::Local] {
        counts.send(TypedPost::new(Count { n: 1 }).excluding_me(), scope).await?.await?;
        counts.post_message(Count { n: 2 }, scope).await?;
        assert_eq!(next_item(&mut own).await??.n, 2);
        for n in 1..=2 {
            let count = next_item(&mut others).await??;
            assert!(count.n == n && session.has_posted(&count.message()), "{count:?}");
        }
    }
    let sent = counts.send(Count { n: 3 }, Scope::Global).await?;
    session.close();
    // What was queued before is sent.
    within("an outcome", sent).await??;
    assert_eq!(next_item(&mut others).await??.n, 3);
    for refused in [
        counts.send(Count { n: 4 }, Scope::Global).await.map(drop),
        counts.post_message(Count { n: 4 }, Scope::Local).await.map(drop),
        counts.publish("x", Scope::Local).await.map(drop),
        counts.send_post("x", Scope::Global).await.map(drop),
        session.channel(COUNTS).map(drop),
    ] {
        let error = refused.expect_err("the session is closed");
        assert_eq!(error.kind(), broker_core::ErrorKind::Closed, "{error}");
    }
    node.channel(COUNTS)?.post_message(Count { n: 5 }, Scope::Global).await?;
    assert_eq!(next_item(&mut others).await??.n, 5);
    Ok(())
}

async fn posts_in_flight_keep_their_order(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node_with(|options| options.outbox_bytes = 1 << 20).await?, h.node().await?);
    let counts = here.channel(COUNTS)?;
    let mut stream = there.create_stream(there.channel(COUNTS)?).await?;
    let mut in_flight = Vec::new();
    for n in 0..500 {
        in_flight.push(counts.send(Count { n }, Scope::Global).await?);
    }
    for n in 0..500 {
        assert_eq!(next_item(&mut stream).await??.n, n);
    }
    for sent in in_flight {
        within("an outcome", sent).await??;
    }
    Ok(())
}

async fn a_post_is_sent_though_its_future_is_dropped(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let news = here.channel::<String>("news")?;
    let mut subscription = there.subscribe("news").await?;
    for n in 0..20 {
        drop(news.send_post(n.to_string(), Scope::Global).await?);
    }
    let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(collect(&mut subscription, 20).await?, expected);
    Ok(())
}

/// Each has an outcome, and what was reported as taken has arrived.
async fn posts_in_flight_end_with_a_broken_link(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let counts = here.channel(COUNTS)?;
    let mut stream = there.create_stream(COUNTS).await?;
    here.line.stall();
    let mut in_flight = Vec::new();
    for n in 0..50 {
        in_flight.push(counts.send(Count { n }, Scope::Global).await?);
    }
    here.line.cut();
    let mut taken = Vec::new();
    for (n, sent) in in_flight.into_iter().enumerate() {
        match within("an outcome", sent).await? {
            Ok(_) => taken.push(n as u64),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    here.line.heal();
    wait_for_link(&here, 2).await?;
    counts.post_message(Count { n: 99 }, Scope::Global).await?;
    let mut received = Vec::new();
    while !received.contains(&99) {
        // A gap reports those that were lost under way.
        received.extend(next_item(&mut stream).await?.ok().map(|count| count.n));
    }
    assert!(taken.iter().all(|n| received.contains(n)), "taken {taken:?}, received {received:?}");
    Ok(())
}

async fn posts_in_flight_end_with_their_broker(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let counts = node.channel(COUNTS)?;
    node.line.stall();
    let mut sent = counts.send(Count { n: 1 }, Scope::Global).await?;
    node.close().await;
    let first = within("an outcome", &mut sent).await?.expect_err("it was not taken");
    assert_eq!(within("the same", &mut sent).await?, Err(first));
    for ended in [
        counts.send(Count { n: 2 }, Scope::Global).await.map(drop),
        counts.post_message(Count { n: 2 }, Scope::Local).await.map(drop),
        node.channel(COUNTS).map(drop),
    ] {
        assert_eq!(ended.expect_err("it is closed").kind(), broker_core::ErrorKind::Closed);
    }
    Ok(())
}
