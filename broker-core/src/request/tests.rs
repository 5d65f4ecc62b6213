//! Tests of requests on a local broker: what is kept for a request, and until when.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{ReplyStream, RequestError, replies::Replies};
use crate::{Broker, Gap, GapCause, Message, Model, Post, Received, message::exchange::Exchange};

#[derive(Debug, Serialize, Deserialize)]
struct Ask(u64);

impl Model for Ask {
    const NAME: &'static str = "Ask";
}

const LIMIT: Duration = Duration::from_secs(5);

fn reply(number: u64) -> Message {
    let mut post = Post::new("reply");
    post.exchange = Exchange::of(number);
    Message::from_post(post, crate::NodeId::from_u64(1))
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_as_long_as_it_says() {
    let broker = Broker::local();
    let begun = Instant::now();
    let none = broker.request::<_, Ask>("unanswered", Ask(1), LIMIT).await;
    assert!(matches!(none, Err(RequestError::NoReply { within: LIMIT })), "{none:?}");
    assert_eq!(begun.elapsed(), LIMIT);
    assert_eq!(broker.waiting_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn replies_are_gathered_as_long_as_the_request_says_however_they_are_read() {
    let broker = Broker::local();
    broker.reply_to("asks", |ask: Received<Ask>| Ask(ask.0 + 1)).await.unwrap();
    let begun = Instant::now();
    let mut replies: ReplyStream<Ask> = broker.request_many("asks", Ask(1), LIMIT).await.unwrap();
    assert_eq!(broker.waiting_requests(), 1);
    tokio::time::sleep(LIMIT * 2).await;
    // What came in time is still there.
    assert_eq!(replies.next().await.unwrap().unwrap().0, 2);
    assert!(replies.next().await.is_none() && replies.next().await.is_none());
    assert_eq!(broker.waiting_requests(), 0);
    let mut replies: ReplyStream<Ask> = broker.request_many("unanswered", Ask(1), LIMIT).await.unwrap();
    assert!(replies.next().await.is_none());
    assert_eq!(begun.elapsed().as_secs(), 3 * LIMIT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_is_forgotten() {
    let broker = Broker::local();
    {
        let mut request = pin!(broker.request::<_, Ask>("unanswered", Ask(1), LIMIT));
        assert!(request.as_mut().now_or_never().is_none());
        assert_eq!(broker.waiting_requests(), 1);
    }
    assert_eq!(broker.waiting_requests(), 0);
    let replies: ReplyStream<Ask> = broker.request_many("unanswered", Ask(1), LIMIT).await.unwrap();
    drop(replies);
    assert_eq!(broker.waiting_requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_local_request_outlives_nothing_of_its_broker() {
    let broker = Broker::local();
    let asking = broker.clone();
    let request =
        tokio::spawn(async move { asking.request::<_, Ask>("unanswered", Ask(1), LIMIT * 1000).await });
    while broker.waiting_requests() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1, "it needs no reader");
    broker.close().await;
    let ended = timeout(LIMIT, request).await.unwrap().unwrap().err();
    assert!(matches!(&ended, Some(RequestError::Broker(error)) if error.kind() == crate::ErrorKind::Closed));
    let later = broker.request::<_, Ask>("unanswered", Ask(1), LIMIT).await.err();
    assert!(matches!(&later, Some(RequestError::Broker(error)) if error.kind() == crate::ErrorKind::Closed));
}

#[derive(Serialize, Deserialize)]
struct Bomb;

impl Model for Bomb {
    const NAME: &'static str = "Bomb";
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a value's Drop panics");
    }
}

#[tokio::test(start_paused = true)]
async fn unread_replies_whose_drop_panics_are_dropped_each_on_its_own() {
    let broker = Broker::local();
    for _ in 0..2 {
        broker.reply_to("asks", |_: Received<Ask>| Bomb).await.unwrap();
    }
    // Dropped while the time runs, and after it.
    for wait in [LIMIT / 2, LIMIT * 2] {
        let mut replies: ReplyStream<Bomb> = broker.request_many("asks", Ask(1), LIMIT).await.unwrap();
        tokio::time::sleep(wait).await;
        std::mem::forget(replies.next().await);
        drop(replies);
        let replies: ReplyStream<Bomb> = broker.request_many("asks", Ask(1), LIMIT).await.unwrap();
        tokio::time::sleep(wait).await;
        drop(replies);
    }
    assert_eq!(broker.waiting_requests(), 0);
}

#[test]
fn a_reply_is_for_the_request_of_its_number_only() {
    let replies = std::sync::Arc::new(Replies::default());
    let (first, second) = (replies.wait(true, 2), replies.wait(true, 2));
    assert_ne!(first.number(), second.number());
    let global = replies.wait(false, 2);
    // No request waits for these; the last is posted here, and answers one that is not.
    for number in [0, first.number().wrapping_sub(1), u64::MAX, global.number()] {
        assert!(replies.receive(reply(number)).is_err(), "{number}");
    }
    for _ in 0..2 {
        replies.receive(reply(first.number())).unwrap();
    }
    assert!(replies.receive(reply(first.number())).is_err(), "beyond the bound");
    drop(first);
    let gone = second.number() - 1;
    assert!(replies.receive(reply(gone)).is_err(), "it does not wait any more");
    replies.receive(reply(second.number())).unwrap();
    assert_eq!(replies.len(), 2);
}

#[test]
fn what_a_gap_means_depends_on_its_cause() {
    use std::task::{Context, Poll, Waker};

    use super::replies::Arrived;

    let replies = std::sync::Arc::new(Replies::default());
    let (local, global) = (replies.wait(true, 2), replies.wait(false, 2));
    let lost = |waiting: &super::replies::Waiting| match waiting
        .poll_next(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(Arrived::Lost(gap)) => Some(gap.cause),
        _ => None,
    };
    for (cause, expected) in [
        (GapCause::Skipped, (None, Some(GapCause::Skipped))),
        (GapCause::Dropped, (None, Some(GapCause::Dropped))),
        (GapCause::Overflow, (None, Some(GapCause::Overflow))),
        // Of the link before this one, which was reported at its end.
        (GapCause::LinkLost, (None, None)),
    ] {
        replies.gap(Gap::new(None, cause));
        assert_eq!((lost(&local), lost(&global)), expected, "{cause:?}");
    }
    replies.link_lost();
    assert_eq!((lost(&local), lost(&global)), (None, Some(GapCause::LinkLost)));
    // What has no room is reported behind what has.
    for _ in 0..5 {
        let _ = replies.receive(reply(local.number()));
    }
    let arrived = || match local.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Arrived::Reply(_)) => None,
        Poll::Ready(Arrived::Lost(gap)) => Some(gap),
        other => panic!("{other:?}"),
    };
    assert_eq!([arrived(), arrived(), arrived()], [None, None, Some(Gap::new(Some(3), GapCause::Overflow))]);
    // Two that have not been taken yet are one.
    replies.gap(Gap::new(Some(2), GapCause::Skipped));
    replies.gap(Gap::new(Some(3), GapCause::Skipped));
    let Poll::Ready(Arrived::Lost(gap)) = global.poll_next(&mut Context::from_waker(Waker::noop())) else {
        panic!("no gap")
    };
    assert_eq!((gap, lost(&global)), (Gap::new(Some(5), GapCause::Skipped), None));
}
