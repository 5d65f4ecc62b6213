//! Sessions and their streams in many orders of their steps, drawn by a model checker: `cargo xtask model`.

use std::{
    sync::{Arc, atomic},
    time::Instant,
};

use futures_util::FutureExt;
use shuttle::{check_random, future::block_on, thread};

use super::{listener::listen, *};
use crate::{ChannelName, ErrorKind, Event, Revocation};

const ORDERS: usize = 1000;

fn post(broker: &Broker, count: u8) {
    for number in 0..count {
        block_on(broker.publish("news", vec![number], Scope::Local)).unwrap();
    }
}

/// What is received until the stream ends. Nothing may be yielded any more after the end has returned.
async fn read(mut stream: Subscription, ended: Arc<atomic::AtomicBool>) -> Vec<u8> {
    let mut received = Vec::new();
    loop {
        let ended = ended.load(atomic::Ordering::SeqCst);
        match stream.next().await {
            Some(Event::Message(message)) if !ended => received.push(message.payload().unwrap()[0]),
            Some(event) => panic!("{event:?} after the end, or beside it"),
            None => return received,
        }
    }
}

fn assert_nothing_is_left(broker: &Broker) {
    assert!(!broker.hub().contains("news"));
    assert!(broker.hub().drained().now_or_never().is_some(), "the hub counts somebody");
}

/// A stream that is read while it is ended by one of these, which say whether it still yields the rest.
fn ended_beside_a_reader(end: fn(&Session, ListenerId) -> bool) {
    let broker = Broker::local();
    let session = Arc::new(broker.session());
    let gate = Some(Arc::new(Gate::default()));
    let (stream, number) =
        block_on(session.open("add_listener", "news", &SubscribeOptions::new(), gate)).unwrap();
    // No more later on: it would wake a reader whom the end has not woken.
    post(&broker, 2);
    let ended = Arc::new(atomic::AtomicBool::new(false));
    let reading = {
        let ended = Arc::clone(&ended);
        thread::spawn(move || block_on(read(stream, ended)))
    };
    let yields_the_rest = end(&session, ListenerId { session: session.shared.id, number });
    ended.store(!yields_the_rest, atomic::Ordering::SeqCst);
    let received = reading.join().unwrap();
    assert!([0, 1].starts_with(&received), "{received:?}");
    assert!(received.len() == 2 || !yields_the_rest, "{received:?}");
    assert!(session.shared.lock().seat(number).is_none());
    assert_nothing_is_left(&broker);
}

#[test]
fn a_reader_ends_at_once_when_its_session_closes() {
    let close = |session: &Session, _| {
        session.close();
        false
    };
    check_random(move || ended_beside_a_reader(close), ORDERS);
}

#[test]
fn a_reader_ends_at_once_when_its_listener_is_removed() {
    let remove = |session: &Session, id| !session.remove_listener(id);
    check_random(move || ended_beside_a_reader(remove), ORDERS);
}

#[test]
fn a_reader_ends_at_once_when_the_broker_closes() {
    let close = |session: &Session, _| {
        session.broker().hub().close();
        false
    };
    check_random(move || ended_beside_a_reader(close), ORDERS);
}

#[test]
fn a_reader_receives_the_rest_when_the_broker_drains() {
    let drain = |session: &Session, _| {
        session.broker().hub().end();
        true
    };
    check_random(move || ended_beside_a_reader(drain), ORDERS);
}

#[test]
fn a_reader_receives_the_rest_when_its_channel_is_refused() {
    let refuse = |session: &Session, _| {
        session.broker().hub().refuse(&ChannelName::internal("news"), &CloseReason::Removed);
        true
    };
    check_random(move || ended_beside_a_reader(refuse), ORDERS);
}

/// A listener is called beside its end: no call begins once whoever ended it was told that it has ended.
fn called_beside_the_end(end: fn(&Session, ListenerId)) {
    let broker = Broker::local();
    let session = Arc::new(broker.session());
    let gate = Arc::new(Gate::default());
    let options = SubscribeOptions::new();
    let opened = session.open("add_listener", "news", &options, Some(Arc::clone(&gate)));
    let (listened, number) = block_on(opened).unwrap();
    post(&broker, 2);
    let over = Arc::new(atomic::AtomicBool::new(false));
    let listening = {
        let over = Arc::clone(&over);
        let function = move |_: crate::StreamItem<Nothing>| {
            // A thread may stand still before the first line of the function.
            (0..4).for_each(|_| shuttle::thread::yield_now());
            assert!(!over.load(atomic::Ordering::SeqCst), "a call begins after the end");
            std::future::ready(())
        };
        thread::spawn(move || block_on(listen(listened, function, ())))
    };
    // So that it gets to call.
    (0..20).for_each(|_| shuttle::thread::yield_now());
    end(&session, ListenerId { session: session.shared.id, number });
    over.store(true, atomic::Ordering::SeqCst);
    listening.join().unwrap();
    assert_nothing_is_left(&broker);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Nothing;

impl Model for Nothing {
    const NAME: &'static str = "Nothing";
}

#[test]
fn no_call_begins_after_its_session_was_closed() {
    check_random(|| called_beside_the_end(|session, _| session.close()), ORDERS);
}

#[test]
fn no_call_begins_after_its_listener_was_removed() {
    check_random(|| called_beside_the_end(|session, id| _ = session.remove_listener(id)), ORDERS);
}

/// Two that end the same session at once: each may rely on it when its own call returns.
#[test]
fn no_call_begins_after_either_of_two_ends() {
    let end = |session: &Session, _| {
        shuttle::thread::scope(|scope| {
            scope.spawn(|| session.close());
            session.close();
        });
    };
    check_random(move || called_beside_the_end(end), ORDERS);
}

/// A stream that is opened while its session or the broker ends is refused, or ends.
fn opened_beside_the_end(end: fn(&Session)) {
    let broker = Broker::local();
    let session = Arc::new(broker.session());
    let ending = {
        let session = Arc::clone(&session);
        thread::spawn(move || end(&session))
    };
    match block_on(session.subscribe("news")) {
        Ok(stream) => assert!(block_on(read(stream, Arc::default())).is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
    }
    ending.join().unwrap();
    assert_nothing_is_left(&broker);
}

#[test]
fn no_stream_outlives_its_session() {
    check_random(|| opened_beside_the_end(Session::close), ORDERS);
}

#[test]
fn no_stream_outlives_a_drained_broker() {
    check_random(|| opened_beside_the_end(|session| session.broker().hub().end()), ORDERS);
}

/// A subscription is dropped beside a post, a refusal, and the end of its session.
#[test]
fn a_dropped_stream_leaves_nothing() {
    check_random(
        || {
            let broker = Broker::local();
            let session = Arc::new(broker.session());
            let (stream, number) =
                block_on(session.open("subscribe", "news", &SubscribeOptions::new(), None)).unwrap();
            let name = stream.channel().clone();
            let work: [Box<dyn FnOnce(&Session) + Send>; 4] = [
                Box::new(move |_| drop(stream)),
                Box::new(|session| post(session.broker(), 2)),
                Box::new(move |session| session.broker().hub().refuse(&name, &CloseReason::Removed)),
                Box::new(Session::close),
            ];
            let threads = work.map(|work| {
                let session = Arc::clone(&session);
                thread::spawn(move || work(&session))
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert!(session.shared.lock().seat(number).is_none());
            assert_nothing_is_left(&broker);
        },
        ORDERS,
    );
}

/// A session that is opened while its user is revoked is refused, or ended; and is closed once.
#[test]
fn no_session_slips_past_a_revocation() {
    check_random(
        || {
            let broker = Broker::local();
            let identity = Identity::new("ada", Instant::now());
            let revoking = {
                let broker = broker.clone();
                thread::spawn(move || block_on(broker.revoke(Revocation::user("ada"))).unwrap())
            };
            let opened = block_on(broker.session_for(identity));
            revoking.join().unwrap();
            match opened {
                Ok(session) => {
                    let reason = session.closed().now_or_never();
                    assert!(matches!(reason, Some(CloseReason::AuthenticationRevoked(_))), "{reason:?}");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Revoked),
            }
        },
        ORDERS,
    );
}

/// Two publishers that race take what they find into the set, while it is read and then ends.
fn a_set_beside_its_publishers(options: fn() -> SubscribeOptions) {
    let broker = Broker::local();
    let session = broker.session();
    let mut set = session.channel_set_with(options()).unwrap();
    block_on(set.join_all(["news", "more"])).unwrap();
    let publishers = [0, 10].map(|first| {
        let broker = broker.clone();
        let post = move |number| block_on(broker.publish("news", vec![number], Scope::Local)).unwrap();
        thread::spawn(move || [first, first + 1].map(post))
    });
    let reading = thread::spawn(move || {
        block_on(async move {
            let (mut received, mut skipped) = (Vec::new(), 0);
            while let Some((_, event)) = set.next().await {
                match event {
                    SetEvent::Message(message) => received.push(message.payload().unwrap()[0]),
                    SetEvent::Gap(gap) => skipped += gap.missed.unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            (received, skipped)
        })
    });
    publishers.into_iter().for_each(|publisher| drop(publisher.join().unwrap()));
    // The reader may sleep by now; nothing but this wakes it.
    broker.hub().end();
    let (received, skipped) = reading.join().unwrap();
    assert_eq!(received.len() as u64 + skipped, 4, "{received:?} and {skipped} skipped");
    for first in [0, 10] {
        let of_one = received.iter().filter(|number| (first..first + 2).contains(*number));
        assert!(of_one.is_sorted(), "{received:?}");
    }
    assert_nothing_is_left(&broker);
}

#[test]
fn a_set_yields_everything_in_order_and_is_counted_off() {
    check_random(|| a_set_beside_its_publishers(SubscribeOptions::new), ORDERS);
}

#[test]
fn a_set_that_overflows_counts_everything_and_is_counted_off() {
    check_random(|| a_set_beside_its_publishers(|| SubscribeOptions::new().capacity(1)), ORDERS);
}

#[test]
fn a_set_of_the_newest_counts_everything_and_is_counted_off() {
    check_random(|| a_set_beside_its_publishers(|| SubscribeOptions::new().latest_only()), ORDERS);
}

/// Its session is closed while it is read and posted to.
#[test]
fn a_set_yields_nothing_after_its_session_is_closed() {
    check_random(
        || {
            let broker = Broker::local();
            let session = broker.session();
            let mut set = session.channel_set();
            block_on(set.join_all(["news", "more"])).unwrap();
            let posting = {
                let broker = broker.clone();
                thread::spawn(move || post(&broker, 2))
            };
            let ended = Arc::new(atomic::AtomicBool::new(false));
            let reading = {
                let ended = Arc::clone(&ended);
                thread::spawn(move || {
                    block_on(async move {
                        loop {
                            let ended = ended.load(atomic::Ordering::SeqCst);
                            match set.next().await {
                                Some(_) => assert!(!ended, "an event after the end"),
                                None => return,
                            }
                        }
                    })
                })
            };
            session.close();
            ended.store(true, atomic::Ordering::SeqCst);
            reading.join().unwrap();
            posting.join().unwrap();
            broker.hub().end();
            assert_nothing_is_left(&broker);
        },
        ORDERS,
    );
}
