//! Readers: one stream over many channels, beside as many streams merged; the newest message only, beside a watch channel;
//! a small capacity, beside a broadcast channel of that.

use std::{hint::black_box, sync::Arc};

use broker::{Broker, ChannelSet, Event, GapCause, Scope, SetEvent, SubscribeOptions, Subscription};
use bytes::Bytes;
use futures_util::{StreamExt, stream::SelectAll};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

use crate::{
    Outcome,
    report::{Report, Row},
    rounds::{Round, Scale, alternate},
};

fn payload() -> Bytes {
    Bytes::from_static(&[b'x'; 64])
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let many = scale.of(10_000, 100);
    let names: Vec<String> = (0..many).map(|number| format!("channel.{number}")).collect();
    for window in [many, 100, 1] {
        let name = format!("local post to {window} of {many} channels, one reader of all");
        if report.starts(&name) {
            let pairs = merged(scale, &names, window).await?;
            report.add(Row::rates(name, "deliveries/s", "futures SelectAll of our streams", &pairs));
        }
    }
    let name = format!("local subscribe to {many} channels, one reader of all, and drop");
    if report.starts(&name) {
        let pairs = opened(scale, &names).await?;
        report.add(Row::rates(name, "channels/s", "futures SelectAll of our streams", &pairs));
    }
    for behind in [512, 1] {
        let name = format!("local posts, {behind} before each look at the newest");
        if report.starts(&name) {
            let pairs = newest(scale, behind).await?;
            report.add(Row::rates(name, "posts/s", "tokio watch of Arc<T>", &pairs));
        }
    }
    let name = "local posts, 512 before each look, capacity 16";
    if report.starts(name) {
        let pairs = small(scale).await?;
        report.add(Row::rates(name.to_owned(), "posts/s", "tokio broadcast of 16", &pairs));
    }
    Ok(())
}

async fn post(broker: &Broker, names: &[String]) -> Outcome {
    for name in names {
        broker.publish(name, payload(), Scope::Local).await?;
    }
    Ok(())
}

/// One message for each of the window, then all of them are read.
async fn merged(scale: Scale, names: &[String], window: usize) -> Outcome<Vec<(Round, Round)>> {
    let rounds = scale.of(1_000_000, window) / window;
    let chosen: Vec<String> = names.iter().step_by(names.len() / window).take(window).cloned().collect();
    let (one, other) = (Broker::local(), Broker::local());
    let session = one.session();
    let mut set = set_of(&session, names).await?;
    let mut all = all_of(&other, names).await?;
    let ours = async || {
        let work = async {
            for _ in 0..rounds {
                post(&one, &chosen).await?;
                for _ in 0..window {
                    match set.next().await {
                        Some((channel, SetEvent::Message(message))) => drop(black_box((channel, message))),
                        other => return Err(format!("no message: {other:?}").into()),
                    }
                }
            }
            Ok(())
        };
        Round::time(rounds * window, work).await
    };
    let theirs = async || {
        let work = async {
            for _ in 0..rounds {
                post(&other, &chosen).await?;
                for _ in 0..window {
                    match all.next().await {
                        Some(Event::Message(message)) => drop(black_box(message)),
                        other => return Err(format!("no message: {other:?}").into()),
                    }
                }
            }
            Ok(())
        };
        Round::time(rounds * window, work).await
    };
    alternate(scale, ours, theirs).await
}

async fn set_of(session: &broker::Session, names: &[String]) -> Outcome<ChannelSet> {
    let options = SubscribeOptions::new().capacity(names.len());
    let mut set = session.channel_set_with(options)?;
    set.join_all(names).await?;
    Ok(set)
}

async fn all_of(broker: &Broker, names: &[String]) -> Outcome<SelectAll<Subscription>> {
    let mut all = SelectAll::new();
    for name in names {
        all.push(broker.subscribe(name).await?);
    }
    // Each is polled once, and waits: that is how they are used.
    let _ = futures_util::future::poll_immediate(all.next()).await;
    Ok(all)
}

async fn opened(scale: Scale, names: &[String]) -> Outcome<Vec<(Round, Round)>> {
    let broker = Broker::local();
    let session = broker.session();
    let ours = async || {
        let work = async {
            drop(set_of(&session, names).await?);
            Ok(())
        };
        Round::time(names.len(), work).await
    };
    let theirs = async || {
        let work = async {
            drop(all_of(&broker, names).await?);
            Ok(())
        };
        Round::time(names.len(), work).await
    };
    alternate(scale, ours, theirs).await
}

/// So many posts, then the reader takes the newest.
async fn newest(scale: Scale, behind: usize) -> Outcome<Vec<(Round, Round)>> {
    let rounds = scale.of(2_000_000, behind) / behind;
    let broker = Broker::local();
    let news = broker.channel::<Bytes>("news")?;
    let mut reader = broker.subscribe_with("news", SubscribeOptions::new().latest_only()).await?;
    let (sender, mut receiver) = watch::channel(Arc::new(payload()));
    let ours = async || {
        let work = async {
            for _ in 0..rounds {
                for _ in 0..behind {
                    news.publish(payload(), Scope::Local).await?;
                }
                loop {
                    match reader.next().await {
                        Some(Event::Gap(gap)) if gap.cause == GapCause::Conflated => {}
                        Some(Event::Message(message)) => break drop(black_box(message)),
                        other => return Err(format!("no message: {other:?}").into()),
                    }
                }
            }
            Ok(())
        };
        Round::time(rounds * behind, work).await
    };
    let theirs = async || {
        let work = async {
            for _ in 0..rounds {
                for _ in 0..behind {
                    sender.send(Arc::new(payload())).map_err(|_| "there is no receiver")?;
                }
                receiver.changed().await?;
                drop(black_box(receiver.borrow_and_update().clone()));
            }
            Ok(())
        };
        Round::time(rounds * behind, work).await
    };
    alternate(scale, ours, theirs).await
}

/// More posts than are kept, then the reader learns how many it has lost and reads the rest.
async fn small(scale: Scale) -> Outcome<Vec<(Round, Round)>> {
    const POSTS: usize = 512;
    const KEPT: usize = 16;
    let rounds = scale.of(2_000_000, POSTS) / POSTS;
    let broker = Broker::local();
    let news = broker.channel::<Bytes>("news")?;
    let mut reader = broker.subscribe_with("news", SubscribeOptions::new().capacity(KEPT)).await?;
    let (sender, mut receiver) = broadcast::channel(KEPT);
    let ours = async || {
        let work = async {
            for _ in 0..rounds {
                for _ in 0..POSTS {
                    news.publish(payload(), Scope::Local).await?;
                }
                for _ in 0..=KEPT {
                    black_box(reader.next().await.ok_or("it has ended")?);
                }
            }
            Ok(())
        };
        Round::time(rounds * POSTS, work).await
    };
    let theirs = async || {
        let work = async {
            for _ in 0..rounds {
                for _ in 0..POSTS {
                    sender.send(Arc::new(payload())).map_err(|_| "there is no receiver")?;
                }
                for _ in 0..=KEPT {
                    match receiver.recv().await {
                        Err(RecvError::Closed) => return Err("it has ended".into()),
                        item => drop(black_box(item)),
                    }
                }
            }
            Ok(())
        };
        Round::time(rounds * POSTS, work).await
    };
    alternate(scale, ours, theirs).await
}
