//! Revocation: from a revocation on one server to the last frame of the call, on the wire of a client of another.

use std::time::Instant;

use broker::{Revocation, RevocationOutcome, Scope};
use hdrhistogram::Histogram;

use super::{
    Ours,
    host::{Host, Setup},
    id,
    methods::{Said, USER},
    raw::Client,
};
use crate::{
    Outcome,
    recovery::within,
    report::{Report, Row, Target},
    rounds::Scale,
    servers::started,
};

/// Calls of the same socket that are not revoked.
const OTHERS: usize = 2;

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for backend in ["memory", "redis", "nats", "rabbitmq", "postgres"] {
        let name = format!("{backend} streams, revoked on another server to the last frame");
        if !report.starts(&name) {
            continue;
        }
        let Some(server) = started(backend, &[]).await? else { continue };
        let times = scale.of(2000, 1);
        let seen = within(&name, revocations(&server.url(), times)).await??;
        let micros = |took: &Histogram<u64>, quantile| took.value_at_quantile(quantile) as f64 / 1000.0;
        let notes = format!(
            "p50 {:.0}; {times} revocations, {:?}; a value the same way: p50 {:.0}, p99 {:.0}; {OTHERS} other calls of \
             the socket: nothing missing",
            micros(&seen.revoked, 0.5),
            seen.outcome,
            micros(&seen.value, 0.5),
            micros(&seen.value, 0.99)
        );
        let row = Row::alone(name, "µs, p99", micros(&seen.revoked, 0.99));
        report.add(row.target(Target::OursAtMost(5000.0)).notes(notes));
    }
    Ok(())
}

struct Seen {
    revoked: Histogram<u64>,
    value: Histogram<u64>,
    outcome: RevocationOutcome,
}

async fn revocations(url: &str, times: usize) -> Outcome<Seen> {
    let setup = || Setup { url: url.to_owned(), ..Setup::default() };
    let (here, there) = (Host::of(setup())?, Host::of(setup())?);
    let mut client = Client::connect(there.address, "/v1/websocket").await?;
    for number in 0..OTHERS {
        let other = Ours { endpoint: "private", method: "news", inputs: &[] };
        other.open_for(&mut client, number, Some(&format!("other-{number}"))).await?;
    }
    let (mut revoked, mut value) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    let mut outcome = RevocationOutcome::Local;
    for number in OTHERS..OTHERS + times {
        let key = format!("key-{number}");
        let held = Ours { endpoint: "private", method: "held", inputs: &["input"] };
        held.open_for(&mut client, number, Some(&key)).await?;
        let broker = here.broker.clone();
        let revoking = here.spawn(async move {
            let began = Instant::now();
            (began, broker.revoke(Revocation::auth_id(USER, key)).await)
        });
        let ended = last_frame(&mut client, &id(number)).await?;
        let (began, done) = revoking.await?;
        outcome = done?;
        revoked.record(u64::try_from(ended.saturating_duration_since(began).as_nanos())?)?;

        let (said, broker) = (Said { text: number.to_string() }, here.broker.clone());
        let posting = here.spawn(async move {
            let began = Instant::now();
            (began, broker.post_message("news", said, Scope::Global).await)
        });
        let arrived = next_values(&mut client, number).await?;
        let (began, done) = posting.await?;
        done?;
        value.record(u64::try_from(arrived.saturating_duration_since(began).as_nanos())?)?;
    }
    Ok(Seen { revoked, value, outcome })
}

/// When the call has closed its input, behind its own stream. Nothing else may arrive.
async fn last_frame(client: &mut Client, call: &str) -> Outcome<Instant> {
    for input in [false, true] {
        let frame = client.next().await?;
        let expected = frame.contains(r#""type":"cmsc""#)
            && frame.contains(call)
            && frame.contains(r#""cr":"error""#)
            && frame.contains(r#""p":"input""#) == input;
        if !expected {
            return Err(format!("instead of the end of a revoked call: {frame}").into());
        }
    }
    Ok(Instant::now())
}

/// When the next value has arrived at each other call. One that is missing is an error, and so is the end of a call.
async fn next_values(client: &mut Client, number: usize) -> Outcome<Instant> {
    let mut first = None;
    let mut left: Vec<String> = (0..OTHERS).map(id).collect();
    while !left.is_empty() {
        let frame = client.next().await?;
        first.get_or_insert_with(Instant::now);
        let call = left.iter().position(|call| frame.contains(call.as_str()));
        match call.filter(|_| frame.contains(&format!(r#""text":"{number}""#))) {
            Some(call) => drop(left.swap_remove(call)),
            None => return Err(format!("instead of value {number} of another call: {frame}").into()),
        }
    }
    Ok(first.unwrap_or_else(Instant::now))
}
