//! Cases about how a program holds what it opened: typed channels, streams that own their session, handles, listeners
//! without one, and how a listener reports its end.

use broker_core::{Channel, ChannelName, CloseReason, Event, ListenerEnd, Received, Scope, StreamError};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    case::{Case, Outcome, case},
    cases::listeners::panic_quietly,
    harness::Harness,
    steps::{Count, called_with, count, listener, next_call, no_more_calls},
    wait::{next_item, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_typed_channel_is_the_channel_of_its_name, [1, 2]),
    case!(parts_that_users_enter_make_channels_of_their_own, [3]),
    case!(a_stream_that_owns_its_session_lives_as_long_as_it_is_held, [8]),
    case!(a_session_ends_with_its_last_handle, [8]),
    case!(a_listener_of_the_broker_lasts_until_it_is_removed, [7, 8]),
    case!(a_listener_reports_why_it_ended, [7, 8]),
    case!(plain_and_untyped_functions_are_listeners, [7]),
    case!(each_call_of_a_listener_gets_a_clone_of_its_state, [7]),
];

const COUNTS: Channel<Count> = Channel::new("counts");

async fn a_typed_channel_is_the_channel_of_its_name(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut typed = there.create_stream(COUNTS).await?;
    let mut named = there.create_stream::<Count>("counts").await?;
    here.post_message(&COUNTS, Count { n: 1 }, Scope::Global).await?;
    count(&here, "counts", 2).await?;
    for n in 1..=2 {
        assert_eq!(next_item(&mut typed).await??.n, n);
        assert_eq!(next_item(&mut named).await??.n, n);
    }
    Ok(())
}

/// Each of these, written into a name as it is, would be illegal or another's.
async fn parts_that_users_enter_make_channels_of_their_own(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let rooms = ["a.b", "a", "", "%", "%25", "$node", "*", ">", "#", "a b", "\0\n", "ü/\\\"'", "b"];
    let room = |text: &str| Channel::<Count>::of(["room", text]);
    let mut streams = Vec::new();
    for text in rooms {
        streams.push(there.create_stream(room(text)).await?);
    }
    // Had `a.b` not been escaped, it would be this one.
    let mut deeper = there.create_stream(Channel::<Count>::of(["room", "a", "b"])).await?;
    for (n, text) in rooms.into_iter().enumerate() {
        here.post_message(room(text), Count { n: n as u64 }, Scope::Global).await?;
        let name = ChannelName::of(["room", text])?;
        assert_eq!(name.parts(), Some(vec!["room".to_owned(), text.to_owned()]));
    }
    here.post_message(Channel::of(["room", "a", "b"]), Count { n: 99 }, Scope::Global).await?;
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(next_item(stream).await??.n, n as u64, "{}", rooms[n]);
    }
    assert_eq!(next_item(&mut deeper).await??.n, 99);
    Ok(())
}

async fn a_stream_that_owns_its_session_lives_as_long_as_it_is_held(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut counts = {
        let session = node.session();
        session.create_stream(COUNTS).await?.owning(session)
    };
    let mut beside = listener(counts.session(), "counts").await?;
    count(&node, "counts", 1).await?;
    assert_eq!(next_item(&mut counts).await??.n, 1);
    called_with(&mut beside, 1).await?;
    drop(counts);
    no_more_calls(&mut beside).await?;
    until_is("the server to forget the channel", Vec::new(), || h.subscribed_channels()).await?;
    Ok(())
}

async fn a_session_ends_with_its_last_handle(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut counts = session.create_stream(COUNTS).await?;
    let (first, second) = (session.clone(), session.clone());
    drop(session);
    drop(first);
    assert!(!second.is_closed());
    second.post_message(COUNTS, Count { n: 1 }, Scope::Global).await?;
    assert_eq!(next_item(&mut counts).await??.n, 1);
    drop(second);
    assert!(within("the end of the stream", counts.next()).await?.is_none());
    assert_eq!(counts.close_reason(), Some(&CloseReason::SessionClosed));
    // One closes it for all.
    let session = node.session();
    let other = session.clone();
    session.close();
    assert!(other.is_closed());
    Ok(())
}

async fn a_listener_of_the_broker_lasts_until_it_is_removed(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (sender, mut calls) = unbounded_channel();
    let mut listening = node
        .add_listener(COUNTS, move |count: Received<Count>| {
            let _ = sender.send(count.n);
        })
        .await?;
    let ended = node.add_listener(COUNTS, |_: Received<Count>| {}).await?;
    drop(ended); // only the handle
    for n in 1..=2 {
        count(&node, "counts", n).await?;
        assert_eq!(next_call(&mut calls).await?, n);
    }
    assert!(listening.remove() && !listening.remove());
    assert_eq!(within("the end", listening.ended()).await?, ListenerEnd::Closed(CloseReason::Removed));
    no_more_calls(&mut calls).await?;
    Ok(())
}

async fn a_listener_reports_why_it_ended(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let quiet = |_: Received<Count>| {};
    let mut removed = session.add_listener(COUNTS, quiet).await?;
    let mut panicking = session.add_listener(COUNTS, |_: Received<Count>| panic_quietly()).await?;
    let mut closed = session.add_listener(COUNTS, quiet).await?;
    let mut last = node.add_listener(COUNTS, quiet).await?;
    assert!(session.remove_listener(&removed));
    count(&node, "counts", 1).await?;
    for _ in 0..2 {
        assert_eq!(within("an end", panicking.ended()).await?, ListenerEnd::Panicked);
        assert_eq!(within("an end", removed.ended()).await?, ListenerEnd::Closed(CloseReason::Removed));
    }
    session.close();
    assert_eq!(within("an end", closed.ended()).await?, ListenerEnd::Closed(CloseReason::SessionClosed));
    node.close().await;
    assert_eq!(within("an end", last.ended()).await?, ListenerEnd::Closed(CloseReason::BrokerClosed));
    Ok(())
}

async fn plain_and_untyped_functions_are_listeners(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (sender, mut calls) = unbounded_channel();
    let untyped = sender.clone();
    let takes_events = move |event: Event| {
        if let Event::Message(message) = event {
            let _ = untyped.send(message.decode::<Count>().map_or(0, |count| count.n));
        }
    };
    session.add_listener(COUNTS, takes_events).await?;
    let takes_items = move |item: Result<Received<Count>, StreamError>| {
        let _ = sender.send(item.map_or(0, |count| count.n + 100));
    };
    session.add_listener(COUNTS, takes_items).await?;
    for n in 1..=3 {
        count(&node, "counts", n).await?;
        let mut both = [next_call(&mut calls).await?, next_call(&mut calls).await?];
        both.sort_unstable();
        assert_eq!(both, [n, n + 100]);
    }
    Ok(())
}

async fn each_call_of_a_listener_gets_a_clone_of_its_state(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (sender, mut calls) = unbounded_channel();
    let sends = async |(sender, from): (tokio::sync::mpsc::UnboundedSender<u64>, u64),
                       count: Received<Count>| {
        tokio::task::yield_now().await;
        let _ = sender.send(from + count.n);
    };
    session.add_listener_with(COUNTS, (sender, 10), sends).await?;
    for n in 1..=3 {
        count(&node, "counts", n).await?;
        assert_eq!(next_call(&mut calls).await?, 10 + n);
    }
    Ok(())
}
