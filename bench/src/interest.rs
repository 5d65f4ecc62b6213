//! Interest: what a node pays for the cluster's traffic that it does not listen to. The node is a process of its own, so
//! that its CPU time is its own.

use std::{env, process::Stdio};

use broker::{Options, Scope};
use cpu_time::ProcessTime;
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, stdin},
    process::Command,
    task::JoinSet,
};

use crate::{
    Outcome,
    report::{ErrorContext, Report, Row},
    rounds::{Scale, Spread, alternate},
    servers::started,
    wire::slow,
};

/// The first argument of the process that is the node.
pub(crate) const LISTEN: &str = "listen-for-the-benchmark";
const BUSY: usize = 10_000;
const FEW: usize = 10;
const CALLERS: usize = 256;

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for backend in ["redis", "nats", "rabbitmq", "postgres"] {
        let busy = scale.of(BUSY, 100);
        let name = format!("{backend} CPU of a node that receives {FEW} of {busy} busy channels");
        if !report.starts(&name) {
            continue;
        }
        let Some(server) = started(backend, &[]).await? else { continue };
        let slow = slow(backend);
        let (url, posts) = (server.url(), scale.of(200_000 / slow, CALLERS));
        let pairs = alternate(
            scale,
            async || listened(&url, FEW, busy, posts).await,
            async || listened(&url, busy, busy, posts).await,
        );
        let pairs = pairs.await?;
        let median = |of: fn(&(f64, f64)) -> f64| Spread::of(pairs.iter().map(of)).median;
        let peer = ErrorContext {
            name: "ours, which receives all of them".into(),
            figure: median(|(_, all)| *all),
            ratio: Spread::of(pairs.iter().map(|(few, all)| few / all)),
        };
        let notes = format!("{posts} posts in all, a round");
        let ours = median(|(few, _)| *few);
        report.add(Row {
            scenario: name,
            unit: "ns a post".into(),
            ours,
            peer: Some(peer),
            target: None,
            notes,
        });
    }
    Ok(())
}

/// The CPU time of a node that receives some channels, for each post to one of all, in nanoseconds.
async fn listened(url: &str, subscribed: usize, busy: usize, posts: usize) -> Outcome<f64> {
    let mut node = Command::new(env::current_exe()?)
        .args([LISTEN, url, &subscribed.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (input, output) = (node.stdin.take().ok_or("no input")?, node.stdout.take().ok_or("no output")?);
    let mut lines = BufReader::new(output).lines();
    lines.next_line().await?.ok_or("the node has not begun")?;
    let poster = broker::connect(url).await?;
    let mut posting = JoinSet::new();
    for caller in 0..CALLERS {
        let poster = poster.clone();
        posting.spawn(async move {
            for post in 0..posts / CALLERS {
                let channel = format!("busy.{}", (post * CALLERS + caller) % busy);
                poster.publish(channel, "tick", Scope::Global).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(posted) = posting.join_next().await {
        posted??;
    }
    // Everything is at the server: the node receives it before its own drain is done.
    poster.close().await;
    drop(input);
    let used: f64 = lines.next_line().await?.ok_or("the node has ended early")?.parse()?;
    node.wait().await?;
    Ok(used / posts as f64)
}

/// The node: receives its channels until its input ends, and says how much CPU time that took.
pub(crate) async fn listen(url: &str, subscribed: usize) -> Outcome {
    let mut options = Options::default();
    options.queue_capacity = 1 << 16;
    let node = broker::connect_with(url, options).await?;
    let names: Vec<String> = (0..subscribed).map(|number| format!("busy.{number}")).collect();
    let mut reading = JoinSet::new();
    for mut channel in try_join_all(names.iter().map(|name| node.subscribe(name))).await? {
        reading.spawn(async move { while channel.next().await.is_some() {} });
    }
    let mut output = tokio::io::stdout();
    output.write_all(b"ready\n").await?;
    output.flush().await?;
    let before = ProcessTime::now();
    stdin().read_to_end(&mut Vec::new()).await?;
    // Everything that was posted before its poster was closed is in the queues after a round trip.
    node.drain().await;
    output.write_all(format!("{}\n", before.elapsed().as_nanos()).as_bytes()).await?;
    output.flush().await?;
    Ok(())
}
