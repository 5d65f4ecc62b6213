//! Opens: how long it takes until a call is open.

use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::{runtime::Builder, task::spawn_blocking};

use super::{
    Ours,
    grpc::{self, Grpc},
    host::Host,
    raw::Client,
};
use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::{Scale, alternate},
    wire::latency_row,
};

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let name = "streams open to answer, one at a time";
    if report.starts(name) {
        let took = by_hand(scale.of(20_000, 1)).await?;
        let micros = |quantile| took.value_at_quantile(quantile) as f64 / 1000.0;
        let row = Row::alone(name.to_owned(), "µs, p50", micros(0.5)).target(Target::OursAtMost(60.0));
        report.add(row.notes(format!("p99 {:.0}", micros(0.99))));
    }
    let name = "streams open to answer, by its own client";
    if report.starts(name) {
        // A thread for the clients, and one for each server.
        let pairs = spawn_blocking(move || {
            Builder::new_current_thread().enable_all().build()?.block_on(beside_tonic(scale))
        });
        let row = latency_row(name.to_owned(), "tonic, open of a stream, by its own client", &pairs.await??)?;
        report.add(row.target(None));
    }
    Ok(())
}

async fn by_hand(times: usize) -> Outcome<Histogram<u64>> {
    let host = Host::start()?;
    let mut client = Client::connect(host.address, "/v1/websocket").await?;
    let mut took = Histogram::new(3)?;
    for number in 0..times {
        let began = Instant::now();
        let ours = Ours { endpoint: "bench", method: "forever", inputs: &[] };
        ours.open_as(&mut client, number).await?;
        took.record(u64::try_from(began.elapsed().as_nanos())?)?;
        ours.cancel(&mut client, number).await?;
    }
    Ok(took)
}

async fn beside_tonic(scale: Scale) -> Outcome<Vec<(Histogram<u64>, Histogram<u64>)>> {
    let (host, tonic) = (Host::start()?, Grpc::start()?);
    let url = format!("ws://{}/v1/websocket", host.address);
    let client = broker_streams_client::Client::builder(&url).build()?;
    // Holds the socket open, as tonic's channel is.
    let _open = client.call("bench", "forever").open::<i64>().await?;
    let mut channel = tonic.connect().await?;
    let times = scale.of(10_000, 1);
    alternate(
        scale,
        async || {
            let mut took = Histogram::new(3)?;
            for _ in 0..times {
                let began = Instant::now();
                let call = client.call("bench", "forever").open::<i64>().await?;
                took.record(u64::try_from(began.elapsed().as_nanos())?)?;
                drop(call);
            }
            Ok(took)
        },
        async || {
            let mut took = Histogram::new(3)?;
            for _ in 0..times {
                let began = Instant::now();
                let stream = grpc::open(&mut channel).await?;
                took.record(u64::try_from(began.elapsed().as_nanos())?)?;
                drop(stream);
            }
            Ok(took)
        },
    )
    .await
}
