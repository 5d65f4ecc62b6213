//! Losses that only a question or a silence reveals, among several nodes on a bus that loses what a test says. The time is
//! paused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    Broker, ChannelName, Event, Gap, GapCause, Options, Result, Scope, Subscription,
    driver::{
        Capabilities, ConnectContext, Driver, DurableLog, Inbox, Inspection, Link, LinkInfo, LogSpec,
        Outgoing, Reach, Receipt,
    },
};
use tokio::time::{sleep, timeout};

type Lose = Box<dyn FnMut(usize, usize, &Outgoing) -> bool + Send>;

/// A server that delivers at once.
#[derive(Clone, Default)]
struct Bus(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    links: Vec<(Inbox, HashSet<ChannelName>)>,
    /// What is lost on its way from one link to another.
    lose: Option<Lose>,
    questions: usize,
    digests: usize,
}

/// One link; links are numbered in the order in which they connect.
struct Member {
    bus: Bus,
    number: usize,
}

impl Bus {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn lose(&self, lose: impl FnMut(usize, usize, &Outgoing) -> bool + Send + 'static) {
        self.state().lose = Some(Box::new(lose));
    }

    /// A node; its link has the next number.
    async fn node(&self, change: impl FnOnce(&mut Options)) -> Broker {
        let mut options = Options::default();
        change(&mut options);
        Broker::connect(Arc::new(self.clone()), options).await.unwrap()
    }

    fn sent(&self) -> (usize, usize) {
        let state = self.state();
        (state.questions, state.digests)
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bus")
    }
}

#[async_trait]
impl Driver for Bus {
    fn name(&self) -> &'static str {
        "bus"
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        let mut state = self.state();
        state.links.push((context.inbox, HashSet::new()));
        Ok(Box::new(Member { bus: self.clone(), number: state.links.len() - 1 }))
    }
}

#[async_trait]
impl Link for Member {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        for out in batch {
            let mut receivers = Vec::new();
            {
                let state = &mut *self.bus.state();
                state.questions += kinds(out).iter().filter(|kind| **kind == 1).count();
                state.digests += kinds(out).iter().filter(|kind| **kind == 0).count();
                for (to, (inbox, subscribed)) in state.links.iter().enumerate() {
                    let lost = |lose: &mut Lose| lose(self.number, to, out);
                    if subscribed.contains(&out.channel) && !state.lose.as_mut().is_some_and(lost) {
                        receivers.push(inbox.clone());
                    }
                }
            }
            receivers.iter().for_each(|inbox| inbox.deliver(out.channel.as_str(), out.frame()));
        }
        batch.iter().map(|_| Ok(Receipt::new())).collect()
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.bus.state().links[self.number].1.extend(channels.iter().cloned());
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.bus.state().links[self.number].1.retain(|name| !channels.contains(name));
        Ok(())
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        None
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        LinkInfo::new(Capabilities::new(Reach::Process))
    }

    async fn inspect(&self, _: &LogSpec) -> Inspection {
        Inspection::default()
    }

    async fn close(&self) -> Result<()> {
        self.bus.state().links[self.number].1.clear();
        Ok(())
    }
}

/// What is in a frame, or a bundle, on the channel of digests: 0 a digest, 1 a question.
fn kinds(out: &Outgoing) -> Vec<u8> {
    if out.channel.as_str() != "$digests" {
        return Vec::new();
    }
    let frame = out.frame();
    let Some(mut rest) = frame.strip_prefix(b"\xB5\x01\x01\x00") else { return vec![frame[23]] };
    let mut kinds = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (frame, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        kinds.push(frame[23]);
        rest = tail;
    }
    kinds
}

fn asks(out: &Outgoing) -> bool {
    kinds(out).contains(&1)
}

fn tells(out: &Outgoing) -> bool {
    kinds(out).contains(&0)
}

fn is(out: &Outgoing, text: &str) -> bool {
    out.frame().ends_with(text.as_bytes())
}

async fn post(node: &Broker, channel: &str, text: &str) {
    node.publish(channel, text.to_owned(), Scope::Global).await.unwrap();
}

/// What comes within a minute and a half.
async fn received(subscription: &mut Subscription) -> Vec<String> {
    let mut received = Vec::new();
    while let Ok(event) = timeout(Duration::from_secs(90), subscription.next()).await {
        received.push(match event.unwrap() {
            Event::Message(message) => String::from_utf8(message.payload().unwrap().to_vec()).unwrap(),
            Event::Gap(Gap { missed, cause: GapCause::Skipped, .. }) => format!("{missed:?}"),
            other => panic!("{other:?}"),
        });
    }
    received
}

/// Nothing but answers proves anything.
fn no_heartbeat(options: &mut Options) {
    options.heartbeat = Duration::from_secs(24 * 3600);
}

const MOMENT: Duration = Duration::from_millis(5);

/// Everybody is quiet; the node on link 1 has never posted on the channel, or it has, long ago.
#[tokio::test(start_paused = true)]
async fn the_first_message_behind_an_answer_is_missed() {
    for before in [0, 3] {
        let bus = Bus::default();
        let (node, poster) = (bus.node(no_heartbeat).await, bus.node(no_heartbeat).await);
        for _ in 0..before {
            post(&poster, "news", "long ago").await;
        }
        sleep(Duration::from_secs(60)).await;
        let (mut news, mut own) =
            (node.subscribe("news").await.unwrap(), poster.subscribe("news").await.unwrap());
        bus.lose(|_, _, out| is(out, "lost"));
        sleep(MOMENT).await;
        post(&poster, "news", "lost").await;
        post(&poster, "news", "received").await;
        // The digest tells of it, after the message.
        assert_eq!(received(&mut news).await, ["received", "Some(1)"]);
        assert_eq!(received(&mut own).await, ["received", "Some(1)"]);
    }
}

/// Whoever subscribes and then posts is behind its own question: not a moment passes.
#[tokio::test(start_paused = true)]
async fn the_first_own_message_is_missed_at_once() {
    let bus = Bus::default();
    let node = bus.node(no_heartbeat).await;
    sleep(Duration::from_secs(60)).await;
    bus.lose(|_, _, out| is(out, "lost"));
    for n in 0..20 {
        let mut news = node.subscribe(format!("news.{n}")).await.unwrap();
        post(&node, &format!("news.{n}"), "lost").await;
        assert_eq!(received(&mut news).await, ["Some(1)"], "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_later_is_counted_from_its_first_message() {
    let bus = Bus::default();
    let node = bus.node(|_| {}).await;
    let mut news = node.subscribe("news").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    bus.lose(|_, _, out| is(out, "lost"));
    let poster = bus.node(|_| {}).await;
    post(&poster, "news", "lost").await;
    assert_eq!(received(&mut news).await, ["Some(1)"]);
}

#[tokio::test(start_paused = true)]
async fn questions_and_answers_that_are_lost_are_repeated() {
    for lost in 1..5 {
        for answers in [false, true] {
            let bus = Bus::default();
            let (node, poster) = (bus.node(no_heartbeat).await, bus.node(no_heartbeat).await);
            sleep(Duration::from_secs(60)).await;
            let mut left = lost;
            bus.lose(move |from, to, out| {
                let it = if answers { (from, to) == (1, 0) && tells(out) } else { to == 1 && asks(out) };
                let again = it && left > 0;
                left -= u32::from(again);
                again || is(out, "lost")
            });
            let mut news = node.subscribe("news").await.unwrap();
            sleep(Duration::from_secs(10)).await;
            post(&poster, "news", "lost").await;
            let received = received(&mut news).await;
            // A digest that was lost may have told anything.
            let expected: &[&str] = if answers { &["None", "Some(1)"] } else { &["Some(1)"] };
            assert_eq!(received, expected, "{lost} lost, answers: {answers}");
        }
    }
}

/// Whenever somebody subscribes to what others have posted on: nothing that is older is missed.
#[tokio::test(start_paused = true)]
async fn nobody_misses_what_is_older_than_the_subscription() {
    let bus = Bus::default();
    let (node, one, other) = (bus.node(|_| {}).await, bus.node(|_| {}).await, bus.node(|_| {}).await);
    let mut subscriptions = Vec::new();
    for round in 0..200_u64 {
        let channel = format!("news.{round}");
        let posted = async |count: u64| {
            for n in 0..count {
                post(if n % 2 == 0 { &one } else { &other }, &channel, "x").await;
            }
        };
        posted(round % 4).await;
        sleep(Duration::from_millis(round * 53 % 300)).await;
        let subscription =
            if round % 2 == 0 { &node } else { &one }.subscribe(channel.as_str()).await.unwrap();
        posted(round % 3).await;
        subscriptions.push((subscription, (round % 3) as usize));
        sleep(Duration::from_millis(round * 37 % 900)).await;
    }
    for (subscription, count) in &mut subscriptions {
        assert_eq!(received(subscription).await, vec!["x"; *count]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_killed_leaves_a_gap_once_and_one_that_closes_none() {
    let bus = Bus::default();
    let (node, closed, dropped) = (bus.node(|_| {}).await, bus.node(|_| {}).await, bus.node(|_| {}).await);
    let (quiet, killed) = (bus.node(|_| {}).await, bus.node(|_| {}).await);
    let (mut news, mut other) =
        (node.subscribe("news").await.unwrap(), node.subscribe("other").await.unwrap());
    sleep(Duration::from_secs(1)).await;
    for node in [&closed, &dropped, &quiet] {
        post(node, "news", "x").await;
    }
    closed.close().await;
    drop(dropped);
    assert_eq!(received(&mut news).await, ["x", "x", "x"]);
    post(&killed, "news", "x").await;
    bus.lose(|from, _, _| from == 4);
    killed.close().await;
    assert!(matches!(news.next().await, Some(Event::Message(_))));
    // Three intervals of 5 s, and until somebody looks.
    assert!(timeout(Duration::from_secs(14), news.next()).await.is_err(), "told too early");
    assert!(timeout(Duration::from_secs(11), news.next()).await.is_ok(), "not told in time");
    assert_eq!(received(&mut news).await, [""; 0]);
    assert_eq!(received(&mut other).await, ["None"]);
}

/// A digest has listed it, and the empty one that follows has nothing more to settle.
#[tokio::test(start_paused = true)]
async fn a_late_repeat_is_no_reason_to_expect_a_digest() {
    let bus = Bus::default();
    let (node, poster) = (bus.node(|_| {}).await, bus.node(|_| {}).await);
    let mut news = node.subscribe("news").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let (sent, seen) = std::sync::mpsc::channel();
    bus.lose(move |from, to, out| {
        if from == 1 && to == 0 && (is(out, "x") || tells(out)) {
            sent.send(out.clone()).unwrap();
        }
        false
    });
    post(&poster, "news", "x").await;
    let posted = seen.try_recv().unwrap();
    while seen.try_recv().is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    let inbox = bus.state().links[0].0.clone();
    inbox.deliver(posted.channel.as_str(), posted.frame());
    assert_eq!(received(&mut news).await, ["x"]);
}

/// At most a needless gap: what it posts later is compared as before.
#[tokio::test(start_paused = true)]
async fn a_node_that_pauses_is_heard_again() {
    let bus = Bus::default();
    let (node, poster) = (bus.node(|_| {}).await, bus.node(no_heartbeat).await);
    let mut news = node.subscribe("news").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    post(&poster, "news", "one").await;
    bus.lose(|from, to, _| from == 1 && to == 0);
    sleep(Duration::from_secs(60)).await;
    bus.lose(|_, _, out| is(out, "lost"));
    for text in ["two", "lost", "three", "lost"] {
        post(&poster, "news", text).await;
    }
    // Killed, as it seemed; between two and three; the end, and the digests that were lost.
    let received = received(&mut news).await;
    assert_eq!(received, ["one", "None", "two", "Some(1)", "three", "Some(1)", "None"]);
}

/// What subscribing costs.
#[tokio::test(start_paused = true)]
async fn questions_and_answers_are_bounded_however_many_ask() {
    const NODES: usize = 20;
    let bus = Bus::default();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(bus.node(|_| {}).await);
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bus.sent(), (0, NODES), "each says once that it is there");
    let first = nodes[0].subscribe("first").await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bus.sent(), (2, 3 * NODES), "all answer both questions of a new link");
    let second = nodes[0].subscribe("second").await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bus.sent(), (3, 4 * NODES), "and one of a new channel; then nobody says anything");
    let (questions, digests) = bus.sent();
    let mut subscriptions = vec![first, second];
    for n in 0..60 {
        for node in &nodes {
            subscriptions.push(node.subscribe(format!("many.{n}")).await.unwrap());
            sleep(Duration::from_secs(1) / NODES as u32).await;
        }
    }
    let (questions, digests) = (bus.sent().0 - questions, bus.sent().1 - digests);
    // A hundred a second of each, and an answer of those who ask to themselves.
    assert!(questions <= 60 * 110 && digests <= 60 * 220, "{questions} questions, {digests} digests");
    // In the end everybody knows everything.
    sleep(Duration::from_secs(10)).await;
    let before = bus.sent();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bus.sent(), before);
}
