//! Local fan-out: one publisher, many subscribers, nothing lost; beside broadcast channels of the same capacity.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use broker::{Broker, ChannelHandle, Event, MessageStream, Model, Scope, Session, Subscription};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, broadcast},
    task::JoinSet,
};

use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::{Round, Scale, alternate},
};

/// What a subscription may queue here by default; the others get as much.
const CAPACITY: usize = 1024;

/// What typed posts carry. Nothing in it is allocated.
#[derive(Clone, Debug, Serialize, Deserialize, Model)]
#[model(name = "tick")]
pub(crate) struct Tick {
    number: u64,
    bid: f64,
    ask: f64,
}

const TICK: Tick = Tick { number: 7, bid: 1.25, ask: 1.5 };

/// What a raw post is to a channel that knows nothing of messages: shared bytes beside a number.
#[derive(Debug)]
struct Plain {
    _number: u64,
    _payload: Bytes,
}

fn payload() -> Bytes {
    Bytes::from_static(&[b'x'; 64])
}

/// Posts one message.
trait Post: Clone + Send + Sync + 'static {
    fn post(&self) -> impl Future<Output = Outcome> + Send;
}

/// Reads one message; anything else is an error.
trait Read: Send + 'static {
    fn read(&mut self) -> impl Future<Output = Outcome> + Send;
}

#[derive(Clone)]
struct Raw(Broker);

impl Post for Raw {
    async fn post(&self) -> Outcome {
        self.0.publish("news", payload(), Scope::Local).await?;
        Ok(())
    }
}

#[derive(Clone)]
struct RawHandle(ChannelHandle<Bytes>);

impl Post for RawHandle {
    async fn post(&self) -> Outcome {
        self.0.publish(payload(), Scope::Local).await?;
        Ok(())
    }
}

#[derive(Clone)]
struct TypedHandle {
    handle: ChannelHandle<Tick>,
    /// The readers end with it.
    _session: Arc<Session>,
}

impl Post for TypedHandle {
    async fn post(&self) -> Outcome {
        self.handle.post_message(TICK, Scope::Local).await?;
        Ok(())
    }
}

impl Read for Subscription {
    async fn read(&mut self) -> Outcome {
        match self.next().await {
            Some(Event::Message(_)) => Ok(()),
            Some(Event::Gap(gap)) => Err(gap.to_string().into()),
            _ => Err("neither a message nor a gap".into()),
        }
    }
}

#[derive(Clone)]
struct Typed(Arc<Session>);

impl Post for Typed {
    async fn post(&self) -> Outcome {
        self.0.post_message("news", TICK, Scope::Local).await?;
        Ok(())
    }
}

impl Read for MessageStream<Tick> {
    async fn read(&mut self) -> Outcome {
        match self.next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => Err("the stream has ended".into()),
        }
    }
}

struct Broadcast<T>(broadcast::Sender<Arc<T>>, fn() -> T);

// Derived, it would ask for values that can be cloned.
impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1)
    }
}

impl<T: Value> Post for Broadcast<T> {
    async fn post(&self) -> Outcome {
        self.0.send(Arc::new(self.1())).map(drop).map_err(|_| "nobody subscribes".into())
    }
}

impl<T: Value> Read for broadcast::Receiver<Arc<T>> {
    async fn read(&mut self) -> Outcome {
        Ok(self.recv().await.map(drop)?)
    }
}

/// What can be broadcast.
trait Value: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> Value for T {}

#[derive(Clone)]
struct Other(async_broadcast::Sender<Arc<Plain>>);

impl Post for Other {
    async fn post(&self) -> Outcome {
        self.0.broadcast(Arc::new(plain())).await.map(drop).map_err(|_| "nobody subscribes".into())
    }
}

impl Read for async_broadcast::Receiver<Arc<Plain>> {
    async fn read(&mut self) -> Outcome {
        Ok(self.recv().await.map(drop)?)
    }
}

fn plain() -> Plain {
    Plain { _number: 7, _payload: payload() }
}

/// How many readers have yet to finish the window.
#[derive(Default)]
struct Window {
    left: AtomicUsize,
    finished: Notify,
}

/// A publisher, and readers that each run as a task.
struct Crowd<P> {
    publisher: P,
    readers: JoinSet<Outcome>,
    window: Arc<Window>,
    length: usize,
}

impl<P: Post> Crowd<P> {
    fn start<R: Read>(publisher: P, readers: Vec<R>, length: usize) -> Self {
        let window = Arc::new(Window::default());
        let read_on = |mut reader: R| {
            let window = Arc::clone(&window);
            async move {
                loop {
                    for _ in 0..length {
                        reader.read().await?;
                    }
                    if window.left.fetch_sub(1, SeqCst) == 1 {
                        window.finished.notify_one();
                    }
                }
            }
        };
        let readers = readers.into_iter().map(read_on).collect();
        Self { publisher, readers, window, length }
    }

    /// The same readers, and another who posts.
    fn with_publisher<Q>(self, publisher: Q) -> Crowd<Q> {
        Crowd { publisher, readers: self.readers, window: self.window, length: self.length }
    }

    /// Posts in windows, and lets everybody keep up after each. Counts deliveries.
    async fn round(&mut self, windows: usize) -> Outcome<Round> {
        let readers = self.readers.len();
        let (publisher, window, length) = (self.publisher.clone(), Arc::clone(&self.window), self.length);
        let posting = tokio::spawn(async move {
            for _ in 0..windows {
                window.left.store(readers, SeqCst);
                for _ in 0..length {
                    publisher.post().await?;
                }
                window.finished.notified().await;
            }
            Ok(())
        });
        let work = async {
            tokio::select! {
                posted = posting => posted?,
                // One that fails would be waited for in vain.
                Some(ended) = self.readers.join_next() => ended?,
            }
        };
        Round::time(windows * length * readers, work).await
    }
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for (length, least) in [(512, 1.5), (1, 1.2)] {
        for readers in [1, 10, 100, 1000] {
            let name = format!("local raw fan-out 1→{readers}, window {length}");
            if report.starts(&name) {
                let (broker, posts) = (raw(readers, length).await?, broadcast(readers, length, plain));
                compare(scale, report, name, "tokio broadcast", broker, posts, Target::AtLeast(least))
                    .await?;
            }
        }
    }
    for readers in [1, 10, 100, 1000] {
        let name = format!("local typed fan-out 1→{readers}, window 512");
        if report.starts(&name) {
            let (broker, posts) = (typed(readers).await?, broadcast(readers, 512, || TICK));
            compare(scale, report, name, "tokio broadcast of Arc<T>", broker, posts, Target::AtLeast(1.1))
                .await?;
        }
    }
    for (readers, least) in [(1, 1.5), (10, 1.8)] {
        let name = format!("local raw fan-out 1→{readers} by handle, window 512");
        if report.starts(&name) {
            let (broker, posts) = (raw(readers, 512).await?, broadcast(readers, 512, plain));
            let handle = RawHandle(broker.publisher.0.channel("news")?);
            let broker = broker.with_publisher(handle);
            compare(scale, report, name, "tokio broadcast", broker, posts, Target::AtLeast(least)).await?;
        }
        let name = format!("local typed fan-out 1→{readers} by handle, window 512");
        if report.starts(&name) {
            let (broker, posts) = (typed(readers).await?, broadcast(readers, 512, || TICK));
            let session = Arc::clone(&broker.publisher.0);
            let handle = TypedHandle { handle: session.broker().channel("news")?, _session: session };
            let broker = broker.with_publisher(handle);
            let target = Target::AtLeast(1.1);
            compare(scale, report, name, "tokio broadcast of Arc<T>", broker, posts, target).await?;
        }
    }
    let name = "local raw fan-out 1→10, window 512, and one that never reads";
    if report.starts(name) {
        let (broker, posts) = (raw(10, 512).await?, broadcast(10, 512, plain));
        let (stalled, also) = (broker.publisher.0.subscribe("news").await?, posts.publisher.0.subscribe());
        compare(scale, report, name.to_owned(), "tokio broadcast", broker, posts, Target::AtLeast(1.5))
            .await?;
        drop((stalled, also));
    }
    for readers in [1, 10, 100] {
        let name = format!("local raw fan-out 1→{readers}, window 512, other peer");
        if report.starts(&name) {
            let (sender, receiver) = async_broadcast::broadcast(CAPACITY);
            let receivers = (0..readers).map(|_| receiver.clone()).collect();
            drop(receiver);
            let (broker, other) = (raw(readers, 512).await?, Crowd::start(Other(sender), receivers, 512));
            compare(scale, report, name, "async-broadcast", broker, other, None).await?;
        }
    }
    Ok(())
}

async fn raw(readers: usize, length: usize) -> Outcome<Crowd<Raw>> {
    let broker = Broker::local();
    let mut subscriptions = Vec::with_capacity(readers);
    for _ in 0..readers {
        subscriptions.push(broker.subscribe("news").await?);
    }
    Ok(Crowd::start(Raw(broker), subscriptions, length))
}

async fn typed(readers: usize) -> Outcome<Crowd<Typed>> {
    let session = Broker::local().session();
    let mut streams = Vec::with_capacity(readers);
    for _ in 0..readers {
        streams.push(session.create_stream::<Tick>("news").await?);
    }
    Ok(Crowd::start(Typed(Arc::new(session)), streams, 512))
}

fn broadcast<T: Value>(readers: usize, length: usize, make: fn() -> T) -> Crowd<Broadcast<T>> {
    let sender = broadcast::Sender::new(CAPACITY);
    let receivers = (0..readers).map(|_| sender.subscribe()).collect();
    Crowd::start(Broadcast(sender, make), receivers, length)
}

async fn compare(
    scale: Scale,
    report: &mut Report,
    name: String,
    peer: &'static str,
    mut ours: Crowd<impl Post>,
    mut theirs: Crowd<impl Post>,
    target: impl Into<Option<Target>>,
) -> Outcome {
    // A tenth of a second or so: single messages cost ten times as much.
    let deliveries = if ours.length == 1 { 200_000 } else { 2_000_000 };
    let each = ours.length * ours.readers.len();
    let windows = scale.of(deliveries, each) / each;
    let pairs =
        alternate(scale, async || ours.round(windows).await, async || theirs.round(windows).await).await?;
    report.add(Row::rates(name, "deliveries/s", peer, &pairs).target(target));
    Ok(())
}
