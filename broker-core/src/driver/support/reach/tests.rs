//! Which attempts are started when, and what is told of those that fail. The time is paused.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::future::ready;
use tokio::time::sleep;

use super::*;
use crate::ErrorKind;

/// What an address does.
#[derive(Clone, Copy, Debug)]
enum Address {
    /// Takes no connection, or takes it and does not answer.
    Silent(&'static str),
    Fails(&'static str, ErrorKind),
    AnswersAfter(&'static str, u64),
}

use Address::{AnswersAfter, Fails, Silent};

impl Address {
    fn name(self) -> &'static str {
        let (Silent(name) | Fails(name, _) | AnswersAfter(name, _)) = self;
        name
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Races the addresses of several names: who won, and when.
async fn raced(names: &[&[Address]]) -> (Result<&'static str>, Duration) {
    let began = Instant::now();
    let sources = names.iter().map(|addresses| ready(Ok(addresses.to_vec())));
    let won = race(sources, |address: Address| async move {
        match address {
            Silent(_) => pending().await,
            Fails(name, kind) => Err(Error::new(kind, format!("{name} failed"))),
            AnswersAfter(name, millis) => {
                sleep(Duration::from_millis(millis)).await;
                Ok(name)
            }
        }
    });
    let won = timeout(Duration::from_secs(60), won).await;
    (won.unwrap_or_else(|_| Err(Error::new(Timeout, "late"))), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_delays_the_next_and_no_more() {
    let (won, took) = raced(&[&[Silent("a"), AnswersAfter("b", 10)]]).await;
    assert_eq!((won.unwrap(), took), ("b", STAGGER + Duration::from_millis(10)));
    let (won, took) = raced(&[&[Silent("a"), Silent("b"), Silent("c"), AnswersAfter("d", 0)]]).await;
    assert_eq!((won.unwrap(), took), ("d", STAGGER * 3));
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_next_one_starts_at_once() {
    let failing = Fails("a", Unavailable);
    let (won, took) = raced(&[&[failing, failing, failing, AnswersAfter("b", 10)]]).await;
    assert_eq!((won.unwrap(), took), ("b", Duration::from_millis(10)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_continues_beside_the_next() {
    let (won, took) = raced(&[&[AnswersAfter("a", 400), AnswersAfter("b", 400)]]).await;
    assert_eq!((won.unwrap(), took), ("a", Duration::from_millis(400)));
}

#[tokio::test(start_paused = true)]
async fn names_are_tried_in_turn() {
    let silent = [Silent("a"); 8];
    let (won, took) = raced(&[&silent, &[Silent("b"), AnswersAfter("c", 0)]]).await;
    assert_eq!((won.unwrap(), took), ("c", STAGGER * 3));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_resolves_slowly_delays_no_other() {
    let slow = |number| async move {
        if number == 0 {
            sleep(Duration::from_secs(4)).await;
        }
        Ok(vec![number])
    };
    let began = Instant::now();
    let won = race([slow(0), slow(1)].into_iter(), |number| async move { Ok(number) }).await;
    assert_eq!((won.unwrap(), began.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_end_the_search() {
    for kind in [Forbidden, InvalidInput] {
        let (won, _) = raced(&[&[Fails("a", kind), AnswersAfter("b", 0)]]).await;
        let error = won.unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, "a failed"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_names_each_place_and_is_transient_if_one_of_them_is() {
    let protocol = Fails("a", ErrorKind::Protocol);
    let (won, _) = raced(&[&[protocol, Fails("b", Unavailable)]]).await;
    let error = won.unwrap_err();
    assert_eq!(error.kind(), Unavailable);
    assert!(error.message().ends_with("2 addresses: a failed; b failed"), "{error}");
    let (won, _) = raced(&[&[protocol, Fails("b", ErrorKind::Misconfigured)]]).await;
    assert_eq!(won.unwrap_err().kind(), ErrorKind::Protocol);
    let (won, _) = raced(&[&[protocol]]).await;
    assert_eq!(won.unwrap_err().message(), "a failed");
    let (won, _) = raced(&[&[]]).await;
    assert_eq!(won.unwrap_err().kind(), Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_reports_the_outcome_of_each_place() {
    let progress = Progress::default();
    let limit = Duration::from_secs(2);
    let racing = raced(&[&[Silent("a"), Fails("b", Unavailable), Silent("c")]]);
    assert!(timeout(limit, PROGRESS.scope(progress.clone(), racing)).await.is_err());
    let error = progress.late(limit);
    assert_eq!(error.kind(), Timeout);
    assert!(error.message().contains("(no answer from a; b failed; no answer from c)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn losing_attempts_are_dropped() {
    struct Counted<'a>(&'a AtomicUsize);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let running = AtomicUsize::new(0);
    let sources = std::iter::once(ready(Ok(vec![0, 1, 2])));
    let won = race(sources, |number| {
        running.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(&running);
        async move {
            let _counted = counted;
            if number < 2 { pending().await } else { Ok(number) }
        }
    });
    assert_eq!(won.await.unwrap(), 2);
    assert_eq!(running.load(Ordering::Relaxed), 0);
}

#[test]
fn families_are_tried_in_turn_and_places_show_what_is_new() {
    let server = ServerAddr { host: "example.net".to_owned(), port: 7 };
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let found = ["[::1]:7", "[::2]:7", "10.0.0.1:7", "10.0.0.2:7"].map(address);
    let ordered = server.ordered(Ok(found.to_vec())).unwrap();
    assert_eq!(ordered, ["[::1]:7", "10.0.0.1:7", "[::2]:7", "10.0.0.2:7"].map(address));
    assert_eq!(server.ordered(Ok(Vec::new())).unwrap_err().kind(), Unavailable);

    let place = Place { server, address: address("10.0.0.1:7") };
    assert_eq!(place.to_string(), "example.net:7 (10.0.0.1)");
    let literal = ServerAddr { host: "::1".to_owned(), port: 7 };
    assert_eq!(Place { server: literal, address: address("[::1]:7") }.to_string(), "[::1]:7");
}

#[tokio::test]
async fn an_address_needs_no_resolver_and_a_name_that_is_none_is_named() {
    let address = |host: &str| ServerAddr { host: host.to_owned(), port: 7 };
    assert_eq!(address("::1").addresses().await.unwrap(), ["[::1]:7".parse().unwrap()]);
    let error = address("host.invalid").addresses().await.unwrap_err();
    assert_eq!(error.kind(), Unavailable);
    assert!(error.message().contains("host.invalid:7"), "{error}");
}
