//! Cases about single listeners: their calls, their panics, and closing from within.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use broker_core::{ListenerId, Received, Scope, Session, StreamItem};
use broker_macros::Model;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc::unbounded_channel, oneshot};

use crate::steps::{Count, called_with, count, listener, next_call, no_more_calls};
use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    wait::{until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_panicking_listener_is_removed_and_affects_no_other, [7]),
    case!(a_panic_before_the_first_await_is_contained, [7]),
    case!(slow_calls_of_a_listener_are_sequential, [7]),
    case!(a_slow_listener_delays_no_other, [5, 7]),
    case!(a_listener_can_remove_itself, [7, 8]),
    case!(a_listener_can_close_its_session, [7, 8]),
    case!(a_listener_can_close_its_broker_without_hanging, [7, 12]),
    case!(a_listener_can_post_and_add_listeners, [7]),
    case!(a_running_call_completes_after_its_session_closes, [8]),
    case!(a_prepared_call_does_not_begin_after_closing, [8]),
    case!(closing_the_broker_ends_a_call_that_never_returns, [12]),
    case!(closing_under_load_does_not_deadlock, [8, 12]),
];

/// Unwinds as a panic does, without the noise.
pub(super) fn panic_quietly() {
    std::panic::resume_unwind(Box::new("a listener of a case"));
}

async fn a_panicking_listener_is_removed_and_affects_no_other(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let session = node.session();
    let mut before = listener(&session, "counts").await?;
    for channel in ["counts", "alone"] {
        let panicking = |_: Received<Count>| async {
            tokio::task::yield_now().await;
            panic_quietly();
        };
        session.add_listener(channel, panicking).await?;
    }
    let mut after = listener(&session, "counts").await?;
    count(&publisher, "alone", 0).await?;
    for n in 1..=3 {
        count(&publisher, "counts", n).await?;
        called_with(&mut before, n).await?;
        called_with(&mut after, n).await?;
    }
    // Nobody is left on the other channel.
    let names = || async { Ok(h.subscribed_channels().await?.len()) };
    until_is("the server to forget its channel", 1, names).await?;
    assert!(!session.is_closed());
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn a_panic_before_the_first_await_is_contained(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (alive, mut gone) = unbounded_channel::<()>();
    let panicking = move |_: StreamItem<Count>| {
        let _ = &alive;
        panic_quietly();
        std::future::ready(())
    };
    session.add_listener("counts", panicking).await?;
    let mut other = listener(&session, "counts").await?;
    count(&node, "counts", 1).await?;
    no_more_calls(&mut gone).await?;
    count(&node, "counts", 2).await?;
    called_with(&mut other, 1).await?;
    called_with(&mut other, 2).await?;
    Ok(())
}

async fn slow_calls_of_a_listener_are_sequential(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let session = node.session();
    let (busy, (sender, mut calls)) = (Arc::new(AtomicBool::new(false)), unbounded_channel());
    let slow = move |item: StreamItem<Count>| {
        let (busy, sender) = (Arc::clone(&busy), sender.clone());
        async move {
            let alone = !busy.swap(true, Ordering::SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            busy.store(false, Ordering::SeqCst);
            let _ = sender.send((alone, item.map(|count| count.n).ok()));
        }
    };
    session.add_listener("counts", slow).await?;
    for n in 0..300 {
        count(&publisher, "counts", n).await?;
    }
    for n in 0..300 {
        assert_eq!(next_call(&mut calls).await?, (true, Some(n)));
    }
    Ok(())
}

async fn a_slow_listener_delays_no_other(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let session = node.session();
    let (turns, (sender, mut slow)) = (Arc::new(Semaphore::new(0)), unbounded_channel());
    for channel in ["counts", "others"] {
        let (turns, sender) = (Arc::clone(&turns), sender.clone());
        let hanging = move |item: StreamItem<Count>| {
            let (turns, sender) = (Arc::clone(&turns), sender.clone());
            async move {
                drop(turns.acquire().await.map(tokio::sync::SemaphorePermit::forget));
                drop(sender.send(item));
            }
        };
        session.add_listener(channel, hanging).await?;
    }
    let (mut quick, mut elsewhere) = (listener(&session, "counts").await?, listener(&session, "more").await?);
    for n in 0..50 {
        count(&publisher, "counts", n).await?;
        count(&publisher, "others", n).await?;
        called_with(&mut quick, n).await?;
        count(&publisher, "more", n).await?;
        called_with(&mut elsewhere, n).await?;
    }
    assert!(slow.try_recv().is_err());
    turns.add_permits(100);
    let mut numbers = Vec::new();
    for _ in 0..100 {
        numbers.push(next_call(&mut slow).await?.map(|count| count.n)?);
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq((0..50).flat_map(|n| [n, n])), "{numbers:?}");
    Ok(())
}

async fn a_listener_can_remove_itself(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = Arc::new(node.session());
    let own: Arc<OnceLock<ListenerId>> = Arc::default();
    let (sender, mut calls) = unbounded_channel();
    let once = {
        let (session, own) = (Arc::downgrade(&session), Arc::clone(&own));
        move |item: StreamItem<Count>| {
            let removed =
                session.upgrade().zip(own.get()).is_some_and(|(session, id)| session.remove_listener(*id));
            let _ = sender.send((removed, item.map(|count| count.n).ok()));
            std::future::ready(())
        }
    };
    let id = session.add_listener("counts", once).await?.id();
    own.set(id).map_err(|id| format!("{id} is there already"))?;
    let mut other = listener(&session, "counts").await?;
    // Two are in its queue before it can remove itself.
    let posts = (1..=2).map(|n| node_count(&session, n));
    futures_util::future::try_join_all(posts).await?;
    assert_eq!(next_call(&mut calls).await?, (true, Some(1)));
    no_more_calls(&mut calls).await?;
    called_with(&mut other, 1).await?;
    called_with(&mut other, 2).await?;
    assert!(!session.remove_listener(id));
    Ok(())
}

async fn node_count(session: &Session, n: u64) -> Result<(), String> {
    session
        .post_message("counts", Count { n }, Scope::Global)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

async fn a_listener_can_close_its_session(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = Arc::new(node.session());
    let (sender, mut calls) = unbounded_channel();
    let closing = {
        let session = Arc::downgrade(&session);
        move |item: StreamItem<Count>| {
            let (session, sender) = (session.clone(), sender.clone());
            async move {
                drop(sender.send(item));
                if let Some(session) = session.upgrade() {
                    session.close();
                }
                tokio::task::yield_now().await;
            }
        }
    };
    session.add_listener("counts", closing).await?;
    let mut other = listener(&session, "elsewhere").await?;
    let posts = (1..=20).map(|n| node_count(&session, n));
    // The session may be closed before the last of them.
    drop(within("the posts", futures_util::future::join_all(posts)).await?);
    called_with(&mut calls, 1).await?;
    no_more_calls(&mut calls).await?;
    no_more_calls(&mut other).await?;
    assert!(session.is_closed());
    Ok(())
}

/// A call that waits for its own end is dropped at that wait; the broker is closed all the same.
async fn a_listener_can_close_its_broker_without_hanging(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.drain_timeout = std::time::Duration::from_secs(60)).await?;
    let session = node.session();
    let (alive, mut gone) = unbounded_channel::<()>();
    let closing = {
        let broker = node.broker.clone();
        move |_: StreamItem<Count>| {
            let (broker, alive) = (broker.clone(), alive.clone());
            async move {
                broker.close().await;
                drop(alive);
            }
        }
    };
    session.add_listener("counts", closing).await?;
    // The broker may be closed before the server has answered.
    let _ = count(&node, "counts", 1).await;
    no_more_calls(&mut gone).await?;
    assert!(session.is_closed());
    within("the broker to close", node.close()).await?;
    Ok(())
}

async fn a_listener_can_post_and_add_listeners(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = Arc::new(node.session());
    let (sender, mut calls) = unbounded_channel();
    let (done, mut outcomes) = unbounded_channel();
    let answering = {
        let session = Arc::downgrade(&session);
        move |question: Received<Count>| {
            let (session, sender, done) = (session.clone(), sender.clone(), done.clone());
            async move {
                let Some(session) = session.upgrade() else { return };
                let listening = move |item: StreamItem<Count>| {
                    let _ = sender.send(item);
                    std::future::ready(())
                };
                let added = session.add_listener("answers", listening).await.map(drop);
                let answer = Count { n: question.n + 1 };
                let posted = session.post_message("answers", answer, Scope::Global).await;
                let _ = done.send(added.and(posted));
            }
        }
    };
    session.add_listener("questions", answering).await?;
    count(&node, "questions", 41).await?;
    called_with(&mut calls, 42).await?;
    next_call(&mut outcomes).await??;
    Ok(())
}

async fn a_running_call_completes_after_its_session_closes(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (turns, (sender, mut calls)) = (Arc::new(Semaphore::new(0)), unbounded_channel());
    let waiting = {
        let turns = Arc::clone(&turns);
        move |_: StreamItem<Count>| {
            let (turns, sender) = (Arc::clone(&turns), sender.clone());
            async move {
                let _ = sender.send("begun");
                drop(turns.acquire().await);
                let _ = sender.send("ended");
            }
        }
    };
    session.add_listener("counts", waiting).await?;
    count(&node, "counts", 1).await?;
    count(&node, "counts", 2).await?;
    assert_eq!(next_call(&mut calls).await?, "begun");
    drop(session);
    turns.add_permits(1);
    assert_eq!(next_call(&mut calls).await?, "ended");
    no_more_calls(&mut calls).await?;
    Ok(())
}

/// Closes a session while it is being decoded: between the arrival of the message and the call.
#[derive(Serialize, Model)]
#[serde(transparent)]
struct Closing {
    node: u64,
}

static SESSIONS: Mutex<Vec<(u64, Weak<Session>)>> = Mutex::new(Vec::new());

impl<'de> Deserialize<'de> for Closing {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let node = u64::deserialize(from)?;
        let sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.iter().find(|(of, _)| *of == node);
        if let Some(session) = session.and_then(|(_, session)| session.upgrade()) {
            session.close();
        }
        Ok(Self { node })
    }
}

async fn a_prepared_call_does_not_begin_after_closing(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = Arc::new(node.session());
    let key = node.node_id().as_u64();
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).push((key, Arc::downgrade(&session)));
    let (sender, mut calls) = unbounded_channel();
    let function = move |item: StreamItem<Closing>| {
        let _ = sender.send(item.map(|closing| closing.node));
        std::future::ready(())
    };
    session.add_listener("closing", function).await?;
    session.post_message("closing", Closing { node: key }, Scope::Global).await?;
    no_more_calls(&mut calls).await?;
    assert!(session.is_closed());
    Ok(())
}

async fn closing_the_broker_ends_a_call_that_never_returns(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (sender, mut calls) = unbounded_channel();
    let stuck = move |_: StreamItem<Count>| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(());
            pending::<()>().await;
        }
    };
    session.add_listener("counts", stuck).await?;
    count(&node, "counts", 1).await?;
    next_call(&mut calls).await?;
    within("the broker to close", node.close()).await?;
    no_more_calls(&mut calls).await?;
    Ok(())
}

/// From inside and outside of calls, while messages arrive from everywhere.
async fn closing_under_load_does_not_deadlock(h: &dyn Harness) -> Outcome {
    let (node, publisher) = (h.node().await?, h.node().await?);
    let (stop, mut stopped) = oneshot::channel::<()>();
    let local = node.broker.clone();
    let storm = tokio::spawn(async move {
        let mut n = 0;
        while stopped.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty) {
            n += 1;
            // The node is closed in the end.
            let _ = local.publish("counts", "local", Scope::Local).await;
            let posts = (0..20).map(|i| count(&publisher, "counts", n + i));
            futures_util::future::try_join_all(posts).await?;
        }
        Ok::<_, String>(())
    });
    let mut ends = Vec::new();
    for round in 0..40 {
        let session = Arc::new(node.session());
        let mut stream = session.create_stream::<Count>("counts").await?;
        let (alive, gone) = unbounded_channel::<()>();
        let closing = {
            let session = Arc::downgrade(&session);
            move |_: StreamItem<Count>| {
                let _ = &alive;
                session.upgrade().filter(|_| round % 2 == 0).inspect(|session| session.close());
                std::future::ready(())
            }
        };
        session.add_listener("counts", closing).await?;
        drop(within("something from the storm", stream.next()).await?);
        if round % 2 == 1 {
            session.close();
        }
        within("the session to close", session.closed()).await?;
        ends.push((session, stream, gone));
    }
    within("the broker to close", node.close()).await?;
    for (_, _, mut gone) in ends {
        no_more_calls(&mut gone).await?;
    }
    drop(stop);
    within("the storm to end", storm).await???;
    Ok(())
}
