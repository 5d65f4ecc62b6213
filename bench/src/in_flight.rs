//! In flight: one caller that does not wait for each outcome, beside 256 callers that do. Both are ours.

use std::{collections::VecDeque, sync::Arc};

use broker::{ChannelHandle, PublishFuture, Scope};
use bytes::Bytes;

use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::{Round, Scale, alternate},
    servers::started,
    wire::{Ours, Wire, slow, throughput},
};

const CALLERS: usize = 256;

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    for backend in ["memory", "redis", "nats", "rabbitmq", "postgres"] {
        let name = format!("{backend} 64 B, one caller with {CALLERS} in flight");
        if !report.starts(&name) {
            continue;
        }
        let server = if backend == "memory" { None } else { started(backend, &[]).await? };
        let url = match (&server, backend) {
            (Some(server), _) => server.url().clone(),
            (None, "memory") => "memory://bench".to_owned(),
            (None, _) => continue,
        };
        let ours = Arc::new(Ours::open(&url, 1).await?);
        let handle = ours.poster.channel::<Bytes>(&ours.channels[0])?;
        let slow = slow(backend);
        let count = scale.of(200_000 / slow, CALLERS);
        let payload = Bytes::from_static(&[b'x'; 64]);
        let pairs = alternate(
            scale,
            async || in_flight(&ours, &handle, &payload, count).await,
            async || throughput(&ours, &payload, CALLERS, count).await,
        );
        let peer = "256 callers of ours";
        report.add(Row::rates(name, "messages/s", peer, &pairs.await?).target(Target::AtLeast(0.9)));
    }
    Ok(())
}

/// Done when all are posted, and all have arrived.
async fn in_flight(
    ours: &Ours,
    handle: &ChannelHandle<Bytes>,
    payload: &Bytes,
    count: usize,
) -> Outcome<Round> {
    ours.received().want(count as u64);
    // A task of its own, as each of the callers is.
    let (handle, payload) = (handle.clone(), payload.clone());
    let posting = tokio::spawn(async move {
        let mut sent = VecDeque::<PublishFuture>::with_capacity(CALLERS);
        for _ in 0..count {
            if sent.len() == CALLERS
                && let Some(first) = sent.pop_front()
            {
                first.await?;
            }
            sent.push_back(handle.send_post(payload.clone(), Scope::Global).await?);
        }
        for sent in sent {
            sent.await?;
        }
        Outcome::Ok(())
    });
    let work = async {
        posting.await??;
        ours.received().reach().await
    };
    Round::time(count, work).await
}
