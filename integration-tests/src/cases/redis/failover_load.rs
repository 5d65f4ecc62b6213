//! Failover-load: a node that posts all the while its servers change places, and a judge of what another one hears.

use std::time::{Duration, Instant};

use broker::{Broker, Event, Gap, Scope, Subscription};
use broker_conformance::{
    case::{Failure, Outcome},
    steps::lost_link,
    wait::{next_event, text, within},
};
use tokio::{sync::watch, time::sleep};

/// Between two posts.
const PACE: Duration = Duration::from_millis(1);
const END: &str = "end";

/// A post: when it began, and whether its call was `Ok`.
struct Posted {
    began: Instant,
    taken: bool,
}

/// What was heard: the numbers of posts, and gaps with the time at which each was told.
#[derive(Default)]
struct Heard {
    numbers: Vec<usize>,
    gaps: Vec<(Gap, Instant)>,
}

/// Posts numbers on `news` until `disturb` is over, which returns when both nodes are connected again. The other node
/// has heard every one whose call was `Ok`, or was told of the gap after the call began: of one gap, that of a lost
/// link.
///
/// # Errors
/// It has not, or heard something twice or in another order.
pub(super) async fn one_gap_and_nothing_silent(
    publisher: &Broker,
    received: &mut Subscription,
    disturb: impl Future<Output = Outcome> + Send,
) -> Outcome {
    let (stop, stopped) = watch::channel(false);
    let disturbing = async {
        // Not before there is something to lose.
        sleep(50 * PACE).await;
        within("the disturbance", disturb).await??;
        stop.send_replace(true);
        Ok::<_, Failure>(())
    };
    let ((), posted, heard) = tokio::try_join!(disturbing, post(publisher, stopped), hear(received))?;
    judge(&posted, &heard)
}

async fn post(publisher: &Broker, stopped: watch::Receiver<bool>) -> Outcome<Vec<Posted>> {
    let mut posted = Vec::new();
    while !*stopped.borrow() {
        let (began, number) = (Instant::now(), posted.len().to_string());
        let taken = publisher.publish("news", number, Scope::Global).await.is_ok();
        posted.push(Posted { began, taken });
        sleep(PACE).await;
    }
    publisher.publish("news", END, Scope::Global).await?;
    Ok(posted)
}

async fn hear(received: &mut Subscription) -> Outcome<Heard> {
    let mut heard = Heard::default();
    loop {
        match next_event(received).await? {
            Event::Message(message) if text(&message)? == END => return Ok(heard),
            Event::Message(message) => heard.numbers.push(text(&message)?.parse()?),
            Event::Gap(gap) => heard.gaps.push((gap, Instant::now())),
            other => return Err(format!("expected a message or a gap, got {other:?}").into()),
        }
    }
}

fn judge(posted: &[Posted], heard: &Heard) -> Outcome {
    assert!(heard.numbers.is_sorted_by(|a, b| a < b), "out of order: {:?}", heard.numbers);
    let [(gap, told)] = &heard.gaps[..] else { return Err(format!("not one gap: {:?}", heard.gaps).into()) };
    lost_link(gap)?;
    let is_silent = |(number, posted): &(usize, &Posted)| {
        posted.taken && posted.began > *told && heard.numbers.binary_search(number).is_err()
    };
    let silent: Vec<usize> = posted.iter().enumerate().filter(is_silent).map(|(number, _)| number).collect();
    assert!(silent.is_empty(), "silent: {silent:?} of {}", posted.len());
    Ok(())
}
