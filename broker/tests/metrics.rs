//! What is counted, as a recorder sees it.
#![cfg(all(feature = "metrics", feature = "memory"))]

use std::{collections::BTreeMap, time::Duration};

use broker::{Event, GapCause, Options, Scope, SubscribeOptions};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// Adds what has happened since the last look, by name and labels. Each look takes what it sees.
fn look(recorder: &Snapshotter, seen: &mut BTreeMap<String, f64>) {
    for (key, _, _, value) in recorder.snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(times) => times.len() as f64,
        };
        *seen.entry(format!("{} {}", key.name(), labels.join(" "))).or_default() += value;
    }
}

#[tokio::test]
async fn events_are_counted_without_channel_names() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    recorder.install().unwrap();
    let mut options = Options::default();
    options.queue_capacity = 4;
    options.heartbeat = Duration::from_millis(5);
    let broker = broker::connect_with("memory:", options).await.unwrap();
    let mut secret = broker.subscribe("secret-name").await.unwrap();
    for _ in 0..10 {
        broker.publish("secret-name", "x", Scope::Global).await.unwrap();
    }
    broker.publish("secret-name", "x", Scope::Local).await.unwrap();
    let Some(Event::Gap(gap)) = secret.next().await else { panic!("no gap") };
    assert_eq!(gap.missed, Some(7));
    for _ in 0..4 {
        assert!(matches!(secret.next().await, Some(Event::Message(_))));
    }
    // What a reader of the newest skips is no loss.
    let mut newest = broker
        .subscribe_with("secret-name", SubscribeOptions::new().latest_only().without_waiting())
        .await
        .unwrap();
    let Some(Event::Gap(live)) = newest.next().await else { panic!("no gap") };
    assert_eq!(live.cause, GapCause::Subscribed);
    for _ in 0..3 {
        broker.publish("secret-name", "x", Scope::Local).await.unwrap();
    }
    let Some(Event::Gap(skipped)) = newest.next().await else { panic!("no gap") };
    assert_eq!((skipped.missed, skipped.cause), (Some(2), GapCause::Conflated));
    let mut seen = BTreeMap::new();
    while seen.get("broker_probe_round_trip_seconds backend=memory").is_none_or(|times| *times < 2.0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        look(&snapshots, &mut seen);
    }
    for (name, value) in [
        ("broker_published_total backend=memory scope=global", 10.0),
        ("broker_published_total backend=memory scope=local", 4.0),
        ("broker_delivered_total backend=memory", 4.0),
        ("broker_gaps_total backend=memory cause=overflow", 1.0),
        ("broker_missed_total backend=memory cause=overflow", 7.0),
        ("broker_conflated_total backend=memory", 2.0),
        ("broker_gaps_total backend=memory cause=link_lost", 0.0),
        ("broker_gaps_total backend=memory cause=skipped", 0.0),
        ("broker_links_total backend=memory", 1.0),
        ("broker_link_failures_total backend=memory", 0.0),
        ("broker_connected backend=memory", 1.0),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name}: {seen:?}");
    }
    let is_loss =
        |key: &&String| key.starts_with("broker_gaps_total") || key.starts_with("broker_missed_total");
    let losses: f64 = seen.iter().filter(|(key, _)| is_loss(key)).map(|(_, count)| count).sum();
    assert_eq!(losses, 8.0, "one overflow of seven: {seen:?}");
    assert!(seen.keys().all(|key| !key.contains("secret")), "{seen:?}");
}
