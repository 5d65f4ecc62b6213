//! Channels: a million of them in use, and channels that come and go; beside a table of broadcast channels.

use std::{collections::HashMap, hint::black_box, sync::RwLock};

use broker::{Broker, Scope, Subscription};
use bytes::Bytes;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::{Round, Scale, alternate},
};

/// What anybody would write who has broadcast channels and needs names for them.
type Table = RwLock<HashMap<String, Sender<Bytes>>>;

fn payload() -> Bytes {
    Bytes::from_static(&[b'x'; 64])
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let many = scale.of(1_000_000, 1000);
    let name = format!("local post to each of {many} channels");
    if report.starts(&name) {
        let names: Vec<String> = (0..many).map(|number| format!("channel.{number}")).collect();
        let pairs = in_use(scale, &names).await?;
        // One message at a time lies in each, so the smallest there is will do for the peer.
        let row = Row::rates(name, "deliveries/s", "a table of broadcast channels of 1", &pairs);
        report.add(row.target(Target::AtLeast(1.0)));
    }
    for capacity in [1, 1024] {
        let name = format!("local subscribe and drop, peer's capacity {capacity}");
        if report.starts(&name) {
            let count = scale.of(1_000_000 / capacity.min(10), 1000);
            let pairs = churn(scale, count, capacity).await?;
            let row = Row::rates(name, "times/s", "a table of broadcast channels", &pairs);
            report.add(row.target((capacity == 1).then_some(Target::AtLeast(1.0))));
        }
    }
    Ok(())
}

/// Every channel has one subscriber: posts one message to each, then reads each.
async fn in_use(scale: Scale, names: &[String]) -> Outcome<Vec<(Round, Round)>> {
    let (broker, table) = (Broker::local(), Table::default());
    let (mut ours, mut theirs) = (Vec::with_capacity(names.len()), Vec::with_capacity(names.len()));
    for name in names {
        ours.push(broker.subscribe(name).await?);
        theirs.push(join(&table, name, 1)?);
    }
    alternate(
        scale,
        async || Round::time(names.len(), all_of_ours(&broker, names, &mut ours)).await,
        async || Round::time(names.len(), all_of_theirs(&table, names, &mut theirs)).await,
    )
    .await
}

async fn all_of_ours(broker: &Broker, names: &[String], all: &mut [Subscription]) -> Outcome {
    for name in names {
        broker.publish(name, payload(), Scope::Local).await?;
    }
    for subscription in all {
        black_box(subscription.next().await.ok_or("a subscription has ended")?);
    }
    Ok(())
}

async fn all_of_theirs(table: &Table, names: &[String], all: &mut [Receiver<Bytes>]) -> Outcome {
    for name in names {
        let table = table.read().map_err(|_| "poisoned")?;
        table.get(name).ok_or("no such channel")?.send(payload()).map_err(|_| "nobody subscribes")?;
    }
    for receiver in all {
        black_box(receiver.recv().await?);
    }
    Ok(())
}

fn join(table: &Table, name: &str, capacity: usize) -> Outcome<Receiver<Bytes>> {
    let mut table = table.write().map_err(|_| "poisoned")?;
    let sender = table.entry(name.to_owned()).or_insert_with(|| Sender::new(capacity));
    Ok(sender.subscribe())
}

/// One after the other, each on a channel of its own that is gone afterwards.
async fn churn(scale: Scale, count: usize, capacity: usize) -> Outcome<Vec<(Round, Round)>> {
    let (broker, table) = (Broker::local(), Table::default());
    let names: Vec<String> = (0..1000).map(|number| format!("channel.{number}")).collect();
    let ours = async || {
        let work = async {
            for name in names.iter().cycle().take(count) {
                drop(broker.subscribe(name).await?);
            }
            Ok(())
        };
        Round::time(count, work).await
    };
    let theirs = async || {
        let work = async {
            for name in names.iter().cycle().take(count) {
                let receiver: broadcast::Receiver<Bytes> = join(&table, name, capacity)?;
                drop(receiver);
                table.write().map_err(|_| "poisoned")?.remove(name);
            }
            Ok(())
        };
        Round::time(count, work).await
    };
    alternate(scale, ours, theirs).await
}
