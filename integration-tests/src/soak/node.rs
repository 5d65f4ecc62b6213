//! Node: one node of a soak. Posts numbers on every channel, listens on every channel, and says what it received.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use broker::{Broker, ErrorKind, Event, Options, Scope, Subscription};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::record::Record;

/// What one node is to do.
#[derive(Clone, Debug)]
pub struct Task {
    /// Where.
    pub url: String,
    /// Its number, which no other incarnation of any node has.
    pub id: u32,
    /// How many channels.
    pub channels: u32,
    /// How many messages a second it posts at most, over all channels.
    pub rate: u32,
}

/// What a node is told while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read nothing for so many milliseconds.
    BeSlow(u64),
    /// Post no more.
    Stop,
    /// Say the rest, and end.
    Finish,
}

/// Where a node says things.
pub type Say = Arc<dyn Fn(Record) + Send + Sync>;

/// How many posts of one channel may be under way.
const WINDOW: usize = 256;
/// How often a node says how far it is.
const EVERY: Duration = Duration::from_millis(200);

/// The options of the nodes of a soak: quick to notice, and patient with a busy machine.
#[must_use]
pub fn options() -> Options {
    let mut options = Options::default();
    options.heartbeat = Duration::from_millis(500);
    options.heartbeat_timeout = Duration::from_secs(3);
    options.digest_interval = Duration::from_millis(500);
    options.backoff_min = Duration::from_millis(20);
    options.backoff_max = Duration::from_millis(500);
    options.queue_capacity = 2048;
    options
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// What all parts of a node share.
#[derive(Clone)]
struct Shared {
    task: Task,
    broker: Broker,
    say: Say,
    posting: watch::Receiver<bool>,
    slow_until: watch::Receiver<Instant>,
    finished: watch::Receiver<bool>,
}

/// Runs a node until it is told to finish, or nobody can tell it anything any more.
///
/// # Errors
/// It cannot start.
pub async fn run(task: Task, mut orders: mpsc::UnboundedReceiver<Order>, say: Say) -> Result<(), String> {
    let broker = broker::open(&task.url, options()).map_err(|error| error.to_string())?;
    let (post, posting) = watch::channel(true);
    let (slow, slow_until) = watch::channel(Instant::now());
    let (finish, finished) = watch::channel(false);
    let shared =
        Shared { task, broker: broker.clone(), say: Arc::clone(&say), posting, slow_until, finished };
    let mut parts = JoinSet::new();
    parts.spawn(watch_health(shared.clone()));
    for channel in 0..shared.task.channels {
        parts.spawn(listen(shared.clone(), channel));
        parts.spawn(publish(shared.clone(), channel));
    }
    loop {
        match orders.recv().await {
            Some(Order::BeSlow(millis)) => {
                slow.send_replace(Instant::now() + Duration::from_millis(millis));
            }
            Some(Order::Stop) => {
                post.send_replace(false);
            }
            Some(Order::Finish) => break,
            None => return Ok(()), // nobody is there any more
        }
    }
    finish.send_replace(true);
    while let Some(ended) = parts.join_next().await {
        ended.map_err(|error| error.to_string())?;
    }
    broker.close().await;
    say(Record::Done);
    Ok(())
}

async fn watch_health(mut node: Shared) {
    let mut said = false;
    while !*node.finished.borrow_and_update() {
        let connected = node.broker.health().is_connected();
        if connected != said {
            said = connected;
            (node.say)(Record::Connected { now: said, at: now() });
        }
        let _ = tokio::time::timeout(Duration::from_millis(10), node.finished.changed()).await;
    }
}

async fn listen(mut node: Shared, channel: u32) {
    let name = format!("soak.{channel}");
    let mut stream = loop {
        if *node.finished.borrow() {
            return;
        }
        match node.broker.subscribe(&name).await {
            Ok(stream) => break stream,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    };
    (node.say)(Record::Subscribed { channel, at: now() });
    let mut received = Received { channel, say: Arc::clone(&node.say), last: HashMap::new() };
    let mut flush = interval(EVERY);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let slow_until = *node.slow_until.borrow();
        sleep_until(slow_until).await;
        tokio::select! {
            event = stream.next() => match event {
                Some(event) => received.event(event),
                None => break,
            },
            _ = flush.tick() => received.flush(),
            _ = node.finished.changed() => break,
        }
    }
    rest(&mut stream, &mut received);
    received.flush();
}

/// What is in the queue already.
fn rest(stream: &mut Subscription, received: &mut Received) {
    while let Some(Some(event)) = stream.next().now_or_never() {
        received.event(event);
    }
}

/// What was received on one channel and not said yet.
struct Received {
    channel: u32,
    say: Say,
    /// By publisher: the first number that was not said, and the last that was received.
    last: HashMap<u32, (u64, u64)>,
}

impl Received {
    fn event(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                let payload = message.payload().unwrap_or_default();
                let Ok(bytes) = <[u8; 12]>::try_from(&payload[..]) else { return };
                let [a, b, c, d, rest @ ..] = bytes;
                self.message(u32::from_be_bytes([a, b, c, d]), u64::from_be_bytes(rest));
            }
            Event::Gap(gap) => {
                self.flush();
                (self.say)(Record::Gap { channel: self.channel, missed: gap.missed, at: now() });
            }
            _ => {}
        }
    }

    fn message(&mut self, publisher: u32, number: u64) {
        let (channel, say) = (self.channel, &self.say);
        match self.last.get_mut(&publisher) {
            Some((_, last)) if number == *last + 1 => *last = number,
            Some((_, last)) if number <= *last => say(Record::Backwards { channel, publisher, number }),
            Some((first, last)) => {
                say_received(say, channel, publisher, *first, *last);
                (*first, *last) = (number, number);
            }
            None => {
                self.last.insert(publisher, (number, number));
            }
        }
    }

    fn flush(&mut self) {
        for (publisher, (first, last)) in &mut self.last {
            say_received(&self.say, self.channel, *publisher, *first, *last);
            *first = *last + 1;
        }
    }
}

fn say_received(say: &Say, channel: u32, publisher: u32, first: u64, last: u64) {
    if first <= last {
        say(Record::Received { channel, publisher, first, last });
    }
}

/// Posts under way on one channel.
struct Posts {
    channel: u32,
    say: Say,
    next: u64,
    under_way: FuturesUnordered<BoxFuture<'static, (u64, Result<broker::Receipt, broker::Error>)>>,
    numbers: BTreeSet<u64>,
}

async fn publish(mut node: Shared, channel: u32) {
    let mut posts = Posts {
        channel,
        say: Arc::clone(&node.say),
        next: 1,
        under_way: FuturesUnordered::new(),
        numbers: BTreeSet::new(),
    };
    posts.say_how_far();
    let (mut tick, mut say) = (interval(Duration::from_millis(5)), interval(EVERY));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    say.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut allowance) = (Instant::now(), 0.0_f64);
    let rate = f64::from(node.task.rate) / f64::from(node.task.channels);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                allowance = (allowance + rate * before.elapsed().as_secs_f64()).min(rate / 10.0 + 1.0);
                before = Instant::now();
                while *node.posting.borrow() && allowance >= 1.0 && posts.numbers.len() < WINDOW {
                    allowance -= 1.0;
                    posts.post(&node).await;
                }
            }
            Some((number, outcome)) = posts.under_way.next() => {
                if posts.outcome(number, outcome) {
                    allowance = -rate / 20.0; // not again at once
                }
            }
            _ = say.tick() => posts.say_how_far(),
            _ = node.finished.changed() => break,
        }
    }
    while let Some((number, outcome)) = posts.under_way.next().await {
        posts.outcome(number, outcome);
    }
    posts.say_how_far();
}

impl Posts {
    /// Begins one post: it is in the outbox, or waits for its turn there, before the next one begins.
    async fn post(&mut self, node: &Shared) {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(number);
        let mut payload = Vec::with_capacity(12);
        payload.extend(node.task.id.to_be_bytes());
        payload.extend(number.to_be_bytes());
        let (broker, name) = (node.broker.clone(), format!("soak.{}", self.channel));
        let post = async move { broker.publish(&name, Bytes::from(payload), Scope::Global).await };
        let mut post = Box::pin(post);
        match futures_util::poll!(&mut post) {
            std::task::Poll::Ready(outcome) => {
                self.outcome(number, outcome);
            }
            std::task::Poll::Pending => {
                self.under_way.push(post.map(move |outcome| (number, outcome)).boxed());
            }
        }
    }

    /// A post has ended. True when it failed.
    fn outcome(&mut self, number: u64, outcome: Result<broker::Receipt, broker::Error>) -> bool {
        self.numbers.remove(&number);
        let Err(error) = outcome else { return false };
        let perhaps =
            !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Closed);
        (self.say)(Record::Failed { channel: self.channel, number, perhaps });
        true
    }

    fn say_how_far(&self) {
        let at = now();
        let known = self.numbers.first().copied().unwrap_or(self.next);
        (self.say)(Record::Posted { channel: self.channel, at, next: self.next, known });
    }
}

/// Runs a node as a process: orders on standard input, a line each, what it says on standard output. It ends when
/// nobody can give orders any more.
///
/// # Errors
/// It cannot start.
pub async fn run_as_process(task: Task) -> Result<(), String> {
    let (give, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let order = match line.split_once(' ') {
                Some(("slow", millis)) => millis.parse().ok().map(Order::BeSlow),
                _ if line == "stop" => Some(Order::Stop),
                _ if line == "finish" => Some(Order::Finish),
                _ => None,
            };
            if order.is_none_or(|order| give.send(order).is_err()) {
                break;
            }
        }
    });
    let say: Say = Arc::new(|record| {
        // Whole lines under one lock; a reader that is gone means that the end is near.
        use std::io::Write;
        let _ = writeln!(std::io::stdout().lock(), "{}", record.line());
    });
    run(task, orders, say).await
}

impl Order {
    /// As a line for [`run_as_process`].
    #[must_use]
    pub fn line(self) -> String {
        match self {
            Self::BeSlow(millis) => format!("slow {millis}\n"),
            Self::Stop => "stop\n".to_owned(),
            Self::Finish => "finish\n".to_owned(),
        }
    }
}
