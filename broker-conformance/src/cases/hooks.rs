//! Cases about hooks: what a session calls before it ends.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use broker_core::{
    CloseReason, ConnectionState, ErrorKind, Identity, Revocation, Scope, Session, Subscription,
};
use tokio::sync::{
    Notify,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{post, receives, revocation::sign_out},
    wait::within,
};

pub(super) const CASES: &[Case] = &[
    case!(hooks_run_once_in_order_before_the_session_ends, [8]),
    case!(a_revoked_session_is_closed_before_its_hooks_run, [8, 9]).needs(&[Need::Log]),
    case!(a_revocation_does_not_wait_for_running_hooks, [8, 9]).needs(&[Need::Log]),
    case!(a_dropped_session_can_be_revoked_while_its_hooks_run, [8, 9]).needs(&[Need::Log]),
    case!(a_hook_may_close_and_drain_its_own_broker, [8, 12]),
    case!(a_hook_receives_the_close_reason, [8, 9]),
    case!(a_removed_hook_is_not_called, [8]),
    case!(a_panicking_hook_stops_neither_other_hooks_nor_the_close, [7, 8]),
    case!(a_hanging_hook_ends_at_the_limit, [8, 12]),
    case!(a_hook_can_still_post_when_the_broker_closes, [12]),
    case!(a_dropped_session_calls_its_hooks, [8]),
];

/// A hook that says that it was called, and with what.
fn reporting_hook(
    sender: &UnboundedSender<String>,
    name: &str,
) -> impl FnOnce(CloseReason) -> std::future::Ready<()> + Send + 'static {
    let (sender, name) = (sender.clone(), name.to_owned());
    move |reason| {
        let _ = sender.send(format!("{name}: {reason}"));
        std::future::ready(())
    }
}

async fn next(calls: &mut UnboundedReceiver<String>) -> Result<String, String> {
    within("a hook to be called", calls.recv()).await?.ok_or_else(|| "nobody is left to call one".to_owned())
}

async fn nothing_more(calls: &mut UnboundedReceiver<String>) -> Result<(), String> {
    match within("the last hook to be gone", calls.recv()).await? {
        None => Ok(()),
        Some(more) => Err(format!("one more call: {more}")),
    }
}

async fn user_session(h: &dyn Harness) -> Result<(crate::harness::Node, Session), String> {
    let node = h.node().await?;
    let opened = node.session_for(Identity::new("ada", Instant::now())).await;
    let session = opened.map_err(|error| error.to_string())?;
    Ok((node, session))
}

async fn hooks_run_once_in_order_before_the_session_ends(h: &dyn Harness) -> Outcome {
    let (node, session) = user_session(h).await?;
    let other = h.node().await?;
    let mut news = session.subscribe("news").await?;
    let (sender, mut hooks) = unbounded_channel();
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (reach, wait) = (Arc::clone(&reached), Arc::clone(&go_on));
    session.on_close(async move |_| {
        reach.notify_one();
        wait.notified().await;
    })?;
    session.on_close(reporting_hook(&sender, "second"))?;
    session.on_close(reporting_hook(&sender, "third"))?;
    drop(sender);
    session.close();
    within("the first hook", reached.notified()).await?;
    // It has begun to end, and nothing has ended yet.
    assert!(!session.is_closed());
    post(&other, "news", "meanwhile").await?;
    receives(&mut news, "meanwhile").await?;
    session.post("news", "a last word", Scope::Global).await?;
    receives(&mut news, "a last word").await?;
    assert_eq!(session.on_close(async |_| {}).expect_err("too late").kind(), ErrorKind::Closed);
    session.close();
    go_on.notify_one();
    assert_eq!(next(&mut hooks).await?, "second: the session is closed");
    assert!(next(&mut hooks).await?.starts_with("third: the session"));
    nothing_more(&mut hooks).await?;
    let why = within("the session to end", session.closed()).await?;
    assert!(matches!(why, CloseReason::SessionClosed), "{why}");
    assert!(within("the stream to end", news.next()).await?.is_none());
    drop(node);
    Ok(())
}

/// A hook that says when it has begun, and then waits.
fn waiting_hook(session: &Session) -> Result<(Arc<Notify>, Arc<Notify>), String> {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begin, wait) = (Arc::clone(&begun), Arc::clone(&go_on));
    let hook = async move |_| {
        begin.notify_one();
        wait.notified().await;
    };
    session.on_close(hook).map_err(|error| error.to_string())?;
    Ok((begun, go_on))
}

/// Nothing is yielded, and nothing can be posted, through a session that was revoked.
async fn is_cut_off(session: &Session, news: &mut Subscription) -> Outcome {
    assert!(session.is_closed());
    let why = within("the session to be closed", session.closed()).await?;
    assert!(matches!(why, CloseReason::AuthenticationRevoked(_)), "{why}");
    let kind = session.post("news", "a last word", Scope::Global).await.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Closed));
    assert!(within("the stream to end", news.next()).await?.is_none());
    Ok(())
}

async fn a_revoked_session_is_closed_before_its_hooks_run(h: &dyn Harness) -> Outcome {
    let (node, session) = user_session(h).await?;
    let other = h.node().await?;
    let mut news = session.subscribe("news").await?;
    let mut farewells = other.subscribe("farewells").await?;
    post(&other, "news", "unread").await?;
    let (begun, go_on) = waiting_hook(&session)?;
    // What a hook needs to say goodbye, it owns.
    let broker = node.broker.clone();
    session.on_close(async move |reason| {
        let _ = broker.publish("farewells", reason.to_string(), Scope::Global).await;
    })?;
    sign_out(&other, "ada").await?;
    within("the first hook", begun.notified()).await?;
    is_cut_off(&session, &mut news).await?;
    go_on.notify_one();
    receives(&mut farewells, "revoked: every authentication of the user").await?;
    Ok(())
}

async fn a_revocation_does_not_wait_for_running_hooks(h: &dyn Harness) -> Outcome {
    let (_node, session) = user_session(h).await?;
    let other = h.node().await?;
    let mut news = session.subscribe("news").await?;
    let (begun, go_on) = waiting_hook(&session)?;
    session.close();
    within("the hook", begun.notified()).await?;
    assert!(!session.is_closed(), "it waits for its hook");
    sign_out(&other, "ada").await?;
    within("the revocation", session.closed()).await?;
    is_cut_off(&session, &mut news).await?;
    go_on.notify_one();
    Ok(())
}

/// A stream may live longer than the handle of its session: until the hooks are done.
async fn a_dropped_session_can_be_revoked_while_its_hooks_run(h: &dyn Harness) -> Outcome {
    let (_node, session) = user_session(h).await?;
    let other = h.node().await?;
    let mut news = session.subscribe("news").await?;
    let (begun, go_on) = waiting_hook(&session)?;
    drop(session);
    within("the hook", begun.notified()).await?;
    sign_out(&other, "ada").await?;
    assert!(within("the stream to end", news.next()).await?.is_none());
    let why = news.close_reason();
    assert!(matches!(why, Some(CloseReason::AuthenticationRevoked(_))), "{why:?}");
    go_on.notify_one();
    Ok(())
}

async fn a_hook_may_close_and_drain_its_own_broker(h: &dyn Harness) -> Outcome {
    for drain in [false, true] {
        let node = h.node_with(|options| options.drain_timeout = Duration::from_secs(3600)).await?;
        let (session, broker) = (node.session(), node.broker.clone());
        let (sender, mut hooks) = unbounded_channel();
        session.on_close(async move |_| {
            if drain {
                broker.drain().await;
            } else {
                broker.close().await;
            }
            let _ = sender.send("returned".to_owned());
        })?;
        session.close();
        assert_eq!(next(&mut hooks).await?, "returned");
        within("the end of the broker", node.close()).await?;
        assert_eq!(node.health().state, ConnectionState::Closed);
    }
    Ok(())
}

async fn a_hook_receives_the_close_reason(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (sender, mut hooks) = unbounded_channel();
    let closed = node.session();
    closed.on_close(reporting_hook(&sender, "closed"))?;
    closed.close();
    assert_eq!(next(&mut hooks).await?, "closed: the session is closed");
    let identity = Identity::new("ada", Instant::now()).with_auth_id("k1");
    let revoked = node.session_for(identity).await?;
    revoked.on_close(reporting_hook(&sender, "revoked"))?;
    node.revoke(Revocation::auth_id("ada", "k1")).await?;
    assert_eq!(next(&mut hooks).await?, "revoked: revoked: this authentication of the user");
    let last = node.session();
    last.on_close(reporting_hook(&sender, "last"))?;
    node.close().await;
    assert_eq!(next(&mut hooks).await?, "last: the broker is closed");
    Ok(())
}

async fn a_removed_hook_is_not_called(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (session, other) = (node.session(), node.session());
    let (sender, mut hooks) = unbounded_channel();
    // As many as there: the ids have the same numbers.
    other.on_close(async |_| {})?;
    let first = session.on_close(reporting_hook(&sender, "first"))?;
    let second = session.on_close(reporting_hook(&sender, "second"))?;
    drop(sender);
    assert!(!other.remove_hook(first), "of another session");
    assert!(session.remove_hook(first) && !session.remove_hook(first));
    session.close();
    assert!(next(&mut hooks).await?.starts_with("second"));
    nothing_more(&mut hooks).await?;
    assert!(!session.remove_hook(second), "called already");
    Ok(())
}

async fn a_panicking_hook_stops_neither_other_hooks_nor_the_close(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (sender, mut hooks) = unbounded_channel();
    session.on_close(async |_| panic!("on purpose"))?;
    session.on_close(|_| -> std::future::Ready<()> { panic!("on purpose, before the first await") })?;
    session.on_close(reporting_hook(&sender, "after"))?;
    session.close();
    assert!(next(&mut hooks).await?.starts_with("after"));
    within("the session to end", session.closed()).await?;
    Ok(())
}

async fn a_hanging_hook_ends_at_the_limit(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.close_timeout = Duration::from_millis(100)).await?;
    let (sender, mut hooks) = unbounded_channel();
    let session = node.session();
    let held = sender.clone();
    session.on_close(async move |_| {
        let _held = held;
        pending::<()>().await;
    })?;
    session.on_close(reporting_hook(&sender, "never"))?;
    drop(sender);
    session.close();
    within("the session to end", session.closed()).await?;
    nothing_more(&mut hooks).await?;
    let last = node.session();
    last.on_close(async |_| pending::<()>().await)?;
    within("the broker to close", node.close()).await?;
    Ok(())
}

async fn a_hook_can_still_post_when_the_broker_closes(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    let mut news = other.subscribe("news").await?;
    let broker = node.broker.clone();
    let session = node.session();
    session.on_close(async move |_| {
        broker.publish("news", "ada has left", Scope::Global).await.expect("it is open still");
    })?;
    within("the broker to close", node.close()).await?;
    receives(&mut news, "ada has left").await?;
    Ok(())
}

async fn a_dropped_session_calls_its_hooks(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (sender, mut hooks) = unbounded_channel();
    session.on_close(reporting_hook(&sender, "dropped"))?;
    drop((sender, session));
    assert_eq!(next(&mut hooks).await?, "dropped: the session is closed");
    nothing_more(&mut hooks).await?;
    Ok(())
}
