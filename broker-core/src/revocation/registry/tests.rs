//! The registry, by itself: who is hit, who is not, and that nothing stays for ever.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::UNIX_EPOCH,
};

use super::*;
use crate::hub::Hub;

const NODE: NodeId = NodeId::from_u64(1);
const OTHER: NodeId = NodeId::from_u64(2);
const SKEW: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

fn registry() -> Registry {
    Registry::new(NODE, SKEW, HOUR)
}

/// A session of an identity, admitted or not.
fn admit(registry: &Registry, id: u64, identity: &Identity) -> Result<Arc<Session>, Revoked> {
    let session = Arc::new(Session::new(id, Arc::new(Hub::new(1, 0))));
    registry.admit(id, identity, &session).map(|()| session).map_err(|refused| refused.what)
}

/// How long another token would be refused.
fn wait(registry: &Registry, identity: &Identity) -> Option<Duration> {
    let session = Arc::new(Session::new(9, Arc::new(Hub::new(1, 0))));
    registry.admit(9, identity, &session).unwrap_err().wait
}

fn ada(began: impl Into<crate::AuthenticatedAt>) -> Identity {
    Identity::new("ada", began)
}

/// A record of another node, which took effect at that moment by its clock.
fn foreign(number: u64, at: SystemTime) -> Bytes {
    let record = Record::new(Revocation::user("ada").effective(at), RecordId { node: OTHER, number });
    record.encode().unwrap()
}

fn is_open(session: &Session) -> bool {
    session.close_reason().is_none()
}

#[test]
fn an_earlier_session_is_revoked_and_a_later_one_is_not() {
    let registry = registry();
    for _ in 0..1000 {
        let began = Instant::now();
        let before = admit(&registry, 1, &ada(Instant::now())).unwrap();
        registry.revoke(Revocation::user("ada")).unwrap();
        let after = admit(&registry, 2, &ada(Instant::now())).unwrap();
        assert!(!is_open(&before) && is_open(&after));
        assert_eq!(admit(&registry, 3, &ada(began)).unwrap_err(), Revoked::User, "began before");
    }
}

#[test]
fn a_token_that_this_server_issued_is_compared_by_its_clock_alone() {
    let registry = registry();
    let issued = |at| ada(AuthenticatedAt::issued_here(at));
    for _ in 0..1000 {
        let token = issued(SystemTime::now());
        let before = admit(&registry, 1, &token).unwrap();
        registry.revoke(Revocation::user("ada")).unwrap();
        let after = admit(&registry, 2, &issued(SystemTime::now())).unwrap();
        assert!(!is_open(&before) && is_open(&after));
        assert_eq!(admit(&registry, 3, &token).unwrap_err(), Revoked::User, "issued before");
    }
    // Of another server: with the allowance, and no later than the news was here.
    let now = SystemTime::now();
    registry.receive(&foreign(1, now - SKEW / 2)).unwrap();
    assert!(admit(&registry, 4, &issued(now)).is_err());
    assert!(admit(&registry, 5, &issued(SystemTime::now() + Duration::from_nanos(1))).is_ok());
    registry.receive(&foreign(2, now - SKEW * 2)).unwrap();
    let later = now + Duration::from_secs(60);
    assert!(admit(&registry, 6, &issued(later)).is_ok());
}

#[test]
fn the_wait_is_as_long_as_tokens_of_whole_seconds_are_refused() {
    let registry = registry();
    let floor =
        |at: SystemTime| UNIX_EPOCH + Duration::from_secs(at.duration_since(UNIX_EPOCH).unwrap().as_secs());
    registry.revoke(Revocation::user("ada")).unwrap();
    let now = SystemTime::now();
    let second = Duration::from_secs(1);
    for (limit, token) in [
        (second, ada(AuthenticatedAt::issued_here(floor(now)))),
        (SKEW + second, ada(floor(now))),
        (SKEW + second, ada(UNIX_EPOCH)),
    ] {
        let issued_here = matches!(token.authenticated_at.clock, Clock::Server);
        let wait = wait(&registry, &token).unwrap();
        assert!(wait <= limit, "{wait:?}");
        // The clock that is read for the wait is a little later.
        let next = floor(now + wait + Duration::from_millis(500));
        let next = if issued_here { ada(AuthenticatedAt::issued_here(next)) } else { ada(next) };
        assert!(admit(&registry, 1, &next).is_ok(), "{wait:?}");
    }
    assert_eq!(
        wait(&registry, &ada(now.checked_sub(HOUR).unwrap())).map(|wait| wait <= SKEW + second),
        Some(true)
    );
    let old = Instant::now().checked_sub(Duration::from_millis(50)).unwrap();
    assert_eq!(wait(&registry, &ada(old)), None, "a check that begins now is let in");
    // What is about other keys of the user keeps nobody waiting.
    let key = ada(now - HOUR).with_auth_id("k1");
    let registry = self::registry();
    registry.revoke(Revocation::auth_id("ada", "k1").effective(now - SKEW * 2)).unwrap();
    registry.revoke(Revocation::auth_id("ada", "k2")).unwrap();
    assert_eq!(wait(&registry, &key), None);
}

/// Whoever signed in while the clock of this server was an hour ahead, or behind, is compared by what it says now. By
/// what it said then, too, for the other clock stands still while the machine sleeps: so who signed in while it was
/// behind may have to do so again.
#[test]
fn a_corrected_clock_does_not_spare_earlier_sessions() {
    for (ahead, behind) in [(HOUR, Duration::ZERO), (Duration::ZERO, HOUR)] {
        let registry = registry();
        let here = Instant::now();
        let wall = SystemTime::now() + ahead - behind;
        let identity = ada(AuthenticatedAt { wall, clock: Clock::Process(here) });
        let session = admit(&registry, 1, &identity).unwrap();
        // Long before the sign-in, by clocks that are right.
        registry.receive(&foreign(1, SystemTime::now() - SKEW - Duration::from_secs(1))).unwrap();
        assert!(is_open(&session) || !behind.is_zero(), "rule by a revocation from before");
        registry.receive(&foreign(2, SystemTime::now())).unwrap();
        assert!(!is_open(&session), "survives a revocation from after");
        assert!(admit(&registry, 2, &identity).is_err());
    }
}

/// A revocation replaces an earlier one only if it hits everyone whom that one hit, by whatever clock.
#[test]
fn a_clock_set_back_between_two_revocations_spares_no_session() {
    let now = Moment::now();
    let back = |at: SystemTime| at - HOUR;
    let rule = |number, received: Moment| {
        let record = Record::new(
            Revocation::user("ada").effective(received.no_earlier),
            RecordId { node: NODE, number },
        );
        RevocationRule::new(record, Bytes::new(), received, SKEW, None)
    };
    let later = now.mono + Duration::from_secs(1);
    let first = rule(1, now);
    let set_back =
        rule(2, Moment { mono: later, no_later: back(now.no_later), no_earlier: back(now.no_earlier) });
    let (second, forward) = (Duration::from_secs(1), |at: SystemTime| at + Duration::from_secs(1));
    assert!(!set_back.covers(&first));
    let as_it_should = Moment {
        mono: now.mono + second,
        no_later: forward(now.no_later),
        no_earlier: forward(now.no_earlier),
    };
    assert!(rule(3, as_it_should).covers(&first));
}

/// The monotonic clock does not count the time for which a machine is suspended.
#[test]
fn a_suspended_server_applies_revocations_made_meanwhile() {
    let identity = ada(Instant::now());
    let AuthenticatedAt { wall, clock: Clock::Process(began) } = identity.authenticated_at else {
        panic!("dated by this process")
    };
    let awake =
        Moment { mono: began + Duration::from_secs(1), no_later: wall + HOUR, no_earlier: wall + HOUR };
    let at = wall + HOUR / 2;
    let bytes = foreign(1, at);
    let rule =
        RevocationRule::new(Record::decode(&bytes).unwrap(), bytes, awake, SKEW, Some(with_skew(at, SKEW)));
    assert!(rule.hits(&identity));
}

#[test]
fn a_future_date_is_refused_or_reduced_to_now() {
    let dated = |at: AuthenticatedAt| Identity::new("ada", at).until_now(SKEW);
    let (now, soon, far) = (SystemTime::now(), SKEW / 2, SKEW + HOUR);
    for from in [AuthenticatedAt::issued_here as fn(SystemTime) -> AuthenticatedAt, AuthenticatedAt::from] {
        assert!(dated(from(now + soon)).is_ok());
        let error = dated(from(now + far)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
        assert!(error.message().contains("in the future"), "{error}");
    }
    let own = dated(AuthenticatedAt::issued_here(now + soon)).unwrap();
    assert!(own.authenticated_at() <= SystemTime::now());
}

#[test]
fn another_servers_clock_is_allowed_its_skew_only() {
    let registry = registry();
    let (second, now) = (Duration::from_secs(1), SystemTime::now());
    // Of a server that is behind by all that is allowed for; and by one second more.
    registry.receive(&foreign(1, now - SKEW + second)).unwrap();
    assert!(admit(&registry, 1, &ada(now)).is_err());
    assert!(admit(&registry, 2, &ada(now + second * 2)).is_ok());

    let registry = self::registry();
    registry.receive(&foreign(1, now - SKEW - second)).unwrap();
    assert!(admit(&registry, 1, &ada(now)).is_ok(), "the difference is larger than clock_skew");
}

#[test]
fn a_check_begun_after_a_record_arrived_is_not_revoked_by_it() {
    let registry = registry();
    let began = Instant::now();
    registry.receive(&foreign(1, SystemTime::now() + HOUR)).unwrap();
    let later = Instant::now() + Duration::from_nanos(1);
    assert!(admit(&registry, 1, &ada(began)).is_err());
    assert!(admit(&registry, 2, &ada(later)).is_ok());
}

#[test]
fn a_token_of_another_server_is_compared_by_its_timestamp() {
    let registry = registry();
    let now = SystemTime::now();
    registry.revoke(Revocation::user("ada")).unwrap();
    assert!(admit(&registry, 1, &ada(now - HOUR)).is_err());
    assert!(admit(&registry, 2, &ada(now + SKEW / 2)).is_err(), "within the allowance");
    assert!(admit(&registry, 3, &ada(now + SKEW * 2)).is_ok());
}

#[test]
fn an_earlier_effective_time_spares_later_sign_ins() {
    let registry = registry();
    let (old, new) = (Instant::now(), Instant::now() + Duration::from_millis(500));
    let since = admit(&registry, 1, &ada(new)).unwrap();
    let before = admit(&registry, 2, &ada(old)).unwrap();
    registry
        .revoke(Revocation::user("ada").effective(SystemTime::now() + Duration::from_millis(100)))
        .unwrap();
    assert!(is_open(&since) && !is_open(&before));
}

#[test]
fn a_record_received_twice_counts_once() {
    let registry = registry();
    let record = foreign(1, SystemTime::now() + HOUR);
    registry.receive(&record).unwrap();
    let session = admit(&registry, 1, &ada(Instant::now() + Duration::from_nanos(1))).unwrap();
    // Received for the first time now, it would hit.
    registry.receive(&record).unwrap();
    assert!(is_open(&session));
    registry.receive(&foreign(2, SystemTime::now() + HOUR)).unwrap();
    assert!(!is_open(&session));
}

#[test]
fn others_are_untouched() {
    let registry = registry();
    let began = Instant::now();
    let eve = admit(&registry, 1, &Identity::new("eve", began)).unwrap();
    let key = admit(&registry, 2, &ada(began).with_auth_id("k1")).unwrap();
    let scope = admit(&registry, 3, &ada(began).with_scopes(["board"])).unwrap();
    registry.revoke(Revocation::auth_id("ada", "k2")).unwrap();
    registry.revoke(Revocation::scopes("ada", ["admin"])).unwrap();
    registry.revoke(Revocation::user("ad")).unwrap();
    assert!([&eve, &key, &scope].into_iter().all(|session| is_open(session)));
    registry.revoke(Revocation::auth_id("ada", "k1")).unwrap();
    registry.revoke(Revocation::scopes("ada", ["board", "admin"])).unwrap();
    assert!(is_open(&eve) && !is_open(&key) && !is_open(&scope));
}

#[test]
fn uncertainty_closes_earlier_sessions() {
    let registry = registry();
    let old =
        [admit(&registry, 1, &ada(Instant::now())).unwrap(), admit(&registry, 2, &ada(UNIX_EPOCH)).unwrap()];
    let now = Instant::now();
    let new = admit(&registry, 3, &ada(now)).unwrap();
    registry.close_uncertain(now, Uncertainty::LeaseExpired);
    assert!(old.iter().all(|session| !is_open(session)) && is_open(&new));
}

#[test]
fn records_older_than_the_retention_are_forgotten() {
    let registry = Registry::new(NODE, SKEW, Duration::from_millis(20));
    for number in 0..2000 {
        registry.receive(&foreign(number, SystemTime::now())).unwrap();
        registry.revoke(Revocation::user(format!("user {number}"))).unwrap();
    }
    let session = admit(&registry, 1, &ada(Instant::now() + HOUR)).unwrap();
    while !registry.remembered().is_empty() {
        std::thread::yield_now();
    }
    let state = registry.lock();
    assert_eq!((state.users.len(), state.seen.len(), state.ages.len()), (1, 0, 0));
    let capacities = [state.seen.capacity(), state.ages.capacity(), state.users.capacity()];
    assert!(capacities.iter().all(|capacity| *capacity <= 1024), "{capacities:?}");
    drop(state);
    registry.forget(1, &ada(Instant::now()));
    drop(session);
    assert!(registry.lock().users.is_empty());
}

#[test]
fn the_last_of_equal_revocations_is_kept() {
    let registry = registry();
    for _ in 0..100 {
        registry.revoke(Revocation::user("ada")).unwrap();
        registry.revoke(Revocation::auth_id("ada", "k1")).unwrap();
    }
    assert_eq!(registry.remembered().len(), 2);
}

/// 100,000 sign-ins from several threads, around the moment at which their user is revoked: none that began before
/// lives on, and none that began after was cut.
#[test]
fn a_race_revokes_every_earlier_session_and_no_later_one() {
    const USERS: usize = 2000;
    const EACH: usize = 50;
    type SignIn = (usize, Instant, bool, Arc<Session>);
    let registry = &registry();
    let (signed_in, now) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let sessions: &Mutex<Vec<SignIn>> = &Mutex::default();
    let revoked: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while now.load(Relaxed) < USERS {
                    let number = signed_in.fetch_add(1, Relaxed);
                    let user = now.load(Relaxed).saturating_sub(1) + number % 3;
                    let began = Instant::now();
                    let session = Arc::new(Session::new(number as u64, Arc::new(Hub::new(1, 0))));
                    let identity = Identity::new(format!("user {user}"), began);
                    let admitted = registry.admit(number as u64, &identity, &session).is_ok();
                    sessions.lock().unwrap().push((user, began, admitted, session));
                }
            });
        }
        let revoke = |user| {
            while signed_in.load(Relaxed) < user * EACH {
                std::thread::yield_now();
            }
            let called = Instant::now();
            registry.revoke(Revocation::user(format!("user {user}"))).unwrap();
            let done = Instant::now();
            now.store(user + 1, Relaxed);
            (called, done)
        };
        (0..USERS).map(revoke).collect()
    });
    let sessions = sessions.lock().unwrap();
    let (mut rule, mut refused, mut open) = (0, 0, 0);
    for (user, began, admitted, session) in sessions.iter().filter(|(user, ..)| *user < USERS) {
        let (called, done) = revoked[*user];
        let lives = *admitted && is_open(session);
        assert!(!lives || *began > called, "began before the revocation, and lives");
        assert!(lives || *began <= done, "began after the revocation, and was rule");
        *(if lives {
            &mut open
        } else if *admitted {
            &mut rule
        } else {
            &mut refused
        }) += 1;
    }
    assert!(sessions.len() >= USERS * EACH - EACH);
    // Each way was taken: the race was one.
    assert!(rule > 1000 && open > 1000 && refused > 0, "rule {rule}, refused {refused}, open {open}");
}
