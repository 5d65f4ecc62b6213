//! Cases about links that break: everyone is told, in the right place, and lives on.

use broker_core::{Event, Gap, GapCause, Subscription};
use futures_util::future::try_join_all;
use tokio::task::JoinSet;

use crate::steps::{
    called_with, called_with_link_loss, count, listener, lost_link, post, quick_detection, receives,
    receives_again, receives_link_loss, tasks, wait_for_disconnect, wait_for_link,
};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{fence, next_event, text, until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(after_a_restart_streams_and_listeners_continue_with_a_gap, [4, 7]).needs(&[Need::OwnServer]),
    case!(the_gap_stands_before_everything_posted_after_the_break, [3, 4]),
    case!(a_waiting_stream_receives_the_gap, [4]).needs(&[Need::Server]),
    case!(a_broken_link_affects_no_other_node, [4]),
    case!(a_stalled_line_is_detected_and_recovers, [4, 10]).needs(&[Need::Server]),
    case!(a_line_stalled_downstream_is_detected, [4, 10]).needs(&[Need::Server]),
    case!(a_hanging_server_is_detected_and_recovers, [4, 10]).needs(&[Need::OwnServer, Need::Server]),
    case!(links_dropped_by_the_server_reconnect_with_a_gap, [4]).needs(&[Need::OwnServer]),
    case!(five_thousand_channels_are_resubscribed_with_a_gap, [1, 4]).needs(&[Need::Server]),
    case!(a_flapping_line_leaks_nothing, [12]).needs(&[Need::OwnServer, Need::Server]),
    case!(dead_links_leave_nothing_behind, [12]).needs(&[Need::OwnServer, Need::Server]),
];

async fn after_a_restart_streams_and_listeners_continue_with_a_gap(h: &dyn Harness) -> Outcome {
    let nodes = [h.node().await?, h.node().await?];
    let sessions = nodes.each_ref().map(|node| node.session());
    let (mut streams, mut listeners) = (Vec::new(), Vec::new());
    for (node, session) in nodes.iter().zip(&sessions) {
        streams.push(node.subscribe("news").await?);
        streams.push(session.subscribe("news").await?);
        listeners.push(listener(session, "counts").await?);
        listeners.push(listener(session, "counts").await?);
    }
    h.restart_server().await?;
    for node in &nodes {
        wait_for_link(node, 2).await?;
    }
    for (n, node) in nodes.iter().enumerate() {
        post(node, "news", n.to_string()).await?;
        count(node, "counts", n as u64).await?;
        for stream in &mut streams {
            if n == 0 {
                receives_link_loss(stream).await?;
            }
            receives(stream, &n.to_string()).await?;
        }
        for calls in &mut listeners {
            if n == 0 {
                called_with_link_loss(calls).await?;
            }
            called_with(calls, n as u64).await?;
        }
    }
    Ok(())
}

/// Another node posts numbers without a pause: those received before the gap were posted before the break, and
/// from the gap on none is missing.
async fn the_gap_stands_before_everything_posted_after_the_break(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let mut received = node.subscribe("numbers").await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (posted, posting) = tokio::sync::watch::channel(0_u64);
    let storm = async {
        let mut n = 0;
        while !*stopped.borrow() {
            post(&publisher, "numbers", n.to_string()).await?;
            n += 1;
            posted.send_replace(n);
        }
        post(&publisher, "numbers", "end").await?;
        Ok::<u64, String>(n)
    };
    let breaking = async {
        let more = |n| {
            let (mut posting, seen) = (posting.clone(), *posting.borrow());
            async move { within("more posts", posting.wait_for(|now| *now >= seen + n)).await.map(drop) }
        };
        more(50).await?;
        node.line.cut();
        let at_the_break = *posting.borrow();
        more(50).await?;
        node.line.heal();
        wait_for_link(&node, 2).await?;
        more(50).await?;
        stop.send_replace(true);
        Ok::<u64, String>(at_the_break)
    };
    let (last, at_the_break) = futures_util::try_join!(storm, breaking)?;
    let mut before = 0;
    let gap = loop {
        match crate::wait::next_event(&mut received).await? {
            broker_core::Event::Message(message) => assert_eq!(text(&message)?, before.to_string()),
            broker_core::Event::Gap(gap) => break gap,
            other => return Err(format!("{other:?}").into()),
        }
        before += 1;
    };
    lost_link(&gap)?;
    // One more may have been under way at the cut.
    assert!(
        before <= at_the_break + 1,
        "{before} received before the gap, {at_the_break} posted before the cut"
    );
    let first = text(&crate::wait::next_message(&mut received).await?)?;
    let first: u64 = first.parse().map_err(|_| format!("`{first}` is the first after the gap"))?;
    assert!(first >= at_the_break + 50, "{first} was posted while the line was cut");
    for n in first + 1..last {
        receives(&mut received, &n.to_string()).await?;
    }
    receives(&mut received, "end").await?;
    Ok(())
}

/// Nobody posts anything: the gap comes by itself, to everyone who waits.
async fn a_waiting_stream_receives_the_gap(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut waiting = JoinSet::new();
    let (asleep, mut sleepers) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..100 {
        let mut stream = node.subscribe(format!("quiet.{}", n % 30)).await?;
        let asleep = asleep.clone();
        waiting.spawn(async move {
            assert!(futures_util::poll!(std::pin::pin!(stream.next())).is_pending());
            drop(asleep);
            // Without a time limit here: its timer would wake the task.
            stream.next().await
        });
    }
    drop(asleep);
    assert_eq!(within("all to wait", sleepers.recv()).await?, None::<()>);
    node.line.cut();
    wait_for_disconnect(&node).await?;
    node.line.heal();
    while let Some(event) = within("a stream to wake up", waiting.join_next()).await? {
        match event? {
            Some(broker_core::Event::Gap(gap)) => lost_link(&gap)?,
            other => return Err(format!("woke up for {other:?}").into()),
        }
    }
    Ok(())
}

async fn a_broken_link_affects_no_other_node(h: &dyn Harness) -> Outcome {
    let (broken, node, publisher) = (h.node().await?, h.node().await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    let _lost = broken.subscribe("news").await?;
    for n in 0..50 {
        match n {
            10 => broken.line.cut(),
            30 => broken.line.heal(),
            _ => {}
        }
        post(&publisher, "news", n.to_string()).await?;
    }
    wait_for_link(&broken, 2).await?;
    for n in 0..50 {
        receives(&mut received, &n.to_string()).await?;
    }
    fence(&publisher, &mut received).await?;
    assert_eq!((node.health().links, publisher.health().links), (1, 1));
    Ok(())
}

async fn a_stalled_line_is_detected_and_recovers(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node_with(quick_detection).await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    node.line.stall();
    wait_for_disconnect(&node).await?;
    node.line.heal();
    assert!(receives_again(&publisher, &mut received).await? >= 1, "no gap");
    Ok(())
}

async fn a_line_stalled_downstream_is_detected(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node_with(quick_detection).await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    node.line.stall_downstream();
    wait_for_disconnect(&node).await?;
    node.line.heal();
    assert!(receives_again(&publisher, &mut received).await? >= 1, "no gap");
    Ok(())
}

async fn a_hanging_server_is_detected_and_recovers(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node_with(quick_detection).await?, h.node_with(quick_detection).await?);
    let mut received = node.subscribe("news").await?;
    h.pause_server().await?;
    wait_for_disconnect(&node).await?;
    wait_for_disconnect(&publisher).await?;
    h.resume_server().await?;
    assert!(receives_again(&publisher, &mut received).await? >= 1, "no gap");
    Ok(())
}

async fn links_dropped_by_the_server_reconnect_with_a_gap(h: &dyn Harness) -> Outcome {
    let nodes = [h.node().await?, h.node().await?];
    let mut received = [nodes[0].subscribe("news").await?, nodes[1].subscribe("news").await?];
    for round in 0..5 {
        h.drop_links().await?;
        for node in &nodes {
            wait_for_link(node, round + 2).await?;
        }
        post(&nodes[0], "news", round.to_string()).await?;
        for received in &mut received {
            if h.members().is_some() {
                receives_after_several_link_losses(received, &round.to_string()).await?;
            } else {
                receives_link_loss(received).await?;
                receives(received, &round.to_string()).await?;
            }
        }
    }
    Ok(())
}

/// The message, behind the gap of a lost link. The members of a cluster drop links one after the other, and a digest may be
/// lost between two of them: that is a gap of its own.
async fn receives_after_several_link_losses(received: &mut Subscription, expected: &str) -> Outcome {
    let mut link_lost = false;
    loop {
        match next_event(received).await? {
            Event::Gap(Gap { cause: GapCause::LinkLost, missed: None, .. }) => link_lost = true,
            Event::Gap(Gap { cause: GapCause::Skipped, missed: None, .. }) => {}
            Event::Message(message) if link_lost => {
                assert_eq!(text(&message)?, expected);
                return Ok(());
            }
            other => {
                return Err(format!("expected {expected} after the gap of a lost link, got {other:?}").into());
            }
        }
    }
}

async fn five_thousand_channels_are_resubscribed_with_a_gap(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let names: Vec<String> = (0..5000).map(|n| format!("room.{n}")).collect();
    let mut rooms = try_join_all(names.iter().map(|name| node.subscribe(name))).await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    try_join_all(names.iter().map(|name| post(&publisher, name, name.as_str()))).await?;
    for (room, name) in rooms.iter_mut().zip(&names) {
        receives_link_loss(room).await?;
        receives(room, name).await?;
    }
    Ok(())
}

/// Twenty cuts: ten of them noticed, ten healed at once. Then there is one link again, and no task more.
async fn a_flapping_line_leaks_nothing(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    let (connections, at_first) = (h.connections().await?, tasks());
    for round in 0..10 {
        node.line.cut();
        wait_for_disconnect(&node).await?;
        node.line.heal();
        wait_for_link(&node, round + 2).await?;
    }
    for _ in 0..10 {
        node.line.cut();
        node.line.heal();
        tokio::task::yield_now().await;
    }
    assert!(receives_again(&publisher, &mut received).await? >= 1, "no gap");
    until_is("one link for each node", connections, || h.connections()).await?;
    until("the tasks of lost links to end", || tasks() <= at_first).await?;
    assert_eq!(h.subscribed_channels().await?.len(), 1);
    drop(received);
    until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
    Ok(())
}

/// Nobody tells a node that they are dead, nor the server that they were given up.
async fn dead_links_leave_nothing_behind(h: &dyn Harness) -> Outcome {
    let node = h.node_with(quick_detection).await?;
    let _heard = node.subscribe("news").await?;
    let (connections, at_first) = (h.connections().await?, tasks());
    for _ in 0..3 {
        let links = node.health().links;
        node.line.stall();
        wait_for_disconnect(&node).await?;
        node.line.heal();
        wait_for_link(&node, links + 1).await?;
    }
    until_is("one link", connections, || h.connections()).await?;
    until("the tasks of dead links to end", || tasks() <= at_first).await?;
    Ok(())
}
