//! Local: posts that stay in the process, and posts over the in-process bus.

use std::sync::Arc;

use broker::{Broker, Event, Received, Scope, Subscription};
use futures_util::future::try_join_all;
use tokio::{runtime::Runtime, sync::Notify};

use crate::{MESSAGES, Outcome, TICK, Tick, measure, options, payload};

const CHANNEL: &str = "news";

pub(crate) fn by_name(runtime: &Runtime, readers: usize) -> Outcome {
    let (broker, mut readers) = runtime.block_on(subscribed("memory:", readers))?;
    measure(runtime, async || {
        for _ in 0..MESSAGES {
            broker.publish(CHANNEL, payload(), Scope::Local).await?;
            read(&mut readers).await?;
        }
        Ok(())
    })
}

pub(crate) fn by_handle(runtime: &Runtime, readers: usize) -> Outcome {
    let (broker, readers) = runtime.block_on(subscribed("memory:", readers))?;
    handled(runtime, &broker, readers)
}

/// There is room for fewer messages than are posted: it misses most of them.
pub(crate) fn beside_one_that_never_reads(runtime: &Runtime) -> Outcome {
    let (broker, mut readers) = runtime.block_on(subscribed("memory:", 11))?;
    let _stalled = readers.pop();
    handled(runtime, &broker, readers)
}

fn handled(runtime: &Runtime, broker: &Broker, mut readers: Vec<Subscription>) -> Outcome {
    let handle = broker.channel::<bytes::Bytes>(CHANNEL)?;
    measure(runtime, async || {
        for _ in 0..MESSAGES {
            handle.publish(payload(), Scope::Local).await?;
            read(&mut readers).await?;
        }
        Ok(())
    })
}

/// As many channels as messages.
pub(crate) fn names() -> Vec<String> {
    (0..MESSAGES).map(|number| format!("channel.{number}")).collect()
}

pub(crate) fn each_of_many(runtime: &Runtime) -> Outcome {
    let (broker, names) = (Broker::local(), names());
    let mut readers = runtime.block_on(try_join_all(names.iter().map(|name| broker.subscribe(name))))?;
    measure(runtime, async || {
        for name in &names {
            broker.publish(name, payload(), Scope::Local).await?;
        }
        read(&mut readers).await
    })
}

pub(crate) fn subscribe_and_drop(runtime: &Runtime) -> Outcome {
    let (broker, names) = (Broker::local(), names());
    measure(runtime, async || {
        for name in &names {
            drop(broker.subscribe(name).await?);
        }
        Ok(())
    })
}

pub(crate) fn typed(runtime: &Runtime) -> Outcome {
    let broker = runtime.block_on(broker::connect_with("memory:", options()))?;
    let session = broker.session();
    let mut stream = runtime.block_on(session.create_stream::<Tick>(CHANNEL))?;
    let handle = session.channel::<Tick>(CHANNEL)?;
    measure(runtime, async || {
        for _ in 0..MESSAGES {
            handle.post_message(TICK, Scope::Local).await?;
            stream.next().await.ok_or("the stream has ended")??;
        }
        Ok(())
    })
}

/// So many posts at a time, until the last one has led to a call, which runs in the listener's task.
pub(crate) fn listened(runtime: &Runtime, at_once: usize) -> Outcome {
    let broker = runtime.block_on(broker::connect_with("memory:", options()))?;
    let (session, called) = (broker.session(), Arc::new(Notify::new()));
    let (calls, mut count) = (Arc::clone(&called), 0);
    runtime.block_on(session.add_listener(CHANNEL, move |_: Received<Tick>| {
        count += 1;
        let last = (count % at_once == 0).then(|| Arc::clone(&calls));
        async move { last.iter().for_each(|calls| calls.notify_one()) }
    }))?;
    let handle = session.channel::<Tick>(CHANNEL)?;
    measure(runtime, async || {
        for _ in 0..MESSAGES / at_once {
            for _ in 0..at_once {
                handle.post_message(TICK, Scope::Local).await?;
            }
            called.notified().await;
        }
        Ok(())
    })
}

/// One node posts, and another one on the same bus hears.
pub(crate) fn global(runtime: &Runtime, at_once: usize) -> Outcome {
    const BUS: &str = "memory://instructions";
    let (_node, mut readers) = runtime.block_on(subscribed(BUS, 1))?;
    let poster = runtime.block_on(broker::connect_with(BUS, options()))?;
    measure(runtime, async || {
        for _ in 0..MESSAGES / at_once {
            let posts = (0..at_once).map(|_| poster.publish(CHANNEL, payload(), Scope::Global));
            try_join_all(posts).await?;
            for _ in 0..at_once {
                read(&mut readers).await?;
            }
        }
        Ok(())
    })
}

/// As many tasks, each of which posts one after another.
pub(crate) fn callers(runtime: &Runtime, callers: usize) -> Outcome {
    const BUS: &str = "memory://instructions";
    let (_node, mut readers) = runtime.block_on(subscribed(BUS, 1))?;
    let poster = runtime.block_on(broker::connect_with(BUS, options()))?;
    measure(runtime, async || {
        let posting = (0..callers).map(|_| tokio::spawn(post(poster.clone(), MESSAGES / callers)));
        let posting: Vec<_> = posting.collect();
        for _ in 0..MESSAGES {
            read(&mut readers).await?;
        }
        try_join_all(posting).await?.into_iter().collect::<Result<(), _>>()?;
        Ok(())
    })
}

async fn post(poster: Broker, count: usize) -> Result<(), broker::Error> {
    for _ in 0..count {
        poster.publish(CHANNEL, payload(), Scope::Global).await?;
    }
    Ok(())
}

async fn subscribed(url: &str, readers: usize) -> Outcome<(Broker, Vec<Subscription>)> {
    let broker = broker::connect_with(url, options()).await?;
    let readers = try_join_all((0..readers).map(|_| broker.subscribe(CHANNEL))).await?;
    Ok((broker, readers))
}

/// One message for each.
pub(crate) async fn read(readers: &mut [Subscription]) -> Outcome {
    for reader in readers {
        match reader.next().await {
            Some(Event::Message(_)) => {}
            other => return Err(format!("instead of a message: {other:?}").into()),
        }
    }
    Ok(())
}
