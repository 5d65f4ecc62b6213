//! Stopped: one reader among many that does not read any more; what that makes the server keep, and what the others notice.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::time::timeout;

use super::{
    Ours,
    host::{Host, Setup},
    methods::Said,
    raw::{Client, frame},
};
use crate::{
    Outcome,
    recovery::within,
    report::{ErrorContext, Report, Row, Target},
    rounds::{Scale, Spread},
};

/// Posts at once.
const BURST: usize = 64;
/// So many that all buffers on the way to the reader are full, and the ring behind them.
const BURSTS: usize = 44;
/// Before that: so many that the ring is as full as it ever is.
const WARM_UP: usize = 16;
/// What the kernel keeps for a socket that is not read, at either end: else it takes megabytes before a server notices.
const KERNEL: u32 = 32 << 10;
const QUIET: Duration = Duration::from_millis(300);
const TOLD: &str = "the word that others are missing";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Ours,
    OursBrief,
    Queue,
    SocketIo,
    JsonRpc,
}

impl Server {
    const ALL: [Self; 5] = [Self::Ours, Self::OursBrief, Self::Queue, Self::SocketIo, Self::JsonRpc];

    const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursBrief => "ours, queue of 128",
            Self::Queue => "axum, a queue each",
            Self::SocketIo => "socketioxide",
            Self::JsonRpc => "jsonrpsee",
        }
    }

    const fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursBrief)
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Ours | Self::OursBrief => "/v1/websocket",
            Self::Queue => "/queue",
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket",
            Self::JsonRpc => "/jsonrpsee",
        }
    }

    /// Asks for what is going to be posted.
    async fn join(self, client: &mut Client) -> Outcome {
        match self {
            Self::Ours | Self::OursBrief => {
                let method = if self == Self::Ours { "news" } else { "brief" };
                return Ours { endpoint: "bench", method, inputs: &[] }.open(client).await;
            }
            Self::Queue => {}
            Self::SocketIo => {
                client.next().await?;
                client.write(&frame("40")).await?;
                client.next().await?;
            }
            Self::JsonRpc => {
                let ask = r#"{"jsonrpc":"2.0","id":1,"method":"subscribe_news","params":[]}"#;
                client.write(&frame(ask)).await?;
                let answer = client.next().await?;
                if !answer.contains("result") {
                    return Err(answer.into());
                }
            }
        }
        Ok(())
    }

    async fn post(self, host: &Host, said: &Said) -> Outcome {
        match self {
            Self::Ours | Self::OursBrief => host.post(said, BURST).await,
            Self::Queue => host.send(&super::value("news", None, said), BURST).await,
            Self::SocketIo => {
                let (frameworks, said) = (host.frameworks()?, said.clone());
                let emitting = async move {
                    for _ in 0..BURST {
                        frameworks.emit(&said).await;
                    }
                };
                Ok(host.spawn(emitting).await?)
            }
            Self::JsonRpc => {
                let (frameworks, said) = (host.frameworks()?, said.clone());
                host.spawn(async move { (0..BURST).try_for_each(|_| frameworks.notify(&said)) }).await?
            }
        }
    }
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let sockets = if scale.is_smoke() { 10 } else { 1000 };
    for server in Server::ALL {
        let name = server.name();
        let memory = format!("streams a reader that stopped among {sockets}, heap of the server, {name}");
        let others = format!("streams a reader that stopped among {sockets}, p99 of the others, {name}");
        if !report.starts(&memory) && !report.starts(&others) {
            continue;
        }
        // One takes seconds.
        let rounds = if scale.passes > 1 { scale.rounds } else { 1 };
        let rounds = within(&memory, stop(server, sockets, rounds)).await??;
        let grown = Spread::of(rounds.iter().map(|round| round.grown)).high;
        let ours = server.is_ours();
        let posts = BURSTS * BURST;
        let Seen { got, fate, .. } = &rounds[0];
        let notes = format!("{posts} posts; it then got {got} of them, and {fate}");
        let row = Row::alone(memory, "B, the most of all rounds", grown);
        report.add(row.target(ours.then_some(Target::OursAtMost(f64::from(512 << 10)))).notes(notes));
        report.add(beside(others, &rounds).target(ours.then_some(Target::AtMost(1.1))));
    }
    Ok(())
}

/// The others, beside the same sockets when all read.
fn beside(scenario: String, rounds: &[Seen]) -> Row {
    let median = |of: fn(&Seen) -> f64| Spread::of(rounds.iter().map(of)).median;
    Row {
        scenario,
        unit: "µs, p99".into(),
        ours: median(|round| round.others),
        peer: Some(ErrorContext {
            name: "the same, all read".into(),
            figure: median(|round| round.all),
            ratio: Spread::of(rounds.iter().map(|round| round.others / round.all)),
        }),
        target: None,
        notes: format!("{BURST} posts at once"),
    }
}

struct Seen {
    /// Bytes.
    grown: f64,
    /// The 99th percentiles, in microseconds.
    all: f64,
    others: f64,
    /// Posts that the reader found when it read again, and what became of it.
    got: usize,
    fate: &'static str,
}

async fn stop(server: Server, sockets: usize, rounds: usize) -> Outcome<Vec<Seen>> {
    let host = Host::of(Setup { frameworks: true, send_buffer: Some(KERNEL as usize), ..Setup::default() })?;
    let said = Said { text: "x".repeat(60) };
    let mut clients = Vec::new();
    for _ in 0..sockets {
        let mut client = Client::connect(host.address, server.path()).await?;
        server.join(&mut client).await?;
        clients.push(client);
    }
    while server == Server::Queue && host.peers.len() < sockets {
        tokio::task::yield_now().await;
    }
    post_all(server, &host, &said, &mut clients, WARM_UP).await?;
    let mut seen = Vec::new();
    for round in 0..rounds {
        let mut all = None;
        if round % 2 == 0 {
            all = Some(post_all(server, &host, &said, &mut clients, BURSTS).await?);
        }
        let mut stopped = Client::connect_with_buffer(host.address, server.path(), KERNEL).await?;
        server.join(&mut stopped).await?;
        let before = host.held().await?;
        let others = post_all(server, &host, &said, &mut clients, BURSTS).await?;
        let grown = (host.held().await? - before) as f64;
        let (got, fate) = read_again(&mut stopped).await;
        if server.is_ours() && fate != TOLD {
            return Err("the reader that stopped was never behind".into());
        }
        drop(stopped);
        let all = match all {
            Some(all) => all,
            None => post_all(server, &host, &said, &mut clients, BURSTS).await?,
        };
        seen.push(Seen { grown, all, others, got, fate });
    }
    Ok(seen)
}

/// Posts to all, and waits for these to have everything. The 99th percentile of the time until one has a burst.
async fn post_all(
    server: Server,
    host: &Host,
    said: &Said,
    clients: &mut [Client],
    bursts: usize,
) -> Outcome<f64> {
    let mut took = Histogram::<u64>::new(3)?;
    for _ in 0..bursts {
        let began = Instant::now();
        let reading = clients.iter_mut().map(async |client| {
            client.skip(BURST).await?;
            Outcome::Ok(began.elapsed())
        });
        let (posted, arrived) = tokio::join!(server.post(host, said), try_join_all(reading));
        posted?;
        for elapsed in arrived? {
            took.record(u64::try_from(elapsed.as_nanos())?)?;
        }
    }
    Ok(took.value_at_quantile(0.99) as f64 / 1000.0)
}

/// The posts that a reader finds when it reads again, and what becomes of it.
async fn read_again(stopped: &mut Client) -> (usize, &'static str) {
    let (mut got, mut fate) = (0, "nothing more");
    while let Ok(frame) = timeout(QUIET, stopped.next()).await {
        let Ok(frame) = frame else { return (got, "the end of its connection") };
        if frame.contains("BrokerGap") {
            fate = TOLD;
        }
        got += usize::from(frame.contains("xxx"));
    }
    (got, fate)
}
