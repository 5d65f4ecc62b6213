//! The register, by itself: who is hit, who is not, and that nothing stays for ever.

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

fn register() -> Register {
    Register::new(NODE, SKEW, HOUR)
}

/// A session of an identity, admitted or not.
fn admit(register: &Register, id: u64, identity: &Identity) -> Result<Arc<Session>, Revoked> {
    let session = Arc::new(Session::new(id, Arc::new(Hub::new(1))));
    register.admit(id, identity, &session).map(|()| session)
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
fn a_session_from_before_is_cut_and_one_of_the_next_line_is_not() {
    let register = register();
    for _ in 0..1000 {
        let began = Instant::now();
        let before = admit(&register, 1, &ada(Instant::now())).unwrap();
        register.revoke(Revocation::user("ada")).unwrap();
        let after = admit(&register, 2, &ada(Instant::now())).unwrap();
        assert!(!is_open(&before) && is_open(&after));
        assert_eq!(admit(&register, 3, &ada(began)).unwrap_err(), Revoked::User, "began before");
    }
}

#[test]
fn another_servers_clock_is_allowed_for_and_no_more() {
    let register = register();
    let (second, now) = (Duration::from_secs(1), SystemTime::now());
    // Of a server that is behind by all that is allowed for; and by one second more.
    register.hear(&foreign(1, now - SKEW + second)).unwrap();
    assert!(admit(&register, 1, &ada(now)).is_err());
    assert!(admit(&register, 2, &ada(now + second * 2)).is_ok());

    let register = self::register();
    register.hear(&foreign(1, now - SKEW - second)).unwrap();
    assert!(admit(&register, 1, &ada(now)).is_ok(), "the difference is larger than clock_skew");
}

#[test]
fn who_begins_after_the_news_is_here_is_not_cut_however_wrong_the_other_clock() {
    let register = register();
    let began = Instant::now();
    register.hear(&foreign(1, SystemTime::now() + HOUR)).unwrap();
    let later = Instant::now() + Duration::from_nanos(1);
    assert!(admit(&register, 1, &ada(began)).is_err());
    assert!(admit(&register, 2, &ada(later)).is_ok());
}

#[test]
fn a_token_of_another_server_is_compared_by_its_time_stamp() {
    let register = register();
    let now = SystemTime::now();
    register.revoke(Revocation::user("ada")).unwrap();
    assert!(admit(&register, 1, &ada(now - HOUR)).is_err());
    assert!(admit(&register, 2, &ada(now + SKEW / 2)).is_err(), "within the allowance");
    assert!(admit(&register, 3, &ada(now + SKEW * 2)).is_ok());
}

#[test]
fn one_that_took_effect_earlier_spares_who_signed_in_since() {
    let register = register();
    let (old, new) = (Instant::now(), Instant::now() + Duration::from_millis(500));
    let since = admit(&register, 1, &ada(new)).unwrap();
    let before = admit(&register, 2, &ada(old)).unwrap();
    register
        .revoke(Revocation::user("ada").effective(SystemTime::now() + Duration::from_millis(100)))
        .unwrap();
    assert!(is_open(&since) && !is_open(&before));
}

#[test]
fn a_record_met_twice_counts_once() {
    let register = register();
    let record = foreign(1, SystemTime::now() + HOUR);
    register.hear(&record).unwrap();
    let session = admit(&register, 1, &ada(Instant::now() + Duration::from_nanos(1))).unwrap();
    // Heard for the first time now, it would hit.
    register.hear(&record).unwrap();
    assert!(is_open(&session));
    register.hear(&foreign(2, SystemTime::now() + HOUR)).unwrap();
    assert!(!is_open(&session));
}

#[test]
fn others_are_untouched() {
    let register = register();
    let began = Instant::now();
    let eve = admit(&register, 1, &Identity::new("eve", began)).unwrap();
    let key = admit(&register, 2, &ada(began).with_auth_id("k1")).unwrap();
    let scope = admit(&register, 3, &ada(began).with_scopes(["board"])).unwrap();
    register.revoke(Revocation::auth_id("ada", "k2")).unwrap();
    register.revoke(Revocation::scopes("ada", ["admin"])).unwrap();
    register.revoke(Revocation::user("ad")).unwrap();
    assert!([&eve, &key, &scope].into_iter().all(|session| is_open(session)));
    register.revoke(Revocation::auth_id("ada", "k1")).unwrap();
    register.revoke(Revocation::scopes("ada", ["board", "admin"])).unwrap();
    assert!(is_open(&eve) && !is_open(&key) && !is_open(&scope));
}

#[test]
fn doubt_closes_who_began_before() {
    let register = register();
    let old =
        [admit(&register, 1, &ada(Instant::now())).unwrap(), admit(&register, 2, &ada(UNIX_EPOCH)).unwrap()];
    let now = Instant::now();
    let new = admit(&register, 3, &ada(now)).unwrap();
    register.doubt(now, Doubt::LeaseExpired);
    assert!(old.iter().all(|session| !is_open(session)) && is_open(&new));
}

#[test]
fn what_is_older_than_the_retention_is_forgotten() {
    let register = Register::new(NODE, SKEW, Duration::from_millis(20));
    for number in 0..2000 {
        register.hear(&foreign(number, SystemTime::now())).unwrap();
        register.revoke(Revocation::user(format!("user {number}"))).unwrap();
    }
    let session = admit(&register, 1, &ada(Instant::now() + HOUR)).unwrap();
    while !register.remembered().is_empty() {
        std::thread::yield_now();
    }
    let state = register.lock();
    assert_eq!((state.users.len(), state.seen.len(), state.ages.len()), (1, 0, 0));
    let capacities = [state.seen.capacity(), state.ages.capacity(), state.users.capacity()];
    assert!(capacities.iter().all(|capacity| *capacity <= 1024), "{capacities:?}");
    drop(state);
    register.forget(1, &ada(Instant::now()));
    drop(session);
    assert!(register.lock().users.is_empty());
}

#[test]
fn of_several_that_mean_the_same_the_last_is_remembered() {
    let register = register();
    for _ in 0..100 {
        register.revoke(Revocation::user("ada")).unwrap();
        register.revoke(Revocation::auth_id("ada", "k1")).unwrap();
    }
    assert_eq!(register.remembered().len(), 2);
}

/// 100,000 sign-ins from several threads, around the moment at which their user is revoked: none that began before
/// lives on, and none that began after was cut.
#[test]
fn nobody_escapes_a_race_and_nobody_is_cut_who_signed_in_after() {
    const USERS: usize = 2000;
    const EACH: usize = 50;
    type SignIn = (usize, Instant, bool, Arc<Session>);
    let register = &register();
    let (signed_in, now) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    let sessions: &Mutex<Vec<SignIn>> = &Mutex::default();
    let revoked: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while now.load(Relaxed) < USERS {
                    let number = signed_in.fetch_add(1, Relaxed);
                    let user = now.load(Relaxed).saturating_sub(1) + number % 3;
                    let began = Instant::now();
                    let session = Arc::new(Session::new(number as u64, Arc::new(Hub::new(1))));
                    let identity = Identity::new(format!("user {user}"), began);
                    let admitted = register.admit(number as u64, &identity, &session).is_ok();
                    sessions.lock().unwrap().push((user, began, admitted, session));
                }
            });
        }
        let revoke = |user| {
            while signed_in.load(Relaxed) < user * EACH {
                std::thread::yield_now();
            }
            let called = Instant::now();
            register.revoke(Revocation::user(format!("user {user}"))).unwrap();
            let done = Instant::now();
            now.store(user + 1, Relaxed);
            (called, done)
        };
        (0..USERS).map(revoke).collect()
    });
    let sessions = sessions.lock().unwrap();
    let (mut cut, mut refused, mut open) = (0, 0, 0);
    for (user, began, admitted, session) in sessions.iter().filter(|(user, ..)| *user < USERS) {
        let (called, done) = revoked[*user];
        let lives = *admitted && is_open(session);
        assert!(!lives || *began > called, "began before the revocation, and lives");
        assert!(lives || *began <= done, "began after the revocation, and was cut");
        *(if lives {
            &mut open
        } else if *admitted {
            &mut cut
        } else {
            &mut refused
        }) += 1;
    }
    assert!(sessions.len() >= USERS * EACH - EACH);
    // Each way was taken: the race was one.
    assert!(cut > 1000 && open > 1000 && refused > 0, "cut {cut}, refused {refused}, open {open}");
}
