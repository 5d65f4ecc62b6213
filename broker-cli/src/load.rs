//! `broker bench`: a short load on a backend, and how long its messages took.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use broker::{Broker, Event, Options, Reach, Scope, Subscription};
use broker_core::driver::random;
use bytes::{BufMut, Bytes, BytesMut};
use clap::{Args, value_parser};
use hdrhistogram::Histogram;
use tokio::{task::JoinSet, time::timeout};

use crate::{Console, Outcome, hidden::Hidden};

/// Put load on a backend for a few seconds, and draw the latencies
///
/// One node publishes and another receives. On a server in use this affects its other users.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// The backend, as in redis://localhost
    url: Hidden,
    /// Duration in seconds
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Number of concurrent callers, each waiting for its post to be accepted
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..=100_000))]
    callers: u64,
    /// Size of a payload in bytes
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(8..=900_000))]
    size: u64,
}

/// What the receiving node has counted.
struct Received {
    took: Histogram<u64>,
    missing: u64,
}

impl Bench {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let mut options = Options::default();
        // What is under way at most, so that the reader loses nothing by itself.
        options.queue_capacity = 1 << 16;
        let poster = broker::connect_with(&self.url, options.clone()).await?;
        // Another node, unless no other node can receive from this one.
        let subscriber = match poster.capabilities() {
            Some(capabilities) if capabilities.reach == Reach::Cluster => {
                broker::connect_with(&self.url, options).await?
            }
            _ => poster.clone(),
        };
        let channel = format!("bench.{:016x}", random());
        let subscription = subscriber.subscribe(&channel).await?;
        let began = Instant::now();
        let reading = tokio::spawn(read(subscription, began));
        let (posted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut callers = JoinSet::new();
        for _ in 0..self.callers {
            callers.spawn(post(
                poster.clone(),
                channel.clone(),
                self.size as usize,
                began,
                Arc::clone(&posted),
                Arc::clone(&stop),
            ));
        }
        let mut before = 0;
        for second in 1..=self.seconds {
            tokio::time::sleep_until((began + Duration::from_secs(second)).into()).await;
            let now = posted.load(Relaxed);
            console.note(format!("{second:>4} s  {:>9} messages/s", now - before)).await;
            before = now;
        }
        stop.store(true, Relaxed);
        while let Some(outcome) = callers.join_next().await {
            outcome??;
        }
        let rate = posted.load(Relaxed) as f64 / began.elapsed().as_secs_f64();
        // What was posted has come back when the node that receives is drained; then its stream ends.
        subscriber.drain().await;
        poster.close().await;
        let received = timeout(Duration::from_secs(60), reading)
            .await
            .map_err(|_| "the reader did not end within 60 s")???;
        console.say(format!("{rate:.0} messages/s of {} bytes, {} callers", self.size, self.callers)).await?;
        if received.missing > 0 {
            console.say(format!("{} messages were lost and reported as missing", received.missing)).await?;
        }
        for line in drawn(&received.took) {
            console.say(line).await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn post(
    poster: Broker,
    channel: String,
    size: usize,
    began: Instant,
    posted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> broker::Result<()> {
    while !stop.load(Relaxed) {
        let mut payload = BytesMut::zeroed(size);
        (&mut payload[..]).put_u64(began.elapsed().as_nanos() as u64);
        poster.publish(&channel, Bytes::from(payload), Scope::Global).await?;
        posted.fetch_add(1, Relaxed);
        // On a backend that never makes one wait, the others have their turn all the same.
        tokio::task::consume_budget().await;
    }
    Ok(())
}

async fn read(mut subscription: Subscription, began: Instant) -> Outcome<Received> {
    let mut received = Received { took: Histogram::new(3)?, missing: 0 };
    while let Some(event) = subscription.next().await {
        match event {
            Event::Message(message) => {
                let payload = message.payload()?;
                let Some(posted) = payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else {
                    continue;
                };
                received.took.record((began.elapsed().as_nanos() as u64).saturating_sub(posted).max(1))?;
            }
            Event::Gap(gap) => received.missing += gap.missed.unwrap_or(0),
            _ => {}
        }
    }
    Ok(received)
}

/// From post to receipt: the quantiles, and a bar for each power of two.
fn drawn(took: &Histogram<u64>) -> Vec<String> {
    const WIDE: f64 = 50.0;
    if took.is_empty() {
        return vec!["nothing was received".to_owned()];
    }
    let micros = |nanos: u64| format!("{:.0} µs", nanos as f64 / 1e3);
    let at = |quantile| micros(took.value_at_quantile(quantile));
    let mut lines = vec![format!(
        "from post to receipt: {} median, {} p90, {} p99, {} p99.9, {} longest",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        micros(took.max())
    )];
    let buckets: Vec<(u64, u64)> = took
        .iter_log(1000, 2.0)
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .skip_while(|(_, count)| *count == 0)
        .collect();
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(1);
    for (up_to, count) in buckets {
        let bar = "█".repeat((count as f64 / most as f64 * WIDE).ceil() as usize);
        lines.push(format!("{:>12}  {bar:<50}  {count}", format!("≤ {}", micros(up_to + 1))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_in_one_bar() {
        let mut took = Histogram::new(3).expect("a histogram");
        for nanos in [900, 1500, 1_600, 7_000_000] {
            took.record(nanos).expect("in range");
        }
        let lines = drawn(&took);
        let all: u64 =
            lines[1..].iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
        assert_eq!(all, 4, "{lines:#?}");
        assert_eq!(drawn(&Histogram::new(3).expect("a histogram")), ["nothing was received"]);
    }
}
