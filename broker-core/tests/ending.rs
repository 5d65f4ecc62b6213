//! How a broker ends, wanted or not: by a drain, by the end of its runtime or of its supervisor; and its calls on threads
//! that are in no runtime.

#![allow(clippy::unwrap_used, reason = "a test")]
mod scripted;

use std::{
    panic::catch_unwind,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use broker_core::{
    Broker, CloseReason, ConnectionState, Error, ErrorKind, Identity, Received, Revocation, Scope,
};
use futures_util::future::join_all;
use scripted::{
    Scripted, options,
    steps::{LIMIT, Note, note, within},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    time::timeout,
};

/// Waits on this thread, which is in no runtime.
fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        thread::yield_now();
    }
}

/// A broker is over, and says why: no call succeeds, and none hangs.
async fn assert_over(broker: &Broker, why: &str) {
    let health = broker.health();
    assert_eq!(health.state, ConnectionState::Closed);
    let said = health.last_error.expect("a reason").to_string();
    assert!(said.contains(why), "{said}");
    let session = broker.session();
    let mut errors: Vec<Option<Error>> = vec![
        within("ready", broker.ready()).await.err(),
        within("subscribe", broker.subscribe("news")).await.err(),
        within("add_listener", session.add_listener("news", |_: Received<Note>| async {})).await.err(),
        within("create_stream", session.create_stream::<Note>("news")).await.err(),
    ];
    for scope in [Scope::Local, Scope::Global, Scope::Auto] {
        errors.push(within("publish", broker.publish("news", "x", scope)).await.err());
        errors.push(within("post_message", session.post_message("news", note(), scope)).await.err());
    }
    for (number, error) in errors.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("call {number} succeeded"));
        assert_eq!(error.kind(), ErrorKind::Closed, "call {number}: {error}");
        assert!(error.to_string().contains(why), "call {number}: {error}");
    }
    within("close", broker.close()).await;
    within("drain", broker.drain()).await;
}

#[test]
fn a_stopped_runtime_closes_the_broker_and_ends_pending_calls() {
    const WHY: &str = "the runtime this broker was made on is gone";
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let driver = Scripted::default();
    let broker = first.block_on(driver.connect(options())).unwrap();
    let session = broker.session();
    let mut news = second.block_on(broker.subscribe("news")).unwrap();
    // One under way, and one that waits for it.
    driver.world().hang_publish = true;
    let posts = (0..2).map(|_| {
        let broker = broker.clone();
        second.spawn(async move { broker.publish("news", "x", Scope::Global).await })
    });
    let posts: Vec<_> = posts.collect();
    until("the first is under way", || driver.world().published.len() > 1);
    drop(first);
    second.block_on(async {
        for post in within("the posts", join_all(posts)).await {
            let kind = post.unwrap().unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::Interrupted | ErrorKind::Closed), "{kind:?}");
        }
        assert!(within("the stream's end", news.next()).await.is_none());
        assert!(matches!(within("the session's end", session.closed()).await, CloseReason::BrokerClosed));
        assert_over(&broker, WHY).await;
    });
}

#[test]
fn connecting_on_a_stopped_runtime_fails() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let driver = Scripted::default();
    driver.world().hang_connect = true;
    let mut connecting = Box::pin(driver.connect(options()));
    first.block_on(async {
        assert!(futures_util::poll!(&mut connecting).is_pending());
    });
    drop(first);
    let error = second.block_on(within("connect", connecting)).unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_supervisor_closes_the_broker_with_its_message() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut news = broker.subscribe("news").await.unwrap();
    driver.world().panic_publish = true;
    let error = within("the post", broker.publish("news", "x", Scope::Global)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Closed), "{error}");
    assert!(within("the stream's end", news.next()).await.is_none());
    assert_over(&broker, "panicked: the test makes the driver panic").await;
}

#[test]
fn a_runtime_without_timers_fails_connect_and_serves_calls() {
    let bare = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let error = bare.block_on(Scripted::default().connect(options())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("timers"), "{error}");
    let runtime = Runtime::new().unwrap();
    let broker = runtime.block_on(Scripted::default().connect(options())).unwrap();
    bare.block_on(async {
        drop(broker.subscribe("news").await.unwrap());
        broker.publish("news", "x", Scope::Global).await.unwrap();
        broker.drain().await;
    });
}

/// Alive, and nobody runs it: a current-thread runtime outside of `block_on`.
#[test]
fn an_undriven_runtime_ends_connected_and_posts_time_out() {
    let idle = Builder::new_current_thread().enable_all().build().unwrap();
    let driver = Scripted::default();
    let mut options = options();
    options.heartbeat = Duration::from_millis(20);
    options.heartbeat_timeout = Duration::from_millis(20);
    options.publish_timeout = Duration::from_millis(50);
    options.drain_timeout = Duration::from_millis(50);
    options.close_timeout = Duration::from_millis(50);
    let broker = idle.block_on(driver.connect(options)).unwrap();
    assert!(broker.health().is_connected());
    let second = Runtime::new().unwrap();
    let error = second.block_on(within("the post", broker.publish("news", "x", Scope::Global))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    until("the loss of health", || !broker.health().is_connected());
    let why = broker.health().last_error.unwrap().to_string();
    assert!(why.contains("not driven"), "{why}");
    // It recovers when it is driven again.
    idle.block_on(within("ready", broker.ready())).unwrap();
    assert!(broker.health().is_connected());
    second.block_on(within("close", broker.close()));
    assert_eq!(broker.health().state, ConnectionState::Closed);
}

/// An executor that is not tokio's polls every call, and polls it where nothing of tokio is entered.
#[test]
fn calls_outside_a_runtime_behave_as_inside() {
    use futures_executor::block_on;
    let runtime = Runtime::new().unwrap();
    let driver = Scripted::default();
    let mut options = options();
    options.outbox_bytes = 1_000_000;
    options.publish_timeout = Duration::from_millis(300);
    options.subscribe_timeout = Duration::from_millis(300);
    let broker = runtime.block_on(driver.connect(options)).unwrap();
    let session = broker.session();
    let mut news = block_on(broker.subscribe("news")).unwrap();
    let (told, received) = oneshot::channel();
    let mut told = Some(told);
    let listener = move |note: Received<Note>| {
        told.take().into_iter().for_each(|told| drop(told.send(note.0.clone())));
        std::future::ready(())
    };
    block_on(session.add_listener("notes", listener)).unwrap();
    block_on(session.post_message("notes", note(), Scope::Global)).unwrap();
    assert_eq!(block_on(received).unwrap(), "hello");
    block_on(broker.publish("news", "x", Scope::Global)).unwrap();
    assert!(block_on(news.next()).is_some());
    block_on(broker.ready()).unwrap();
    let _ada = block_on(broker.session_for(Identity::new("ada", Instant::now()))).unwrap();
    block_on(broker.revoke(Revocation::user("eve"))).unwrap();
    // A channel that is never confirmed, and posts for which there is no room.
    driver.world().hang_subscribe = true;
    assert!(block_on(broker.subscribe("late")).unwrap_err().is_transient());
    driver.world().hang_publish = true;
    let posts = (0..3).map(|_| broker.publish("news", vec![0; 450_000], Scope::Global));
    let outcomes = block_on(join_all(posts));
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    drop(news);
    block_on(broker.drain());
    block_on(broker.close());
    assert_eq!(broker.health().state, ConnectionState::Closed);
}

#[test]
fn a_local_broker_ends_outside_a_runtime() {
    use futures_executor::block_on;
    let broker = Broker::local();
    let mut news = block_on(broker.subscribe("news")).unwrap();
    block_on(broker.publish("news", "x", Scope::Local)).unwrap();
    let reader = thread::spawn(move || {
        let mut count = 0;
        while block_on(news.next()).is_some() {
            count += 1;
        }
        count
    });
    block_on(broker.drain());
    assert_eq!(reader.join().unwrap(), 1);
    let broker = Broker::local();
    block_on(broker.close());
    assert_eq!(broker.health().state, ConnectionState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_close_call_still_completes() {
    for drain in [true, false] {
        let driver = Scripted::default();
        let broker = driver.connect(options()).await.unwrap();
        let mut news = broker.subscribe("news").await.unwrap();
        broker.publish("news", "unread", Scope::Global).await.unwrap();
        let session = broker.session();
        session.on_close(async |_| tokio::time::sleep(Duration::from_millis(500)).await).unwrap();
        {
            let end = async { if drain { broker.drain().await } else { broker.close().await } };
            assert!(timeout(Duration::from_millis(100), end).await.is_err());
        }
        let mut changes = broker.health_changes();
        let closed = async {
            while changes.next().await.is_some_and(|health| health.state != ConnectionState::Closed) {}
        };
        within("the end", closed).await;
        broker.close().await;
        assert_eq!(driver.world().closes, 1, "the link is closed in order");
        assert!(news.next().await.is_none());
    }
}

/// A task cannot wait for its own end.
#[tokio::test(start_paused = true)]
async fn a_listener_and_a_hook_may_end_their_own_broker() {
    for (drain, hook) in [(true, true), (true, false), (false, true), (false, false)] {
        let driver = Scripted::default();
        let broker = driver.connect(options()).await.unwrap();
        let session = broker.session();
        let (returned, told) = oneshot::channel();
        let own = broker.clone();
        let end = async move {
            if drain {
                own.drain().await;
            } else {
                own.close().await;
            }
            let _ = returned.send(());
        };
        let begun = tokio::time::Instant::now();
        if hook {
            session.on_close(|_| end).unwrap();
            session.close();
        } else {
            let mut end = Some(end);
            let listener = move |_: Received<Note>| {
                let end = end.take();
                async move {
                    if let Some(end) = end {
                        end.await;
                    }
                }
            };
            session.add_listener("notes", listener).await.unwrap();
            session.post_message("notes", note(), Scope::Global).await.unwrap();
        }
        within("the call to return", told).await.unwrap();
        let mut changes = broker.health_changes();
        within("the end", async { while changes.next().await.is_some() {} }).await;
        broker.close().await;
        assert!(begun.elapsed() < options().drain_timeout, "it waited for itself: {drain} {hook}");
        assert_eq!(driver.world().closes, 1);
    }
}

/// A waker of another executor.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        panic!("the test makes a waker panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_waker_affects_no_other() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let waker = Waker::from(Arc::new(Broken));
    let mut cx = Context::from_waker(&waker);
    let (mut theirs, mut ours) =
        (broker.subscribe("news").await.unwrap(), broker.subscribe("news").await.unwrap());
    {
        let mut next = Box::pin(theirs.next());
        assert!(next.as_mut().poll(&mut cx).is_pending());
        let mut post = Box::pin(broker.publish("news", "one", Scope::Global));
        assert!(post.as_mut().poll(&mut cx).is_pending());
        assert!(within("ours", ours.next()).await.is_some());
        broker.publish("news", "two", Scope::Global).await.unwrap();
        assert!(within("ours", ours.next()).await.is_some());
    }
    // Also where a subscription is confirmed, and where a session ends.
    let session = broker.session();
    let mut closed = Box::pin(session.closed());
    assert!(closed.as_mut().poll(&mut cx).is_pending());
    let mut joining = Box::pin(broker.subscribe("other"));
    assert!(joining.as_mut().poll(&mut cx).is_pending());
    // Less than the time limits: it is tokio that wakes at those.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(joining.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    session.close();
    assert!(broker.health().is_connected());
    assert!(catch_unwind(|| waker.wake_by_ref()).is_err(), "the test's waker does panic");
    within("the close", broker.close()).await;
}

/// Its task was never polled when the runtime went.
#[test]
fn a_session_with_pending_hooks_ends_with_the_runtime() {
    let (first, second) =
        (Builder::new_current_thread().enable_all().build().unwrap(), Runtime::new().unwrap());
    let broker = first.block_on(Scripted::default().connect(options())).unwrap();
    let session = broker.session();
    first.block_on(async { session.on_close(async |_| {}) }).unwrap();
    drop(first);
    second.block_on(within("the session's end", session.closed()));
    assert!(session.is_closed());
    second.block_on(within("the close", broker.close()));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_waker_does_not_stop_other_wakes() {
    let broker = Scripted::default().connect(options()).await.unwrap();
    let session = Arc::new(broker.session());
    let waker = Waker::from(Arc::new(Broken));
    let mut theirs = Box::pin(session.closed());
    assert!(theirs.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let ours = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.closed().await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    session.close();
    within("ours", ours).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_with_all_hooks_removed_closes_at_once() {
    let broker = Scripted::default().connect(options()).await.unwrap();
    let session = broker.session();
    let hook = session.on_close(async |_| {}).unwrap();
    assert!(session.remove_hook(hook));
    session.close();
    assert!(session.is_closed());
    within("the close", broker.close()).await;
}
