//! Footprint: the bytes that an idle subscription and listener hold, and what a delivery allocates.
//!
//! Counted by thread, so everything here runs on one.

use allocation_counter::{AllocationInfo, measure};
use broker::{Broker, Scope};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::{runtime::Runtime, task::coop::unconstrained};

use crate::{
    Outcome,
    allocations::on_one_thread,
    local::Tick,
    report::{Report, Row, Target},
    rounds::Scale,
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Outcome {
    let many = scale.of(1_000_000, 1000);
    let name = "bytes of an idle subscription, own channel";
    if report.starts(name) {
        let bytes = on_one_thread(move |runtime| own_channel(runtime, many))?;
        report.add(row(name, bytes, 360.0, format!("{many} of them")));
    }
    let name = "bytes of one more on the same channel";
    if report.starts(name) {
        let some = many / 10;
        let bytes = on_one_thread(move |runtime| same_channel(runtime, some))?;
        report.add(row(name, bytes, 120.0, format!("{some} of them")));
    }
    let name = "bytes of a channel in a set";
    if report.starts(name) {
        let some = many / 100;
        let bytes = on_one_thread(move |runtime| in_a_set(runtime, some))?;
        report.add(row(name, bytes, 600.0, format!("{some} of them, the name of the channel among it")));
    }
    let name = "bytes of an idle listener, own channel";
    if report.starts(name) {
        let some = many / 10;
        let bytes = on_one_thread(move |runtime| listeners(runtime, some))?;
        report.add(row(name, bytes, 650.0, format!("{some} of them, the name of the channel among it")));
    }
    let name = "bytes of an idle session";
    if report.starts(name) {
        let some = many / 10;
        let bytes = on_one_thread(move |runtime| sessions(runtime, some))?;
        report.add(row(name, bytes, 400.0, format!("{some} of them, anonymous, with nothing open")));
    }
    for readers in [1, 10, 100, 1000] {
        let name = format!("allocations of a local post to {readers}");
        if report.starts(&name) {
            let count = on_one_thread(move |runtime| allocations(runtime, readers))?;
            let notes = format!("{:.4} for each delivery beyond the message", (count - 1.0) / readers as f64);
            report.add(Row { unit: "".into(), ..row(&name, count, 1.0, notes) });
        }
    }
    Ok(())
}

fn row(scenario: &str, ours: f64, most: f64, notes: String) -> Row {
    Row {
        scenario: scenario.to_owned(),
        unit: "B".into(),
        ours,
        peer: None,
        target: Some(Target::OursAtMost(most)),
        notes,
    }
}

/// What is still there of what was allocated, by count.
fn held(info: &AllocationInfo, count: usize) -> f64 {
    info.bytes_current as f64 / count as f64
}

fn own_channel(runtime: &Runtime, count: usize) -> Outcome<f64> {
    let broker = Broker::local();
    let names: Vec<String> = (0..count).map(|number| format!("channel.{number}")).collect();
    let mut open = None;
    let mut outcome = Ok(());
    let info = measure(|| {
        outcome = runtime.block_on(async {
            let mut all = Vec::with_capacity(count);
            for name in &names {
                all.push(broker.subscribe(name).await?);
            }
            open = Some(all);
            Ok(())
        });
    });
    outcome.map_err(|error: broker::Error| error)?;
    Ok(held(&info, count))
}

fn in_a_set(runtime: &Runtime, count: usize) -> Outcome<f64> {
    let broker = Broker::local();
    let session = broker.session();
    let names: Vec<String> = (0..count).map(|number| format!("channel.{number}")).collect();
    let mut set = session.channel_set();
    let mut outcome = Ok(());
    let info = measure(|| outcome = runtime.block_on(set.join_all(&names)));
    outcome?;
    Ok(held(&info, count))
}

fn same_channel(runtime: &Runtime, count: usize) -> Outcome<f64> {
    let broker = Broker::local();
    let mut open = Vec::with_capacity(count + 64);
    let mut outcome = Ok(());
    let mut join = |count: usize| {
        runtime.block_on(async {
            for _ in 0..count {
                open.push(broker.subscribe("news").await?);
            }
            Ok(())
        })
    };
    join(64).map_err(|error: broker::Error| error)?;
    let info = measure(|| outcome = join(count));
    outcome?;
    // The subscription itself is where its owner keeps it.
    Ok(held(&info, count) + size_of::<broker::Subscription>() as f64)
}

fn listeners(runtime: &Runtime, count: usize) -> Outcome<f64> {
    let session = Broker::local().session();
    let names: Vec<String> = (0..count).map(|number| format!("channel.{number}")).collect();
    let mut outcome = Ok(());
    let info = measure(|| {
        outcome = runtime.block_on(async {
            for name in &names {
                session.add_listener(name, async |_: broker::Received<Tick>| {}).await?;
            }
            // Each has begun, and waits.
            for _ in 0..count / 16 {
                tokio::task::yield_now().await;
            }
            Ok(())
        });
    });
    outcome.map_err(|error: broker::Error| error)?;
    Ok(held(&info, count))
}

fn sessions(runtime: &Runtime, count: usize) -> Outcome<f64> {
    let _entered = runtime.enter();
    let broker = Broker::local();
    let mut open = Vec::new();
    let info = measure(|| {
        open.reserve_exact(count);
        open.extend((0..count).map(|_| broker.session()));
    });
    Ok(held(&info, count))
}

/// Of one post that all of them read, in a broker that has grown to its size.
fn allocations(runtime: &Runtime, readers: usize) -> Outcome<f64> {
    const POSTS: usize = 1000;
    runtime.block_on(async {
        let broker = Broker::local();
        let mut open = Vec::with_capacity(readers);
        for _ in 0..readers {
            open.push(broker.subscribe("news").await?);
        }
        let mut outcome = Ok(Ok(()));
        let mut info = AllocationInfo::default();
        for _warm in 0..2 {
            info = measure(|| {
                // Nothing waits here, and the budget of a task would only make it seem to.
                let posting = unconstrained(async {
                    for _ in 0..POSTS {
                        broker.publish("news", Bytes::from_static(&[b'x'; 64]), Scope::Local).await?;
                        for subscription in &mut open {
                            subscription.next().await.ok_or("a subscription has ended")?;
                        }
                    }
                    Outcome::Ok(())
                });
                outcome = posting.now_or_never().ok_or("a message is not there at once");
            });
        }
        outcome??;
        Ok(info.count_total as f64 / POSTS as f64)
    })
}
