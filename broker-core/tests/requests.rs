//! Requests under paused time, over a driver that follows the script of the test: what fails before a reply can come.

#![allow(clippy::unwrap_used, reason = "a test")]
mod scripted;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use broker_core::{Broker, ErrorKind, Received, ReplyStream, RequestError, RequestOptions, Scope};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use scripted::{
    Scripted, options,
    steps::{Note, note, until, within},
};

const LIMIT: Duration = Duration::from_secs(5);

async fn request(broker: &Broker) -> Result<Received<Note>, RequestError> {
    within("the end of a request", broker.request("asks", note(), LIMIT)).await
}

fn kind(outcome: Result<Received<Note>, RequestError>) -> ErrorKind {
    match outcome {
        Err(RequestError::Broker(error)) => error.kind(),
        other => panic!("no error of the broker: {:?}", other.map(|note| note.0.clone())),
    }
}

fn local() -> RequestOptions {
    RequestOptions::new(LIMIT * 10).with_scope(Scope::Local)
}

fn replies_of(broker: &Broker) -> String {
    format!("$node.{}.replies", broker.node_id())
}

/// The number of the request that was posted to `asks`.
fn asked_number(driver: &Scripted) -> u64 {
    let world = driver.world();
    let post = world.published.iter().find(|post| post.channel.as_str() == "asks").unwrap();
    u64::from_be_bytes(post.frame()[32..40].try_into().unwrap())
}

/// A reply of another node, as docs/wire-format.md specifies frames.
fn reply_frame(sequence: u64, number: u64, type_name: &str) -> Bytes {
    let mut frame = BytesMut::from(&[0xB5, 1, 0x10, 1][..]);
    frame.put_u64(99);
    frame.put_u64(sequence);
    frame.put_u32(1);
    frame.put_u64(sequence);
    frame.put_u64(number);
    frame.put_u8(type_name.len().try_into().unwrap());
    frame.put_slice(type_name.as_bytes());
    frame.put_u16(0);
    frame.put_slice(b"\"x\"");
    frame.freeze()
}

/// What another thread returns; `None` if it hangs or panics.
fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    outcome.recv_timeout(LIMIT * 4).ok()
}

/// How often the broker's own channel for replies was subscribed.
fn subscribed_to_replies(driver: &Scripted) -> usize {
    driver.world().asked.iter().filter(|asked| asked.contains(".replies")).count()
}

#[tokio::test(start_paused = true)]
async fn the_channel_for_replies_is_subscribed_once_and_by_the_first_request() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    broker.reply_to("asks", |ask: Received<Note>| Note(format!("{}, too", ask.0))).await.unwrap();
    assert_eq!(subscribed_to_replies(&driver), 0);
    for _ in 0..3 {
        assert_eq!(request(&broker).await.unwrap().0, "hello, too");
    }
    assert_eq!(subscribed_to_replies(&driver), 1);
    driver.lose();
    until("the next link", || broker.health().links == 2).await;
    assert_eq!(request(&broker).await.unwrap().0, "hello, too");
    assert_eq!(subscribed_to_replies(&driver), 2);
}

#[tokio::test(start_paused = true)]
async fn a_local_request_needs_no_channel_at_the_backend() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    broker.reply_to("asks", |ask: Received<Note>| Note(ask.0.clone())).await.unwrap();
    let local = RequestOptions::new(LIMIT).with_scope(Scope::Local);
    driver.world().hang_subscribe = true;
    driver.world().hang_publish = true;
    let reply: Received<Note> = within("a reply", broker.request("asks", note(), local)).await.unwrap();
    assert_eq!(reply.0, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_when_replies_cannot_be_received() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let replies = format!("$node.{}.replies", broker.node_id());
    driver.world().forbidden.insert(replies.clone());
    for _ in 0..2 {
        let Err(RequestError::Broker(error)) = request(&broker).await else { panic!("no error") };
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert!(error.to_string().contains(&replies), "{error}");
    }
    // Nothing was posted, and nothing is in the way of the next.
    assert!(!driver.world().published.iter().any(|post| post.channel.as_str() == "asks"));
    driver.world().forbidden.clear();
    broker.reply_to("asks", |ask: Received<Note>| Note(ask.0.clone())).await.unwrap();
    assert_eq!(request(&broker).await.unwrap().0, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_posted_in_its_time_says_so() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().hang_publish = true;
    let Err(RequestError::Broker(error)) =
        broker.request::<_, Note>("asks", note(), Duration::from_millis(20)).await
    else {
        panic!("no error")
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("was not posted within 20ms"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_at_once_without_a_link() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    driver.world().refuse_connect = Some(ErrorKind::Unavailable);
    driver.lose();
    until("the link is given up", || !broker.health().is_connected()).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(kind(request(&broker).await), ErrorKind::Unavailable);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    broker.close().await;
    assert_eq!(kind(request(&broker).await), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_leaves_no_longer_than_it_is_kept() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let refuse = |ask: Received<Note>| Err::<Note, _>(format!("there is no {:?}", ask.0));
    broker.reply_to("asks", refuse).await.unwrap();
    // In JSON one byte each, in `Debug` six.
    let long = Note("\u{7f}".repeat(400_000));
    let outcome = within("the end of a request", broker.request::<_, Note>("asks", long, LIMIT)).await;
    assert!(matches!(outcome, Err(RequestError::Refused(text)) if text.starts_with("there is no")));
    let replies = replies_of(&broker);
    let sent = |post: &&broker_core::driver::Outgoing| post.channel.as_str() == replies;
    let longest = driver.world().published.iter().filter(sent).map(|post| post.size()).max().unwrap();
    assert!(longest < RequestError::MAX_REFUSAL + 200, "a frame of {longest} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_too_large_is_a_refusal_that_says_so() {
    let driver = Scripted::default();
    let mut options = options();
    options.max_payload = 300;
    let broker = driver.connect(options).await.unwrap();
    broker.reply_to("asks", |_: Received<Note>| Note("x".repeat(301))).await.unwrap();
    broker.reply_to("refused", |_: Received<Note>| Err::<Note, _>("x".repeat(301))).await.unwrap();
    let Err(RequestError::Refused(text)) = request(&broker).await else { panic!("not refused") };
    assert!(text.contains("its reply cannot be sent") && text.contains("max_payload"), "{text}");
    let outcome = within("the end of a request", broker.request::<_, Note>("refused", note(), LIMIT)).await;
    assert!(matches!(outcome, Err(RequestError::Refused(text)) if text.len() == 300));
}

/// Makes a request when its task is dropped: in a runtime that takes no task any more.
struct AsksAtTheEnd(Arc<OnceLock<Broker>>, mpsc::Sender<bool>);

impl Drop for AsksAtTheEnd {
    fn drop(&mut self) {
        let broker = self.0.get().unwrap();
        let _ = self.1.send(broker.health().is_connected());
        assert!(broker.request::<_, Note>("asks", note(), LIMIT).now_or_never().is_none_or(|it| it.is_err()));
    }
}

#[test]
fn a_runtime_ends_though_a_request_begins_in_it() {
    let (ended, was_connected) = mpsc::channel();
    let end = elsewhere(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made = Arc::new(OnceLock::new());
        // Tasks are dropped from several lists, in each the oldest first: one of these before the broker's own.
        for _ in 0..64 {
            let asks = AsksAtTheEnd(Arc::clone(&made), ended.clone());
            runtime.spawn(async move {
                let _asks = asks;
                std::future::pending::<()>().await;
            });
        }
        let broker = runtime.block_on(Scripted::default().connect(options())).unwrap();
        assert!(made.set(broker).is_ok());
    });
    assert!(end.is_some(), "it hangs");
    assert_eq!(was_connected.recv(), Ok(true));
}

#[test]
fn a_request_in_a_runtime_that_has_ended_is_in_no_other_ones_way() {
    let broker = Broker::local();
    let limit = Duration::from_millis(50);
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ended = runtime();
    let handle = ended.handle().clone();
    ended.shutdown_timeout(LIMIT);
    let asking = broker.clone();
    let first = elsewhere(move || {
        let request = asking.request::<_, Note>("asks", note(), limit);
        handle.block_on(request).err()
    });
    assert!(matches!(first, Some(Some(RequestError::NoReply { .. }))), "{first:?}");
    let next = elsewhere(move || {
        runtime().block_on(async {
            broker.reply_to("asks", |ask: Received<Note>| Note(ask.0.clone())).await.unwrap();
            broker.request::<_, Note>("asks", note(), LIMIT).await.map(|note| note.0.clone()).ok()
        })
    });
    assert_eq!(next, Some(Some("hello".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_come_faster_than_they_are_read_end_with_the_time() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let limit = Duration::from_millis(50);
    let mut replies: ReplyStream<Note> = broker.request_many("asks", note(), limit).await.unwrap();
    let (number, inbox, name) = (asked_number(&driver), driver.inbox(), replies_of(&broker));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let flood = thread::spawn(move || {
        let frames = (1..).take_while(|_| !stopped.load(Ordering::Relaxed));
        frames.for_each(|sequence| inbox.deliver(&name, reply_frame(sequence, number, "Note")));
    });
    let reading = tokio::spawn(async move {
        while replies.next().await.is_some() {
            thread::sleep(Duration::from_micros(50)); // the reader is slower
        }
    });
    let ended = tokio::time::timeout(LIMIT, reading).await;
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    ended.expect("the stream ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_replies_gives_way_to_others() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let mut replies: ReplyStream<Note> = broker.request_many("asks", note(), LIMIT).await.unwrap();
    let (number, name) = (asked_number(&driver), replies_of(&broker));
    (1..=500).for_each(|sequence| driver.inbox().deliver(&name, reply_frame(sequence, number, "Note")));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let others = Arc::new(AtomicBool::new(false));
    let other = Arc::clone(&others);
    tokio::spawn(async move { other.store(true, Ordering::Relaxed) });
    let mut before = 0;
    while !others.load(Ordering::Relaxed) {
        replies.next().await.unwrap().unwrap();
        before += 1;
    }
    assert!(before < 500, "{before}");
}

#[tokio::test(start_paused = true)]
async fn a_request_may_wait_for_ever() {
    let broker = Broker::local();
    broker.reply_to("asks", |ask: Received<Note>| Note(ask.0.clone())).await.unwrap();
    let mut replies: ReplyStream<Note> = broker.request_many("asks", note(), Duration::MAX).await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap().0, "hello");
    let reply: Received<Note> = broker.request("asks", note(), Duration::MAX).await.unwrap();
    assert_eq!(reply.0, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_local_request_needs_no_permission() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let answer = async |ask: Received<Note>| {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Note(ask.0.clone())
    };
    broker.reply_to("asks", answer).await.unwrap();
    driver.world().forbidden.insert(replies_of(&broker));
    let asking = broker.clone();
    let waiting = tokio::spawn(async move { asking.request::<_, Note>("asks", note(), local()).await });
    tokio::time::sleep(Duration::from_millis(5)).await;
    // The refusal, for a global request and on a new link, is not for this one.
    assert_eq!(kind(request(&broker).await), ErrorKind::Forbidden);
    driver.lose();
    until("the next link", || broker.health().links == 2).await;
    assert_eq!(waiting.await.unwrap().unwrap().0, "hello");
    let next: Received<Note> = broker.request("asks", note(), local()).await.unwrap();
    assert_eq!(next.0, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_type_name_from_the_wire_is_shown_on_one_line() {
    let driver = Scripted::default();
    let broker = driver.connect(options()).await.unwrap();
    let name = format!("x`\nERROR root: \u{1b}[2J{}", "y".repeat(200));
    let mut stream = broker.create_stream::<Note>("news").await.unwrap();
    let mut replies: ReplyStream<Note> = broker.request_many("asks", note(), LIMIT).await.unwrap();
    let frame = |number| reply_frame(1, number, &name);
    driver.inbox().deliver(&replies_of(&broker), frame(asked_number(&driver)));
    driver.inbox().deliver("news", frame(1));
    for error in [
        replies.next().await.unwrap().err().unwrap().to_string(),
        stream.next().await.unwrap().err().unwrap().to_string(),
    ] {
        assert!(error.contains("ERROR root: \\u{1b}[2J") && error.contains("Note"), "{error}");
        assert!(!error.contains(char::is_control) && error.len() < 200, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_replies_ends_with_the_broker() {
    let driver = Scripted::default();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let broker = driver.connect(options()).await.unwrap();
    let before = tasks();
    for _ in 0..2 {
        assert!(broker.request::<_, Note>("unanswered", note(), LIMIT).await.is_err());
    }
    assert_eq!(tasks(), before + 1);
    drop(broker);
    until("no task is left", || tasks() == 0).await;
}
