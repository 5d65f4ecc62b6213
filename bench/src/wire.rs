//! Wire: posts that go through a server and come back, beside the raw client on the same server.

pub(crate) mod nats;
mod rabbitmq;
pub(crate) mod redis;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use broker::{Broker, Event, Options, Scope};
use bytes::Bytes;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::{sync::Notify, time::timeout};

use crate::{
    Outcome,
    report::{Peer, Report, Row, Target},
    rounds::{Round, Scale, Spread, alternate},
    servers::started,
};

/// How long a round may take.
const LIMIT: Duration = Duration::from_secs(120);
const CHANNEL: &str = "bench";
/// Bytes, and how many callers post them.
const LOADS: [(usize, usize); 6] = [(64, 1), (64, 64), (64, 256), (64, 1024), (1024, 256), (65536, 64)];

/// One connection that posts, and one that hears; both know the same channel only.
pub(crate) trait Wire: Send + Sync + 'static {
    /// Posts, and waits for as much as this client waits for.
    fn post(&self, payload: Bytes) -> impl Future<Output = Outcome> + Send;

    /// Sees to it that everything is on its way.
    fn flush(&self) -> impl Future<Output = Outcome> + Send;

    fn heard(&self) -> &Heard;
}

/// How many messages have arrived.
#[derive(Debug)]
pub(crate) struct Heard {
    began: Instant,
    count: AtomicU64,
    wanted: AtomicU64,
    /// When the wanted one arrived, in nanoseconds.
    at: AtomicU64,
    reached: Notify,
}

impl Heard {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            count: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            at: AtomicU64::new(0),
            reached: Notify::new(),
        })
    }

    fn note(&self) {
        if self.count.fetch_add(1, SeqCst) + 1 == self.wanted.load(SeqCst) {
            self.at.store(self.now(), SeqCst);
            self.reached.notify_one();
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// From now on that many more are wanted. Nothing is under way.
    fn want(&self, more: u64) {
        self.wanted.store(self.count.load(Acquire) + more, SeqCst);
    }

    async fn reach(&self) -> Outcome {
        let arrived = timeout(LIMIT, self.reached.notified()).await;
        let (count, wanted) = (self.count.load(Acquire), self.wanted.load(SeqCst));
        arrived.map_err(|_| format!("only {count} of {wanted} messages have arrived").into())
    }
}

/// Ours: two nodes in this process.
pub(crate) struct Ours {
    poster: Broker,
    _hearer: Broker,
    heard: Arc<Heard>,
}

impl Ours {
    pub(crate) async fn open(url: &str) -> Outcome<Self> {
        let mut options = Options::default();
        // Nothing may be lost: there are never more under way.
        options.queue_capacity = 1 << 16;
        let poster = broker::connect_with(url, options.clone()).await?;
        let hearer = broker::connect_with(url, options).await?;
        let mut subscription = hearer.subscribe(CHANNEL).await?;
        let heard = Heard::new();
        let noting = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Some(event) = subscription.next().await {
                match event {
                    Event::Message(_) => noting.note(),
                    other => eprintln!("instead of a message: {other:?}"),
                }
            }
        });
        Ok(Self { poster, _hearer: hearer, heard })
    }
}

impl Wire for Ours {
    async fn post(&self, payload: Bytes) -> Outcome {
        Ok(self.poster.publish(CHANNEL, payload, Scope::Global).await?)
    }

    async fn flush(&self) -> Outcome {
        Ok(())
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for name in ["redis", "nats", "rabbitmq"] {
        let loads = LOADS.iter().map(|(size, callers)| scenario(name, *size, *callers));
        let mut scenarios = loads.chain([one_at_a_time(name)]);
        if !scenarios.any(|scenario| report.wants(&scenario))
            && (name != "redis" || !report.wants(redis::SCENARIO))
        {
            continue;
        }
        let Some(server) = started(name, &[]).await? else { continue };
        let url = server.url();
        let ours = Arc::new(Ours::open(&url).await?);
        // The raw client has no use for our own part of the URL.
        let plain = url.split('?').next().unwrap_or_default();
        match name {
            "redis" => {
                let raw = Arc::new(redis::Raw::open(plain).await?);
                beside(scale, report, name, "raw redis, multiplexed", &ours, &raw).await?;
                redis::beside_its_benchmark(scale, report, plain, &ours).await?;
            }
            "nats" => {
                let raw = Arc::new(nats::Raw::open(plain).await?);
                beside(scale, report, name, "raw async-nats, one flush", &ours, &raw).await?;
            }
            _ => {
                let raw = Arc::new(rabbitmq::Raw::open(plain).await?);
                beside(scale, report, name, "raw lapin with confirms", &ours, &raw).await?;
            }
        }
        ours.poster.close().await;
    }
    Ok(())
}

fn scenario(backend: &str, size: usize, callers: usize) -> String {
    format!("{backend} {size} B, {callers} callers")
}

fn one_at_a_time(backend: &str) -> String {
    format!("{backend} latency, one at a time")
}

/// Everything that is measured on each server.
async fn beside<W: Wire>(
    scale: Scale,
    report: &mut Report,
    backend: &str,
    peer: &'static str,
    ours: &Arc<Ours>,
    raw: &Arc<W>,
) -> Outcome {
    let least = if backend == "nats" { 0.9 } else { 1.5 };
    for (size, callers) in LOADS {
        let name = scenario(backend, size, callers);
        if !report.starts(&name) {
            continue;
        }
        let slow = if backend == "rabbitmq" { 10 } else { 1 };
        let full = 200_000 / slow / if callers == 1 || size > 1024 { 20 } else { 1 };
        let count = scale.of(full, callers);
        let payload = Bytes::from(vec![b'x'; size]);
        let pairs = alternate(
            scale,
            async || throughput(ours, &payload, callers, count).await,
            async || throughput(raw, &payload, callers, count).await,
        );
        let target = (size == 64 && callers == 256).then_some(Target::AtLeast(least));
        report.add(Row::rates(name, "messages/s", peer, &pairs.await?).target(target));
    }
    let name = one_at_a_time(backend);
    if report.starts(&name) {
        let count = scale.of(2000, 1);
        let pairs =
            alternate(scale, async || latency(&**ours, count).await, async || latency(&**raw, count).await);
        report.add(latency_row(name, peer, &pairs.await?)?);
    }
    Ok(())
}

/// So many callers share the posts; done when all are posted, and all have arrived.
pub(crate) async fn throughput<W: Wire>(
    wire: &Arc<W>,
    payload: &Bytes,
    callers: usize,
    count: usize,
) -> Outcome<Round> {
    wire.heard().want(count as u64);
    let posting = (0..callers).map(|_| {
        let (wire, payload) = (Arc::clone(wire), payload.clone());
        tokio::spawn(async move {
            for _ in 0..count / callers {
                wire.post(payload.clone()).await?;
            }
            Outcome::Ok(())
        })
    });
    let work = async {
        for outcome in try_join_all(posting).await? {
            outcome?;
        }
        wire.flush().await?;
        wire.heard().reach().await
    };
    Round::time(count, work).await
}

/// From a post to its arrival, in nanoseconds.
async fn latency<W: Wire>(wire: &W, count: usize) -> Outcome<Histogram<u64>> {
    let mut took = Histogram::new(3)?;
    let payload = Bytes::from_static(&[b'x'; 64]);
    for _ in 0..count {
        let heard = wire.heard();
        heard.want(1);
        let posted = heard.now();
        wire.post(payload.clone()).await?;
        wire.flush().await?;
        heard.reach().await?;
        took.record(heard.at.load(SeqCst) - posted)?;
    }
    Ok(took)
}

fn latency_row(
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
        unit: "µs, p50",
        ours: micros(&ours, 0.5),
        peer: Some(Peer {
            name: peer,
            figure: micros(&theirs, 0.5),
            ratio: Spread::of(pairs.iter().map(ratio)),
        }),
        target: Some(Target::AtMost(1.15)),
        notes: format!("p99 and p99.9: {} / {}", tail(&ours), tail(&theirs)),
    })
}
