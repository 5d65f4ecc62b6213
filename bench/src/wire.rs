//! Wire: posts that go through a server and come back, beside the raw client on the same server.

pub(crate) mod nats;
mod open_loop;
pub(crate) mod postgres;
mod rabbitmq;
mod received;
pub(crate) mod redis;

use std::{future::Future, sync::Arc};

use broker::{Broker, Event, Options, Scope};
use bytes::Bytes;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::{
    Outcome,
    report::{ErrorContext, Report, Row, Target},
    rounds::{Round, Scale, Spread, alternate},
    servers::started,
};
pub(crate) use received::Received;

const CHANNEL: &str = "bench";
const SPREAD: usize = 256;
/// Bytes, how many callers post them, and to how many channels: one for all, or one for each.
const LOADS: [(usize, usize, usize); 7] = [
    (64, 1, 1),
    (64, 64, 1),
    (64, 256, 1),
    (64, 1024, 1),
    (1024, 256, 1),
    (65536, 64, 1),
    (64, SPREAD, SPREAD),
];

/// One connection that posts, and one that receives; both know the same channels only.
pub(crate) trait Wire: Sized + Send + Sync + 'static {
    /// Connects, and subscribes to so many channels.
    fn open(url: &str, channels: usize) -> impl Future<Output = Outcome<Self>> + Send;

    /// Posts to the caller's channel, and waits for as much as this client waits for.
    fn post(&self, caller: usize, payload: Bytes) -> impl Future<Output = Outcome> + Send;

    /// Sees to it that everything is on its way.
    fn flush(&self) -> impl Future<Output = Outcome> + Send;

    fn received(&self) -> &Received;
}

/// Ours: two nodes in this process.
pub(crate) struct Ours {
    pub(crate) poster: Broker,
    _subscriber: Broker,
    pub(crate) channels: Vec<String>,
    received: Arc<Received>,
    /// Ends with this, lest they go on to receive what others post.
    _readers: JoinSet<()>,
}

impl Wire for Ours {
    async fn open(url: &str, channels: usize) -> Outcome<Self> {
        let mut options = Options::default();
        // Nothing may be lost: no round posts more. In one process an outcome comes before the message is read, so that
        // the callers may be ahead of the reader by all of them.
        options.queue_capacity = 1 << 19;
        options.queue_bytes = 0;
        let poster = broker::connect_with(url, options.clone()).await?;
        let subscriber = broker::connect_with(url, options).await?;
        let (channels, received, mut readers) = (names("", channels), Received::new()?, JoinSet::new());
        for channel in &channels {
            let mut subscription = subscriber.subscribe(channel).await?;
            let noting = Arc::clone(&received);
            readers.spawn(async move {
                while let Some(event) = subscription.next().await {
                    match event {
                        Event::Message(message) => noting.note(|| message.payload().unwrap_or_default()),
                        other => eprintln!("instead of a message: {other:?}"),
                    }
                }
            });
        }
        Ok(Self { poster, _subscriber: subscriber, channels, received, _readers: readers })
    }

    async fn post(&self, caller: usize, payload: Bytes) -> Outcome {
        let channel = &self.channels[caller % self.channels.len()];
        self.poster.publish(channel, payload, Scope::Global).await?;
        Ok(())
    }

    async fn flush(&self) -> Outcome {
        Ok(())
    }

    fn received(&self) -> &Received {
        &self.received
    }
}

/// The names of so many channels.
fn names(start: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{start}{CHANNEL}.{number}")).collect()
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for name in ["redis", "nats", "rabbitmq", "postgres"] {
        let more = match name {
            "redis" => redis::SCENARIO.to_owned(),
            "postgres" => postgres::subscribing(scale),
            _ => one_at_a_time(name),
        };
        let mut scenarios = LOADS
            .iter()
            .map(|load| scenario(name, *load))
            .chain([one_at_a_time(name), more])
            .chain(open_loop::scenarios(name));
        if !scenarios.any(|scenario| report.wants(&scenario)) {
            continue;
        }
        let Some(server) = started(name, &[]).await? else { continue };
        // PostgreSQL wakes all who listen in a database for every commit, also those that listen to something else.
        let apart = if name == "postgres" { started(name, &[]).await? } else { None };
        let url = server.url();
        let theirs = apart.as_ref().map_or_else(|| url.clone(), |apart| apart.url());
        let urls = [&*url, &*theirs];
        match name {
            "redis" => {
                beside::<redis::Raw>(scale, report, name, "raw redis, multiplexed", urls).await?;
                redis::beside_its_benchmark(scale, report, &url).await?;
            }
            "nats" => beside::<nats::Raw>(scale, report, name, "raw async-nats, one flush", urls).await?,
            "rabbitmq" => {
                beside::<rabbitmq::Raw>(scale, report, name, "raw lapin with confirms", urls).await?;
            }
            _ => {
                beside::<postgres::Raw>(scale, report, name, "raw tokio-postgres", urls).await?;
                postgres::subscribe(scale, report, &url).await?;
            }
        }
    }
    Ok(())
}

fn scenario(backend: &str, (size, callers, channels): (usize, usize, usize)) -> String {
    let each = if channels > 1 { ", each on its own channel" } else { "" };
    format!("{backend} {size} B, {callers} callers{each}")
}

fn one_at_a_time(backend: &str) -> String {
    format!("{backend} latency, one at a time")
}

/// What ours is to reach, as a ratio to the raw client.
fn least(backend: &str, load: (usize, usize, usize)) -> Option<f64> {
    match (backend, load) {
        ("nats", (64, 256, 1)) => Some(0.9),
        ("postgres", (64, 256, 1)) => Some(5.0),
        (_, (64, 256, 1)) => Some(1.5),
        ("redis", (64, 1, 1)) | (_, (65536, ..)) => Some(1.0),
        ("redis", (64, SPREAD, SPREAD)) => Some(1.3),
        ("nats", (64, SPREAD, SPREAD)) => Some(0.8),
        ("rabbitmq", (64, SPREAD, SPREAD)) => Some(1.2),
        _ => None,
    }
}

/// Everything that is measured on each server.
async fn beside<W: Wire>(
    scale: Scale,
    report: &mut Report,
    backend: &str,
    peer: &'static str,
    urls: [&str; 2],
) -> Outcome {
    let (ours, raw) = both::<W>(urls, 1).await?;
    for load in LOADS {
        let (name, (size, callers, channels)) = (scenario(backend, load), load);
        if !report.starts(&name) {
            continue;
        }
        let spread = if channels > 1 { Some(both::<W>(urls, channels).await?) } else { None };
        let (ours, raw) = spread.as_ref().map_or((&ours, &raw), |(ours, raw)| (ours, raw));
        let slow = slow(backend);
        let full = 200_000 / slow / if callers == 1 || size > 1024 { 20 } else { 1 };
        let count = scale.of(full, callers);
        let payload = Bytes::from(vec![b'x'; size]);
        let pairs = alternate(
            scale,
            async || throughput(ours, &payload, callers, count).await,
            async || throughput(raw, &payload, callers, count).await,
        );
        let target = least(backend, load).map(Target::AtLeast);
        report.add(Row::rates(name, "messages/s", peer, &pairs.await?).target(target));
    }
    let name = one_at_a_time(backend);
    if report.starts(&name) {
        let count = scale.of(2000, 1);
        let pairs =
            alternate(scale, async || latency(&*ours, count).await, async || latency(&*raw, count).await);
        report.add(latency_row(name, peer, &pairs.await?)?);
    }
    open_loop::run(scale, report, backend, peer, (&ours, &raw)).await
}

/// By how much less is posted to a server that takes so much longer.
pub(crate) fn slow(backend: &str) -> usize {
    if matches!(backend, "rabbitmq" | "postgres") { 10 } else { 1 }
}

/// Ours and the raw client, at so many channels.
async fn both<W: Wire>([url, theirs]: [&str; 2], channels: usize) -> Outcome<(Arc<Ours>, Arc<W>)> {
    // The raw client has no use for our own part of the URL.
    let plain = theirs.split('?').next().unwrap_or_default();
    Ok((Arc::new(Ours::open(url, channels).await?), Arc::new(W::open(plain, channels).await?)))
}

/// So many callers share the posts; done when all are posted, and all have arrived.
pub(crate) async fn throughput<W: Wire>(
    wire: &Arc<W>,
    payload: &Bytes,
    callers: usize,
    count: usize,
) -> Outcome<Round> {
    wire.received().want(count as u64);
    let posting = (0..callers).map(|caller| {
        let (wire, payload) = (Arc::clone(wire), payload.clone());
        tokio::spawn(async move {
            for _ in 0..count / callers {
                wire.post(caller, payload.clone()).await?;
            }
            Outcome::Ok(())
        })
    });
    let work = async {
        for outcome in try_join_all(posting).await? {
            outcome?;
        }
        wire.flush().await?;
        wire.received().reach().await
    };
    Round::time(count, work).await
}

/// From a post to its arrival, in nanoseconds.
async fn latency<W: Wire>(wire: &W, count: usize) -> Outcome<Histogram<u64>> {
    let mut took = Histogram::new(3)?;
    let payload = Bytes::from_static(&[b'x'; 64]);
    for _ in 0..count {
        let received = wire.received();
        received.want(1);
        let posted = received.now();
        wire.post(0, payload.clone()).await?;
        wire.flush().await?;
        received.reach().await?;
        took.record(received.arrived_at() - posted)?;
    }
    Ok(took)
}

/// What was measured one at a time, in nanoseconds.
pub(crate) fn latency_row(
    scenario: String,
    peer: &'static str,
    pairs: &[(Histogram<u64>, Histogram<u64>)],
) -> Outcome<Row> {
    let (mut ours, mut theirs) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    for (a, b) in pairs {
        ours.add(a)?;
        theirs.add(b)?;
    }
    let micros = |took: &Histogram<u64>, quantile| took.value_at_quantile(quantile) as f64 / 1000.0;
    let ratio = |(a, b): &(Histogram<u64>, Histogram<u64>)| micros(a, 0.5) / micros(b, 0.5);
    let tail = |took: &Histogram<u64>| format!("{:.0}, {:.0}", micros(took, 0.99), micros(took, 0.999));
    Ok(Row {
        scenario,
        unit: "µs, p50".into(),
        ours: micros(&ours, 0.5),
        peer: Some(ErrorContext {
            name: peer.into(),
            figure: micros(&theirs, 0.5),
            ratio: Spread::of(pairs.iter().map(ratio)),
        }),
        target: Some(Target::AtMost(1.15)),
        notes: format!("p99 and p99.9: {} / {}", tail(&ours), tail(&theirs)),
    })
}
