//! Cases about requests whose replies get lost, come from strangers, or come while a broker ends.

use std::time::Duration;

use broker_core::{ConnectionState, GapCause, Received, RequestError, Scope};
use tokio::sync::mpsc::unbounded_channel;

use super::requests::{ASKS, Answer, Ask, answers, ask};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    lossy_driver::{Fate, Losses},
    steps::{next_call, wait_for_link},
    wait::{next_item, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_request_learns_at_once_that_the_link_broke, [4]),
    case!(requests_work_again_after_an_outage, [4]).needs(&[Need::Server]),
    case!(a_lost_reply_is_reported_before_the_time_is_over, [4]),
    case!(replies_of_strangers_are_ignored, [2, 11]),
    case!(what_was_asked_before_a_drain_is_answered, [12]),
];

/// Longer than any case.
const LONG: Duration = Duration::from_secs(600);

async fn a_request_learns_at_once_that_the_link_broke(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (asked, mut asks) = unbounded_channel();
    node.add_listener(ASKS, move |ask: Received<Ask>| _ = asked.send(ask.n)).await?;
    let broker = node.broker.clone();
    let request = tokio::spawn(async move { broker.request::<_, Answer>(ASKS, Ask { n: 1 }, LONG).await });
    let mut replies = node.request_many::<_, Answer>(ASKS, Ask { n: 2 }, LONG).await?;
    next_call(&mut asks).await?;
    next_call(&mut asks).await?;
    // Nothing heals it: the requests do not wait for that.
    node.line.cut();
    let lost = [
        within("the end of the request", request).await??.err(),
        within("an item", replies.next()).await?.ok_or("the end")?.err(),
    ];
    for error in lost {
        match error {
            Some(RequestError::MayBeLost(gap)) => assert_eq!(gap.cause, GapCause::LinkLost),
            // Its post had no outcome yet, though it was received.
            Some(RequestError::Broker(error)) if error.is_transient() => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    Ok(())
}

async fn requests_work_again_after_an_outage(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    answers(&there, "there").await?;
    for links in 2..=4 {
        assert_eq!(ask(&here, links).await?.n, 2 * links);
        here.line.cut();
        until("the loss to be noticed", || !here.health().is_connected()).await?;
        here.line.heal();
        wait_for_link(&here, links).await?;
        // What was lost before it began is nothing to a request.
        assert_eq!(ask(&here, 10 * links).await?.n, 20 * links);
    }
    Ok(())
}

/// The backend loses it while all links are up: the numbers of what the responder posts tell.
async fn a_lost_reply_is_reported_before_the_time_is_over(h: &dyn Harness) -> Outcome {
    let (here, losses) = (h.node().await?, Losses::default());
    let around = losses.clone();
    let there = h.node_through(|_| {}, move |driver| around.around(driver)).await?;
    answers(&there, "there").await?;
    ask(&here, 1).await?;
    losses
        .rule(|frame| if frame.channel.as_str().ends_with(".replies") { Fate::Lost } else { Fate::Arrives });
    let lost = within("the loss to be reported", here.request::<_, Answer>(ASKS, Ask { n: 2 }, LONG)).await?;
    match lost {
        Err(RequestError::MayBeLost(gap)) => {
            assert_eq!((gap.missed, gap.cause), (Some(1), GapCause::Skipped));
        }
        other => return Err(format!("{other:?}").into()),
    }
    losses
        .rule(|frame| if frame.channel.as_str().ends_with(".replies") { Fate::Twice } else { Fate::Arrives });
    for n in 3..=10 {
        assert_eq!(ask(&here, n).await?.n, 2 * n);
    }
    Ok(())
}

/// A frame of a node that posts here alone: with these flags and this number of a request, and a payload.
fn frame(sequence: u64, flags: u8, exchange: u64, payload: &str) -> Vec<u8> {
    let mut frame = vec![0xB5, 1, flags, 0];
    frame.extend([7; 8]);
    frame.extend(sequence.to_be_bytes());
    frame.extend(1_u32.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    if flags & 0x10 != 0 {
        frame.extend(exchange.to_be_bytes());
    }
    frame.extend([0, 0, 0]);
    frame.extend(payload.as_bytes());
    frame
}

async fn replies_of_strangers_are_ignored(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (go, gone) = tokio::sync::watch::channel(false);
    let (asked, mut asks) = unbounded_channel();
    there
        .reply_to(ASKS, move |ask: Received<Ask>| {
            let mut gone = gone.clone();
            let _ = asked.send(ask.n);
            async move {
                drop(gone.wait_for(|gone| *gone || ask.n == 0).await);
                Answer { n: ask.n, by: "there".to_owned() }
            }
        })
        .await?;
    ask(&here, 0).await?;
    let broker = here.broker.clone();
    let mut request =
        tokio::spawn(async move { broker.request::<_, Answer>(ASKS, Ask { n: 1 }, LONG).await });
    assert_eq!((next_call(&mut asks).await?, next_call(&mut asks).await?), (0, 1));
    let channel = format!("$node.{}.replies", here.node_id());
    let malformed = here.health().malformed;
    let mut sequence = 0;
    for number in [0, 1, 2, 3, u64::MAX, 1 << 63] {
        for flags in [0x10, 0] {
            sequence += 1;
            h.publish_raw(&channel, &frame(sequence, flags, number, "guessed")).await?;
        }
    }
    h.publish_raw(&channel, b"no frame").await?;
    until("all of them to arrive", || here.health().malformed > malformed).await?;
    assert!(futures_util::poll!(&mut request).is_pending());
    go.send(true)?;
    assert_eq!(within("the reply", request).await???.by, "there");
    // One in the name of this node that it has not made is not sent elsewhere by who answers it.
    let mut asks = there.subscribe("asks").await?;
    h.publish_raw("asks", &frame(1, 0x10, 5, "no ask")).await?;
    here.post_message(ASKS, Ask { n: 9 }, Scope::Global).await?;
    for _ in 0..2 {
        within("a message", asks.next()).await?.ok_or("the end")?;
    }
    assert_eq!((ask(&here, 10).await?.n, here.health().links, there.health().links), (10, 1, 1));
    Ok(())
}

async fn what_was_asked_before_a_drain_is_answered(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut asks = there.create_stream(ASKS).await?;
    let (go, gone) = tokio::sync::watch::channel(false);
    there
        .reply_to(ASKS, move |ask: Received<Ask>| {
            let mut gone = gone.clone();
            async move {
                drop(gone.wait_for(|gone| *gone).await);
                Answer { n: ask.n, by: "there".to_owned() }
            }
        })
        .await?;
    let requests: Vec<_> = (0..3)
        .map(|n| {
            let broker = here.broker.clone();
            tokio::spawn(async move { broker.request::<_, Answer>(ASKS, Ask { n }, LONG).await })
        })
        .collect();
    // Then they are in the queue of the listener, too.
    for _ in 0..3 {
        next_item(&mut asks).await??;
    }
    let broker = there.broker.clone();
    let draining = tokio::spawn(async move { broker.drain().await });
    until("the drain to begin", || there.health().state == ConnectionState::Draining).await?;
    go.send(true)?;
    for request in requests {
        within("a reply", request).await???;
    }
    within("the drain", draining).await??;
    Ok(())
}
