//! The raw Redis client: one multiplexed connection that posts, one that receives; and the server's own benchmark.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::process::Command;

use super::{Ours, Received, Wire, names, throughput};
use crate::{
    Outcome,
    report::{ErrorContext, Report, Row, Target},
    rounds::{Scale, Spread, alternate},
};

pub(super) const SCENARIO: &str = "redis 64 B, 1024 callers, redis-benchmark";
const BENCHMARK: &str = "redis-benchmark";

pub(crate) struct Raw {
    publisher: MultiplexedConnection,
    _subscriber: MultiplexedConnection,
    channels: Vec<String>,
    received: Arc<Received>,
}

impl Wire for Raw {
    async fn open(url: &str, channels: usize) -> Outcome<Self> {
        let client = Client::open(format!("{url}?protocol=resp3"))?;
        let received = Received::new()?;
        let noting = Arc::clone(&received);
        let note = move |push: PushInfo| {
            if push.kind == PushKind::Message
                && let Some(Value::BulkString(payload)) = push.data.last()
            {
                noting.note(|| payload);
            }
            Ok::<_, Infallible>(())
        };
        // The client's default of half a second would fail a round on a machine that is busy.
        let settings = AsyncConnectionConfig::new().set_response_timeout(None);
        let publisher = client.get_multiplexed_async_connection_with_config(&settings).await?;
        let settings = settings.set_push_sender(note);
        let mut subscriber = client.get_multiplexed_async_connection_with_config(&settings).await?;
        let channels = names("raw ", channels);
        subscriber.subscribe(&channels).await?;
        Ok(Self { publisher, _subscriber: subscriber, channels, received })
    }

    async fn post(&self, caller: usize, payload: Bytes) -> Outcome {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&self.channels[caller % self.channels.len()]).arg(&*payload);
        Ok(command.query_async(&mut self.publisher.clone()).await?)
    }

    async fn flush(&self) -> Outcome {
        Ok(())
    }

    fn received(&self) -> &Received {
        &self.received
    }
}

/// 1,024 callers beside `redis-benchmark -P 256`, which nobody receives.
pub(super) async fn beside_its_benchmark(scale: Scale, report: &mut Report, url: &str) -> Outcome {
    let name = SCENARIO;
    if !report.wants(name) {
        return Ok(());
    }
    if let Err(error) = Command::new(BENCHMARK).arg("--version").output().await {
        eprintln!("{name} is left out: {BENCHMARK}: {error}; Debian's redis-tools has it");
        return Ok(());
    }
    let ours = Arc::new(Ours::open(url, 1).await?);
    let plain = url.split('?').next().unwrap_or_default();
    let port = plain.trim_end_matches('/').rsplit(':').next().unwrap_or_default();
    let count = scale.of(400_000, 1024);
    let payload = Bytes::from(vec![b'x'; 64]);
    let pairs = alternate(
        scale,
        async || Ok(throughput(&ours, &payload, 1024, count).await?.rate()),
        async || benchmark(port, count).await,
    );
    let pairs = pairs.await?;
    let median = |of: fn(&(f64, f64)) -> f64| Spread::of(pairs.iter().map(of)).median;
    report.add(Row {
        scenario: name.to_owned(),
        unit: "messages/s".into(),
        ours: median(|(ours, _)| *ours),
        peer: Some(ErrorContext {
            name: "redis-benchmark -P 256".into(),
            figure: median(|(_, theirs)| *theirs),
            ratio: Spread::of(pairs.iter().map(|(ours, theirs)| ours / theirs)),
        }),
        target: Some(Target::AtLeast(0.8)),
        notes: "the peer's messages have no subscriber".to_owned(),
    });
    Ok(())
}

/// Its own figure, in messages a second.
async fn benchmark(port: &str, count: usize) -> Outcome<f64> {
    let count = count.to_string();
    let payload = "x".repeat(64);
    let args = ["-p", port, "-P", "256", "-n", &count, "--csv", "PUBLISH", "nobody", &payload];
    let output = Command::new(BENCHMARK).args(args).kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<&str> = text.lines().last().unwrap_or_default().split("\",\"").collect();
    let rate = fields.get(1).and_then(|rate| rate.trim_matches('"').parse().ok());
    rate.ok_or_else(|| {
        format!("redis-benchmark says: {text}{}", String::from_utf8_lossy(&output.stderr)).into()
    })
}
