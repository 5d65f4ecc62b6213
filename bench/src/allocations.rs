//! Allocations: what a message costs the heap on its way through a server and back, and what a client keeps for each
//! channel. Counted by thread, so everything here runs on one; RabbitMQ's client has a thread of its own, and is left out.

use std::{sync::Arc, thread};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Outcome,
    report::{ErrorContext, Report, Row, Target},
    rounds::{Scale, Spread},
    servers::started,
    wire::{Ours, Wire, nats, redis, throughput},
};

const CALLERS: usize = 64;

pub(crate) fn run(scale: Scale, report: &mut Report) -> Outcome {
    for backend in ["redis", "nats"] {
        let name = format!("{backend} allocations for each message");
        if report.starts(&name)
            && let Some((ours, raw)) = on_one_thread(move |runtime| per_message(runtime, backend))?
        {
            let notes = format!("{CALLERS} callers, posted and delivered");
            report.add(row(name, "", ours, "the raw client", raw).notes(notes));
        }
    }
    let channels = scale.of(100_000, 100);
    let name = format!("nats bytes for each of {channels} channels, client and all");
    if report.starts(&name)
        && let Some((ours, raw)) = on_one_thread(move |runtime| beside_raw_nats(runtime, channels))?
    {
        report.add(row(name, "B", ours, "raw async-nats", raw).target(Target::OursAtMost(1024.0)));
    }
    // The raw client keeps nothing for a channel: whoever uses it looks up by name what a notification is for.
    let channels = scale.of(10_000, 100);
    let name = format!("postgres bytes for each of {channels} channels, client and all");
    if report.starts(&name)
        && let Some(ours) = on_one_thread(move |runtime| of_postgres(runtime, channels))?
    {
        report.add(Row::alone(name, "B", ours).target(Target::OursAtMost(1024.0)));
    }
    Ok(())
}

fn row(scenario: String, unit: &'static str, ours: f64, name: &'static str, figure: f64) -> Row {
    let ratio = Spread::of([ours / figure].into_iter());
    let peer = Some(ErrorContext { name: name.into(), figure, ratio });
    Row { scenario, unit: unit.into(), ours, peer, target: None, notes: String::new() }
}

pub(crate) fn on_one_thread<T: Send + 'static>(
    work: impl FnOnce(&Runtime) -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let run = move || work(&Builder::new_current_thread().enable_all().build()?);
    thread::spawn(run).join().map_err(|_| "a measurement panicked")?
}

/// What was allocated while that ran.
fn while_running(runtime: &Runtime, work: impl Future<Output = Outcome>) -> Outcome<AllocationInfo> {
    let mut outcome = Ok(());
    let info = measure(|| outcome = runtime.block_on(work));
    outcome.map(|()| info)
}

fn per_message(runtime: &Runtime, backend: &str) -> Outcome<Option<(f64, f64)>> {
    let Some(server) = runtime.block_on(started(backend, &[]))? else { return Ok(None) };
    let (url, plain) = (server.url(), server.url());
    let plain = plain.split('?').next().unwrap_or_default();
    let ours = per_message_of(runtime, &Arc::new(runtime.block_on(Ours::open(&url, 1))?))?;
    let raw = match backend {
        "redis" => per_message_of(runtime, &Arc::new(runtime.block_on(redis::Raw::open(plain, 1))?))?,
        _ => per_message_of(runtime, &Arc::new(runtime.block_on(nats::Raw::open(plain, 1))?))?,
    };
    runtime.block_on(async { drop(server) });
    Ok(Some((ours, raw)))
}

fn per_message_of<W: Wire>(runtime: &Runtime, wire: &Arc<W>) -> Outcome<f64> {
    const POSTS: usize = 100 * CALLERS;
    let payload = Bytes::from_static(&[b'x'; 64]);
    let round =
        || while_running(runtime, async { throughput(wire, &payload, CALLERS, POSTS).await.map(drop) });
    round()?; // everything has grown to its size
    Ok(round()?.count_total as f64 / POSTS as f64)
}

fn beside_raw_nats(runtime: &Runtime, channels: usize) -> Outcome<Option<(f64, f64)>> {
    let Some(server) = runtime.block_on(started("nats", &[]))? else { return Ok(None) };
    let url = server.url();
    let ours = per_channel(runtime, &url, channels)?;
    let plain = url.split('?').next().unwrap_or_default();
    let (names, mut kept) = (names(channels), None);
    let raw = while_running(runtime, async {
        let client = async_nats::connect(plain).await?;
        let mut open = Vec::with_capacity(names.len());
        for name in &names {
            open.push(client.subscribe(name.clone()).await?);
        }
        client.flush().await?;
        kept = Some((client, open));
        Ok(())
    })?;
    runtime.block_on(async { drop((kept, server)) });
    Ok(Some((ours, raw.bytes_current as f64 / channels as f64)))
}

fn of_postgres(runtime: &Runtime, channels: usize) -> Outcome<Option<f64>> {
    let Some(server) = runtime.block_on(started("postgres", &[]))? else { return Ok(None) };
    let ours = per_channel(runtime, &server.url(), channels)?;
    runtime.block_on(async { drop(server) });
    Ok(Some(ours))
}

fn names(channels: usize) -> Vec<String> {
    (0..channels).map(|number| format!("channel.{number}")).collect()
}

/// What a node of ours keeps for each of so many channels.
fn per_channel(runtime: &Runtime, url: &str, channels: usize) -> Outcome<f64> {
    let (names, mut kept) = (names(channels), None);
    let ours = while_running(runtime, async {
        let node = broker::connect(url).await?;
        let open = try_join_all(names.iter().map(|name| node.subscribe(name))).await?;
        kept = Some((node, open));
        Ok(())
    })?;
    runtime.block_on(async { drop(kept) });
    Ok(ours.bytes_current as f64 / channels as f64)
}
