//! The hub in many orders of its steps, drawn by a model checker: `cargo xtask model`. A failure prints the order, and how
//! to run it again.

use std::sync::Arc;

use shuttle::{check_random, future, thread};

use super::tests::{entry, put};
use super::*;

const ORDERS: usize = 1000;

fn name() -> ChannelName {
    ChannelName::internal("news")
}

/// Reads until it has received or counted so many: the numbers, and how many were missed.
async fn read(ring: Arc<Ring>, mut cursor: Cursor, all: u64) -> (Vec<u64>, u64) {
    let (mut tracker, mut lost) = (Vec::new(), 0);
    while tracker.len() as u64 + lost < all {
        let mut batch = Vec::new();
        if std::future::poll_fn(|cx| ring.take(&mut cursor, &mut batch, 2, cx)).await.is_err() {
            break;
        }
        for entry in batch.into_iter().rev() {
            match entry {
                Entry::Message(message) => tracker.push(message.id().number()),
                gap => lost += gap.weight().messages,
            }
        }
    }
    (tracker, lost)
}

/// Nobody sleeps for ever beside a message, and all is received in order, or counted.
#[test]
fn a_reader_receives_or_counts_everything_and_is_always_woken() {
    check_random(
        || {
            let hub = Arc::new(Hub::new(2, 0));
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let (ring, cursor) = hub.join(&name(), Reads::default()).unwrap();
                    thread::spawn(move || future::block_on(read(ring, cursor, 5)))
                })
                .collect();
            let writer = {
                let hub = Arc::clone(&hub);
                thread::spawn(move || (0..5).for_each(|n| put(&hub, "news", entry(n), PutBy::Here)))
            };
            writer.join().unwrap();
            // Nothing else wakes anybody: who sleeps now sleeps for ever, and that is found.
            for reader in readers {
                let (tracker, lost) = reader.join().unwrap();
                assert!(tracker.is_sorted_by(|a, b| a < b), "{tracker:?}");
                assert_eq!(tracker.len() as u64 + lost, 5, "{tracker:?} and {lost} lost");
            }
        },
        ORDERS,
    );
}

/// Whoever has joined receives what is put afterwards, whoever leaves meanwhile.
#[test]
fn a_subscriber_stays_in_the_table_when_others_leave() {
    check_random(
        || {
            let hub = Arc::new(Hub::new(8, 0));
            let (first, cursor) = hub.join(&name(), Reads::default()).unwrap();
            let leaving = {
                let hub = Arc::clone(&hub);
                thread::spawn(move || hub.leave(&first, &cursor))
            };
            let (ring, mut cursor) = hub.join(&name(), Reads::default()).unwrap();
            put(&hub, "news", entry(1), PutBy::Here);
            let mut batch = Vec::new();
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(
                ring.take(&mut cursor, &mut batch, 8, &mut cx).is_ready(),
                "joined, and receives nothing"
            );
            leaving.join().unwrap();
            assert!(hub.contains("news"));
            hub.leave(&ring, &cursor);
            assert!(!hub.contains("news"), "left behind");
        },
        ORDERS,
    );
}

/// Of several who leave at once exactly one is the last.
#[test]
fn exactly_one_leave_is_the_last() {
    check_random(
        || {
            let hub = Arc::new(Hub::new(8, 0));
            let seats: Vec<_> = (0..3).map(|_| hub.join(&name(), Reads::default()).unwrap()).collect();
            let leaving: Vec<_> = seats
                .into_iter()
                .map(|(ring, cursor)| {
                    let hub = Arc::clone(&hub);
                    thread::spawn(move || hub.leave(&ring, &cursor))
                })
                .collect();
            let last = leaving.into_iter().map(|left| left.join().unwrap());
            assert_eq!(last.filter(|last| *last).count(), 1);
            assert!(!hub.contains("news"));
        },
        ORDERS,
    );
}

/// A subscription that is dropped while its channel is refused, posted to, and the hub closed.
#[test]
fn leaving_beside_a_refusal_a_post_and_the_end_leaves_nothing_behind() {
    check_random(
        || {
            let hub = Arc::new(Hub::new(1, 0));
            let (ring, cursor) = hub.join(&name(), Reads::default()).unwrap();
            let work: [Box<dyn FnOnce(&Hub) + Send>; 4] = [
                Box::new(move |hub| _ = hub.leave(&ring, &cursor)),
                Box::new(|hub| hub.refuse(&name(), &CloseReason::Removed)),
                Box::new(|hub| (0..3).for_each(|n| put(&hub, "news", entry(n), PutBy::Link))),
                Box::new(|hub| {
                    hub.mark_gap(&name(), &skipped(None));
                    hub.flush_gap(&name());
                    hub.close();
                }),
            ];
            let threads = work.map(|work| {
                let hub = Arc::clone(&hub);
                thread::spawn(move || work(&hub))
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(!hub.contains("news"));
            assert_eq!(hub.owing.load(Ordering::SeqCst), 0);
            assert!(hub.join(&name(), Reads::default()).is_none(), "closed");
        },
        ORDERS,
    );
}
