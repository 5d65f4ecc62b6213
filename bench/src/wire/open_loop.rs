//! Open loop: posts at fixed times, whether or not the ones before have arrived, and how long each took from the time at which
//! it was due; at shares of what the raw client can carry, beside the raw client.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{Ours, Wire, slow, throughput};
use crate::{
    Outcome,
    report::{ErrorContext, Report, Row, Target},
    rounds::{Scale, Spread, alternate},
};

/// In percent of what the raw client can carry.
const LOADS: [u32; 3] = [25, 50, 75];
/// Who find out what that is.
const CALLERS: usize = 256;
/// No round has more posts: where ours cannot follow, all of them are under way at once.
const MOST: usize = 200_000;
/// A thread that waits for less may wait for longer.
const SHORTEST: Duration = Duration::from_micros(50);
const BYTES: usize = 64;

pub(super) fn scenario(backend: &str, load: u32) -> String {
    format!("{backend} open loop, {load} % of what raw carries")
}

pub(super) fn scenarios(backend: &str) -> impl Iterator<Item = String> {
    LOADS.map(|load| scenario(backend, load)).into_iter()
}

/// What every post took, in nanoseconds, and what the posts failed of.
type Took = Histogram<u64>;

pub(super) async fn run<W: Wire>(
    scale: Scale,
    report: &mut Report,
    backend: &str,
    peer: &'static str,
    (ours, raw): (&Arc<Ours>, &Arc<W>),
) -> Outcome {
    if !scenarios(backend).any(|name| report.wants(&name)) {
        return Ok(());
    }
    let capacity = capacity(scale, backend, raw).await?;
    for load in LOADS {
        let name = scenario(backend, load);
        if !report.starts(&name) {
            continue;
        }
        let rate = capacity * f64::from(load) / 100.0;
        let posts = ((rate * scale.of(4000, 20) as f64 / 1000.0) as usize).clamp(1, MOST);
        let pairs = alternate(
            scale,
            async || at_fixed_times(ours, rate, posts).await,
            async || at_fixed_times(raw, rate, posts).await,
        );
        let notes = format!("{rate:.0} posts/s of {capacity:.0}, {posts} a round");
        let target = (load == 50).then_some(Target::AtMost(1.2));
        report.add(row(name, peer, &pairs.await?, &notes)?.target(target));
    }
    Ok(())
}

/// What the raw client carries, in messages a second: the median of three rounds after one that warms up.
async fn capacity<W: Wire>(scale: Scale, backend: &str, raw: &Arc<W>) -> Outcome<f64> {
    let payload = Bytes::from(vec![b'0'; BYTES]);
    let count = scale.of(200_000 / slow(backend), CALLERS);
    let mut rates = Vec::new();
    for _ in 0..4 {
        rates.push(throughput(raw, &payload, CALLERS, count).await?.rate());
    }
    Ok(Spread::of(rates.into_iter().skip(1)).median)
}

/// So many posts, each at its time. Nothing waits for the ones before.
async fn at_fixed_times<W: Wire>(wire: &Arc<W>, rate: f64, posts: usize) -> Outcome<Took> {
    let received = wire.received();
    received.want(posts as u64);
    received.time_each(true);
    let (poster, runtime) = (Arc::clone(wire), Handle::current());
    // Timers of the runtime are as coarse as a millisecond.
    let posting = spawn_blocking(move || {
        let (received, began) = (poster.received(), Instant::now());
        let start = received.now();
        let mut under_way = Vec::with_capacity(posts);
        for post in 0..posts {
            let due = Duration::from_secs_f64(post as f64 / rate);
            let early = due.saturating_sub(began.elapsed());
            if early >= SHORTEST {
                thread::sleep(early);
            }
            let payload = Bytes::from(format!("{:0BYTES$}", start + due.as_nanos() as u64));
            let wire = Arc::clone(&poster);
            under_way.push(runtime.spawn(async move { wire.post(0, payload).await }));
        }
        under_way
    });
    for post in posting.await? {
        post.await??;
    }
    wire.flush().await?;
    received.reach().await?;
    received.time_each(false);
    received.took()
}

fn row(scenario: String, peer: &'static str, pairs: &[(Took, Took)], notes: &str) -> Outcome<Row> {
    let micros = |took: &Took, quantile| took.value_at_quantile(quantile) as f64 / 1000.0;
    let (mut ours, mut theirs) = (Took::new(3)?, Took::new(3)?);
    for (a, b) in pairs {
        ours.add(a)?;
        theirs.add(b)?;
    }
    let all =
        |took: &Took| [0.5, 0.99, 0.999].map(|quantile| format!("{:.0}", micros(took, quantile))).join(", ");
    let ratio = |(a, b): &(Took, Took)| micros(a, 0.99) / micros(b, 0.99);
    let peer = ErrorContext {
        name: peer.into(),
        figure: micros(&theirs, 0.99),
        ratio: Spread::of(pairs.iter().map(ratio)),
    };
    let notes = format!("p50, p99, p99.9 in µs: {} / {}; {notes}", all(&ours), all(&theirs));
    let (unit, ours) = ("µs, p99".into(), micros(&ours, 0.99));
    Ok(Row { scenario, unit, ours, peer: Some(peer), target: None, notes })
}
