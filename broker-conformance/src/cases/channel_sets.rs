//! Cases about one stream over many channels: joining, leaving, order, loss, and the end.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use broker_core::{Broker, CloseReason, ErrorKind, GapCause, Scope, SetEvent, SubscribeOptions};
use futures_util::{FutureExt, future::poll_immediate};

use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    lossy_driver::{Fate, Losses, is_digest},
    steps::{
        post, receives,
        sets::{next, next_text, nothing_more, yields, yields_gap, yields_gaps},
        wait_for_disconnect, wait_for_link,
    },
    wait::{until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_set_yields_each_channel_in_its_order, [1, 3]),
    case!(channels_that_join_together_are_all_subscribed, [1]),
    case!(a_channel_that_leaves_a_set_yields_nothing_more, [8, 12]),
    case!(a_refused_channel_keeps_its_whole_call_out_of_the_set, [11, 12]).needs(&[Need::Permissions]),
    case!(a_channel_refused_at_a_reconnect_leaves_its_set, [4, 11]).needs(&[Need::Permissions]),
    case!(a_set_reports_a_cut_on_each_of_its_channels, [3, 4]).needs(&[Need::Server]),
    case!(a_set_reports_lost_messages_on_their_channel, [4]),
    case!(a_slow_set_loses_the_oldest_of_all_its_channels, [4, 5]),
    case!(a_set_of_the_newest_keeps_one_message_of_each_channel, [4, 5]),
    case!(a_set_that_does_not_wait_says_when_each_channel_begins, [1, 4])
        .needs(&[Need::PostsInTurn, Need::Server]),
    case!(a_set_ends_with_its_session, [8]),
    case!(draining_waits_for_what_a_set_holds, [12]),
    case!(a_dropped_set_and_a_dropped_join_leave_nothing, [12]),
];

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("room.{n}"))
}

async fn a_set_yields_each_channel_in_its_order(h: &dyn Harness) -> Outcome {
    let (here, one, two) = (h.node().await?, h.node().await?, h.node().await?);
    let session = here.session();
    let mut set = session.channel_set();
    set.join_all(names(10)).await?;
    let posting = async |publisher: &Broker, who: &str| {
        for n in 0..30 {
            for room in names(10) {
                post(publisher, &room, format!("{who} {n}")).await?;
            }
        }
        Ok::<(), String>(())
    };
    let (first, second) = futures_util::join!(posting(&one.broker, "one"), posting(&two.broker, "two"));
    first?;
    second?;
    // Nothing is read before all is posted: it waits in the set.
    let mut last = HashMap::new();
    for _ in 0..600 {
        let (channel, text) = next_text(&mut set).await?;
        let (who, n) = text.split_once(' ').ok_or("not ours")?;
        let n: usize = n.parse()?;
        let expected = last.insert((channel.clone(), who.to_owned()), n).map_or(0, |before| before + 1);
        assert_eq!(n, expected, "{who} on {channel}");
    }
    nothing_more(&one, &mut set, "room.3").await?;
    Ok(())
}

/// A thousand fresh channels, each with a post from another node right after: none is missed.
async fn channels_that_join_together_are_all_subscribed(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = here.session();
    let mut set = session.channel_set();
    for round in ["first", "second"] {
        let room = |n: usize| format!("{round}.{n}");
        set.join_all((0..1000).map(room)).await?;
        let mut missing: BTreeSet<String> = (0..1000).map(room).collect();
        for chunk in 0..10 {
            let posts = (0..100).map(|n| there.publish(room(chunk * 100 + n), "hello", Scope::Global));
            futures_util::future::try_join_all(posts).await?;
        }
        while !missing.is_empty() {
            let (channel, text) = next_text(&mut set).await?;
            assert!(text == "hello" && missing.remove(&channel), "{channel}: {text}");
        }
    }
    assert_eq!((set.len(), here.health().links), (2000, 1));
    Ok(())
}

async fn a_channel_that_leaves_a_set_yields_nothing_more(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = here.session();
    let mut set = session.channel_set();
    set.join_all(names(3)).await?;
    let mut beside = here.subscribe("room.1").await?;
    post(&there, "room.1", "unread").await?;
    receives(&mut beside, "unread").await?;
    assert!(set.leave("room.1") && !set.leave("room.1"));
    post(&there, "room.1", "after").await?;
    receives(&mut beside, "after").await?;
    nothing_more(&there, &mut set, "room.2").await?;
    drop(beside);
    until_is("the server to forget the channel", 2, || async {
        h.subscribed_channels().await.map(|names| names.len())
    })
    .await?;
    set.join("room.1").await?;
    post(&there, "room.1", "back").await?;
    yields(&mut set, "room.1", "back").await?;
    nothing_more(&there, &mut set, "room.1").await?;
    Ok(())
}

async fn a_refused_channel_keeps_its_whole_call_out_of_the_set(h: &dyn Harness) -> Outcome {
    h.allow_only("open").await?;
    let node = h.node().await?;
    let session = node.session();
    let mut set = session.channel_set();
    set.join("open.0").await?;
    let rooms: Vec<String> = (0..30).map(|n| format!("{}.{n}", ["open", "shut", "open"][n % 3])).collect();
    let error = within("the refusal", set.join_all(&rooms)).await?.err().ok_or("joined")?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.channel().is_some_and(|name| name.as_str().starts_with("shut")), "{error}");
    assert_eq!(set.channels().iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["open.0"]);
    until_is("the server to forget the others", 1, || async {
        h.subscribed_channels().await.map(|names| names.len())
    })
    .await?;
    set.join_all(rooms.iter().filter(|room| room.starts_with("open"))).await?;
    post(&node, "open.29", "hello").await?;
    yields(&mut set, "open.29", "hello").await?;
    nothing_more(&node, &mut set, "open.0").await?;
    Ok(())
}

async fn a_channel_refused_at_a_reconnect_leaves_its_set(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut set = session.channel_set();
    set.join_all(["open", "shut"]).await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    // Only now: a server may end the link over it, and another one be there before the line is cut.
    h.allow_only("open").await?;
    node.line.heal();
    let (mut refused, mut live) = (false, false);
    while !(refused && live) {
        match next(&mut set).await? {
            (channel, SetEvent::Refused(error)) if channel == "shut" => {
                assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
                refused = true;
            }
            (channel, SetEvent::Gap(gap)) if channel == "open" && gap.cause == GapCause::LinkLost => {
                live = true;
            }
            // While the links changed.
            (channel, SetEvent::Gap(gap)) if channel == "shut" && gap.cause == GapCause::LinkLost => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    assert!(set.contains("open") && !set.contains("shut"));
    within("the link", node.ready()).await??;
    nothing_more(&node, &mut set, "open").await?;
    Ok(())
}

async fn a_set_reports_a_cut_on_each_of_its_channels(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = here.session();
    let mut set = session.channel_set();
    set.join_all(names(3)).await?;
    post(&there, "room.0", "before").await?;
    yields(&mut set, "room.0", "before").await?;
    here.line.cut();
    wait_for_disconnect(&here).await?;
    post(&there, "room.1", "missed").await?;
    here.line.heal();
    wait_for_link(&here, 2).await?;
    yields_gaps(&mut set, &["room.0", "room.1", "room.2"], GapCause::LinkLost).await?;
    post(&there, "room.1", "after").await?;
    yields(&mut set, "room.1", "after").await?;
    nothing_more(&there, &mut set, "room.2").await?;
    Ok(())
}

async fn a_set_reports_lost_messages_on_their_channel(h: &dyn Harness) -> Outcome {
    let losses = Losses::default();
    let around = losses.clone();
    let (node, poster) =
        (h.node().await?, h.node_through(|_| {}, move |driver| around.around(driver)).await?);
    let session = node.session();
    let mut set = session.channel_set();
    set.join_all(names(2)).await?;
    for room in ["room.0", "room.1"] {
        post(&poster, room, "first").await?;
        yields(&mut set, room, "first").await?;
    }
    losses.rule(|frame| if is_digest(frame) { Fate::Arrives } else { Fate::Lost });
    for _ in 0..3 {
        post(&poster, "room.1", "lost").await?;
    }
    losses.stop();
    post(&poster, "room.0", "none").await?;
    post(&poster, "room.1", "next").await?;
    yields(&mut set, "room.0", "none").await?;
    yields_gap(&mut set, "room.1", Some(3), GapCause::Skipped).await?;
    yields(&mut set, "room.1", "next").await?;
    nothing_more(&poster, &mut set, "room.0").await?;
    Ok(())
}

/// Ten of room 0, two of room 1, then five more: of 17 the newest eight are kept.
async fn a_slow_set_loses_the_oldest_of_all_its_channels(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = here.session();
    let mut set = session.channel_set_with(SubscribeOptions::new().capacity(8))?;
    set.join_all(names(3)).await?;
    let mut beside = [here.subscribe("room.0").await?, here.subscribe("room.1").await?];
    let rooms = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 1];
    for (n, room) in rooms.into_iter().enumerate() {
        post(&there, &format!("room.{room}"), n.to_string()).await?;
        receives(&mut beside[room], &n.to_string()).await?;
    }
    yields_gap(&mut set, "room.0", Some(9), GapCause::Overflow).await?;
    for (n, room) in rooms.into_iter().enumerate().skip(9) {
        yields(&mut set, &format!("room.{room}"), &n.to_string()).await?;
    }
    nothing_more(&there, &mut set, "room.2").await?;
    Ok(())
}

async fn a_set_of_the_newest_keeps_one_message_of_each_channel(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = here.session();
    let mut set = session.channel_set_with(SubscribeOptions::new().latest_only())?;
    set.join_all(names(3)).await?;
    let mut beside = [here.subscribe("room.0").await?, here.subscribe("room.1").await?];
    for n in 0..40 {
        let room = usize::from(n % 4 == 3);
        post(&there, &format!("room.{room}"), n.to_string()).await?;
        receives(&mut beside[room], &n.to_string()).await?;
    }
    let mut rooms = BTreeSet::from([("room.0", 29, "38"), ("room.1", 9, "39")]);
    while !rooms.is_empty() {
        let (channel, event) = next(&mut set).await?;
        let room = rooms.iter().find(|(name, ..)| *name == channel).copied().ok_or("another room")?;
        match event {
            SetEvent::Gap(gap) if (gap.missed, gap.cause) == (Some(room.1), GapCause::Conflated) => {}
            other => return Err(format!("{channel}: {other:?}").into()),
        }
        yields(&mut set, room.0, room.2).await?;
        rooms.remove(&room);
    }
    nothing_more(&there, &mut set, "room.2").await?;
    Ok(())
}

async fn a_set_that_does_not_wait_says_when_each_channel_begins(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = here.session();
    let mut set = session.channel_set_with(SubscribeOptions::new().without_waiting())?;
    here.line.cut();
    wait_for_disconnect(&here).await?;
    set.join_all(names(3)).now_or_never().ok_or("the call waits")??;
    post(&there, "room.1", "before").await?;
    here.line.heal();
    yields_gaps(&mut set, &["room.0", "room.1", "room.2"], GapCause::Subscribed).await?;
    nothing_more(&there, &mut set, "room.1").await?;
    Ok(())
}

/// At once, also what waits in it; and a set without channels.
async fn a_set_ends_with_its_session(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = here.session();
    let (mut set, mut empty) = (session.channel_set(), session.channel_set());
    set.join_all(names(3)).await?;
    let mut beside = here.subscribe("room.0").await?;
    post(&there, "room.0", "unread").await?;
    receives(&mut beside, "unread").await?;
    // It waits when the session is closed.
    let (waiting, ()) =
        futures_util::join!(within("the end of the empty one", empty.next()), async { session.close() });
    assert!(waiting?.is_none());
    assert!(within("the end", set.next()).await?.is_none());
    assert_eq!(set.close_reason(), Some(&CloseReason::SessionClosed));
    assert_eq!(empty.close_reason(), Some(&CloseReason::SessionClosed));
    let error = set.join("room.9").await.err().ok_or("joined")?;
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    Ok(())
}

async fn draining_waits_for_what_a_set_holds(h: &dyn Harness) -> Outcome {
    let here = h.node_with(|options| options.drain_timeout = Duration::from_secs(3600)).await?;
    let session = here.session();
    let mut set = session.channel_set();
    set.join_all(names(3)).await?;
    for n in 0..30 {
        post(&here, &format!("room.{}", n % 3), n.to_string()).await?;
    }
    let draining = tokio::spawn({
        let broker = here.broker.clone();
        async move { broker.drain().await }
    });
    // From here on it waits for the set alone.
    until("the end of all posts", || {
        here.publish("other", "late", Scope::Local).now_or_never().is_some_and(|posted| posted.is_err())
    })
    .await?;
    let mut next = [0, 1, 2];
    for n in 0..30 {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let (channel, text) = next_text(&mut set).await?;
        let number: usize = text.parse()?;
        assert_eq!((channel, number), (format!("room.{}", number % 3), next[number % 3]));
        next[number % 3] += 3;
        assert!(!draining.is_finished(), "after {n}");
    }
    assert!(within("the end", set.next()).await?.is_none());
    assert_eq!(set.close_reason(), Some(&CloseReason::BrokerClosed));
    within("the drain", draining).await??;
    Ok(())
}

async fn a_dropped_set_and_a_dropped_join_leave_nothing(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut set = session.channel_set();
    set.join_all(names(100)).await?;
    let mut steady = session.channel_set();
    steady.join("steady").await?;
    for n in 0..50 {
        let mut call = Box::pin(steady.join_all((0..20).map(|n| format!("dropped.{n}"))));
        for _ in 0..n % 5 {
            if poll_immediate(&mut call).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        (0..20).for_each(|n| _ = steady.leave(format!("dropped.{n}")));
        assert_eq!(steady.len(), 1);
    }
    post(&node, "room.7", "unread").await?;
    drop(set);
    until_is("the server to forget all others", 1, || async {
        h.subscribed_channels().await.map(|names| names.len())
    })
    .await?;
    nothing_more(&node, &mut steady, "steady").await?;
    Ok(())
}
