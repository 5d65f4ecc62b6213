//! Sets of channels under publishers that race, foreign code that comes back, and steps that a model checks.

#![allow(clippy::unwrap_used, reason = "a test")]
#[allow(dead_code, reason = "this test needs less of it than others")]
mod scripted;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    time::Duration,
};

use broker_core::{Broker, GapCause, Model, Scope};
use futures_util::FutureExt;
use proptest::prelude::*;
use scripted::{
    sets::{Seen, names, next, now, of},
    steps::within,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[tokio::test(flavor = "multi_thread")]
async fn publishers_that_race_keep_their_order_and_every_loss_is_counted() {
    const POSTS: u64 = 20_000;
    let broker = Broker::local();
    let session = broker.session();
    let mut set = session.channel_set_with(of(64)).unwrap();
    set.join_all(names(5)).await.unwrap();
    let publishers: Vec<_> = (0..3)
        .map(|publisher| {
            let broker = broker.clone();
            std::thread::spawn(move || {
                for n in 0..POSTS {
                    let channel = format!("c.{}", n % 5);
                    let posted = broker.publish(&*channel, format!("{publisher} {n}"), Scope::Local);
                    posted.now_or_never().expect("a local post").unwrap();
                }
            })
        })
        .collect();
    let (mut last, mut received, mut lost) = (HashMap::new(), 0, 0);
    while received + lost < POSTS * 3 {
        match within("the next event", next(&mut set)).await.unwrap() {
            Seen::Text(channel, text) => {
                let (publisher, n) = text.split_once(' ').unwrap();
                let n: u64 = n.parse().unwrap();
                let before = last.insert((channel.clone(), publisher.to_owned()), n);
                assert!(before.is_none_or(|before| before < n), "{channel}: {n} after {before:?}");
                received += 1;
            }
            Seen::Gap(_, Some(missed), GapCause::Overflow) => lost += missed,
            other => panic!("{other:?}"),
        }
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    assert_eq!((received + lost, now(&mut set)), (POSTS * 3, None));
}

/// A message that posts another one when it is dropped, and a waker that posts, too: what the set runs under a lock of
/// its own would wait for itself.
struct Restless(Broker, usize);

impl Restless {
    fn post(&self) {
        let next = Self(self.0.clone(), self.1.saturating_sub(1));
        let posted = self.0.post_message(["a", "b"][self.1 % 2], next, Scope::Local);
        posted.now_or_never().expect("a local post").unwrap();
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        if self.1 > 0 {
            self.post();
        }
    }
}

impl Wake for Restless {
    fn wake(self: Arc<Self>) {
        self.post();
    }
}

impl Serialize for Restless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Restless {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        unreachable!("it stays in this process")
    }
}

impl Model for Restless {
    const NAME: &'static str = "restless";
}

#[test]
fn wakers_and_dropped_messages_may_post_to_the_same_set() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let broker = Broker::local();
        let session = broker.session();
        for options in [of(1), of(1).latest_only()] {
            let mut set = session.channel_set_with(options).unwrap();
            set.join_all(["a", "b"]).now_or_never().expect("local").unwrap();
            let waker = Waker::from(Arc::new(Restless(broker.clone(), 0)));
            let mut cx = Context::from_waker(&waker);
            assert!(pin!(set.next()).poll(&mut cx).is_pending());
            for depth in [1, 5, 9] {
                Restless(broker.clone(), depth).post();
            }
            assert!(set.next().now_or_never().is_some());
            set.leave("a");
            set.join("a").now_or_never().expect("local").unwrap();
            Restless(broker.clone(), 3).post();
            drop(set);
        }
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(60)).expect("it waits for itself");
}

#[derive(Clone, Debug)]
enum Step {
    Join(BTreeSet<u8>),
    Leave(u8),
    Post(u8),
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => proptest::collection::btree_set(0..6_u8, 1..4).prop_map(Step::Join),
        1 => (0..6_u8).prop_map(Step::Leave),
        8 => (0..6_u8).prop_map(Step::Post),
        4 => Just(Step::Next),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Every event in its order, within one bound, and every loss with its exact number before the rest of its channel.
    #[test]
    fn a_set_agrees_with_the_model(capacity in 1..8_usize, steps in proptest::collection::vec(step(), 1..200)) {
        let broker = Broker::local();
        let session = broker.session();
        let mut set = session.channel_set_with(of(capacity)).unwrap();
        let (mut members, mut queue) = (BTreeSet::new(), VecDeque::new());
        let mut lost: BTreeMap<u8, u64> = BTreeMap::new();
        let name = |channel: u8| format!("c.{channel}");
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Join(channels) => {
                    let joined = set.join_all(channels.iter().map(|channel| name(*channel)));
                    joined.now_or_never().expect("local").unwrap();
                    members.extend(channels);
                }
                Step::Leave(channel) => {
                    prop_assert_eq!(set.leave(name(channel)), members.remove(&channel));
                    lost.remove(&channel);
                    queue.retain(|(other, _)| *other != channel);
                }
                Step::Post(channel) => {
                    let posted = broker.publish(name(channel), number.to_string(), Scope::Local);
                    posted.now_or_never().expect("local").unwrap();
                    if members.contains(&channel) {
                        queue.push_back((channel, number.to_string()));
                    }
                    while queue.len() > capacity {
                        let (oldest, _) = queue.pop_front().unwrap();
                        *lost.entry(oldest).or_default() += 1;
                    }
                }
                Step::Next => match now(&mut set) {
                    Some(Seen::Gap(channel, missed, GapCause::Overflow)) => {
                        let channel = channel.trim_start_matches("c.").parse().unwrap();
                        prop_assert_eq!(lost.remove(&channel), missed);
                    }
                    found => {
                        prop_assert!(lost.is_empty(), "{found:?} before {lost:?}");
                        let expected = queue.pop_front().map(|(channel, text)| Seen::Text(name(channel), text));
                        prop_assert_eq!(found, expected);
                    }
                },
            }
            prop_assert_eq!(set.len(), members.len());
        }
    }
}
