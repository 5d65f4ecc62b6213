//! Cases about revocation while everybody is connected: who is cut, who is not, and who signs in meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use broker_core::{
    AuthenticatedAt, CloseReason, ErrorKind, Identity, Received, Revocation, RevocationOutcome, Revoked,
    Session, driver::Reach,
};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{
        Count, count, listener, no_more_calls, post, receives,
        revocation::{open, refused, sign_in, sign_out, signed_out},
    },
    wait::{until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_revoked_user_is_signed_out_on_every_node, [9, 8]).needs(&[Need::Log]),
    case!(revoking_an_auth_id_closes_its_sessions_and_no_other, [9]),
    case!(revoking_a_scope_closes_its_sessions_and_no_other, [9]),
    case!(anonymous_sessions_and_other_users_stay_open, [9]).needs(&[Need::Log]),
    case!(revoking_twice_or_for_an_unknown_user_is_harmless, [9]).needs(&[Need::Log]),
    case!(signing_in_right_after_a_revocation_is_accepted, [9]).needs(&[Need::Log]),
    case!(a_check_begun_before_a_revocation_is_refused_after_it, [9]).needs(&[Need::Log]),
    case!(a_token_issued_here_after_a_revocation_is_accepted, [9]).needs(&[Need::Log]),
    case!(a_refused_token_reports_when_to_sign_in_again, [9]).needs(&[Need::Log]),
    case!(clocks_within_the_allowed_skew_revoke_every_session, [9]),
    case!(clocks_beyond_the_allowed_skew_are_not_covered, [9]).needs(&[Need::Log]),
    case!(no_sign_in_escapes_a_concurrent_revocation, [9]).needs(&[Need::Log]),
    case!(a_flooded_channel_does_not_delay_a_revocation, [9]).needs(&[Need::Log]),
    case!(the_first_session_of_a_node_is_checked_against_earlier_revocations, [9]).needs(&[Need::Log]),
    case!(every_verb_refuses_an_invalid_user_or_scope, [9, 11]),
    case!(different_prefixes_isolate_revocations, [9]).needs(&[Need::Log]),
];

async fn a_revoked_user_is_signed_out_on_every_node(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let (here, also_here) = (sign_in(&a, "ada").await?, sign_in(&a, "ada").await?);
    let (there, also_there) = (sign_in(&b, "ada").await?, sign_in(&b, "ada").await?);
    let mut stream = there.create_stream::<Count>("counts").await?;
    let mut calls = listener(&also_there, "counts").await?;
    let revoker = a.session();
    let revoking = revoker.revoke_authentication(Revocation::user("ada"));
    let outcome = within("the revocation", revoking).await??;
    assert_eq!(outcome, RevocationOutcome::Logged);
    // Not: in a moment.
    assert!(here.is_closed() && also_here.is_closed());
    for session in [&here, &also_here, &there, &also_there] {
        signed_out(session).await?;
    }
    assert!(within("the stream to end", stream.next()).await?.is_none());
    let why = stream.close_reason();
    assert!(matches!(why, Some(CloseReason::AuthenticationRevoked(Revoked::User))), "{why:?}");
    count(&a, "counts", 1).await?;
    no_more_calls(&mut calls).await?;
    let error = there.create_stream::<Count>("counts").await.expect_err("the session is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(!revoker.is_closed());
    Ok(())
}

async fn revoking_an_auth_id_closes_its_sessions_and_no_other(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let key = |key: &str| Identity::new("ada", Instant::now()).with_auth_id(key);
    let (hit, other) = (open(&b, key("k1")).await?, open(&b, key("k2")).await?);
    let without = sign_in(&b, "ada").await?;
    let eve = open(&b, Identity::new("eve", Instant::now()).with_auth_id("k1")).await?;
    a.revoke(Revocation::auth_id("ada", "k1")).await?;
    match within("the session to end", hit.closed()).await? {
        CloseReason::AuthenticationRevoked(Revoked::AuthId(id)) if id == "k1" => {}
        other => return Err(format!("ended because {other:?}").into()),
    }
    assert!([&other, &without, &eve].into_iter().all(|session| !session.is_closed()));
    Ok(())
}

async fn revoking_a_scope_closes_its_sessions_and_no_other(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let scoped = |scopes: &[&str]| Identity::new("ada", Instant::now()).with_scopes(scopes.iter().copied());
    let hit = open(&b, scoped(&["board", "admin"])).await?;
    let (other, none) = (open(&b, scoped(&["board"])).await?, open(&b, scoped(&[])).await?);
    a.revoke(Revocation::scopes("ada", ["admin", "billing"])).await?;
    let why = within("the session to end", hit.closed()).await?;
    assert!(matches!(why, CloseReason::AuthenticationRevoked(Revoked::Scopes(_))), "{why:?}");
    assert!(!other.is_closed() && !none.is_closed());
    Ok(())
}

async fn anonymous_sessions_and_other_users_stay_open(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let (anonymous, eve, ada) = (b.session(), sign_in(&b, "eve").await?, sign_in(&b, "ada").await?);
    let mut streams = [anonymous.subscribe("news").await?, eve.subscribe("news").await?];
    sign_out(&a, "ada").await?;
    sign_out(&a, "ad").await?;
    sign_out(&a, "Ada").await?;
    signed_out(&ada).await?;
    post(&a, "news", "life goes on").await?;
    for stream in &mut streams {
        receives(stream, "life goes on").await?;
    }
    Ok(())
}

async fn revoking_twice_or_for_an_unknown_user_is_harmless(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let ada = sign_in(&b, "ada").await?;
    sign_out(&a, "unknown user").await?;
    for _ in 0..3 {
        sign_out(&a, "ada").await?;
    }
    sign_out(&b, "ada").await?;
    Ok(signed_out(&ada).await?)
}

/// On the very next line of the same program, at once; and on another node, whose clock is the same here, too.
async fn signing_in_right_after_a_revocation_is_accepted(h: &dyn Harness) -> Outcome {
    let a = h.node().await?;
    let b = h.node_with(|options| options.clock_skew = Duration::ZERO).await?;
    let mut sessions = Vec::new();
    for round in 0..30 {
        let user = format!("user {round}");
        sign_out(&a, &user).await?;
        sessions.push(sign_in(&a, &user).await?);
        sessions.push(sign_in(&b, &user).await?);
    }
    // What was under way to either node has arrived when these have.
    let witnesses = [sign_in(&a, "witness").await?, sign_in(&b, "witness").await?];
    sign_out(&a, "witness").await?;
    for witness in &witnesses {
        signed_out(witness).await?;
    }
    let cut = sessions.iter().filter(|session| session.is_closed()).count();
    if cut == 0 { Ok(()) } else { Err(format!("{cut} of {} were cut", sessions.len()).into()) }
}

async fn a_check_begun_before_a_revocation_is_refused_after_it(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let witness = sign_in(&b, "ada").await?;
    let began = Instant::now();
    sign_out(&a, "ada").await?;
    refused(&a, Identity::new("ada", began)).await?;
    signed_out(&witness).await?;
    refused(&b, Identity::new("ada", began)).await?;
    // A token that was issued before, by whatever server.
    let issued = SystemTime::now() - Duration::from_secs(60);
    refused(&b, Identity::new("ada", issued)).await?;
    let other = Identity::new("eve", began);
    open(&b, other).await.map(drop)?;
    Ok(())
}

/// On the very next line, as with a check of a password; and the token from the line before is refused everywhere.
async fn a_token_issued_here_after_a_revocation_is_accepted(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let issue = |user: &str| Identity::new(user, AuthenticatedAt::issued_here(SystemTime::now()));
    let mut sessions = Vec::new();
    for round in 0..30 {
        let user = format!("user {round}");
        let (old, there) = (issue(&user), sign_in(&b, &user).await?);
        let cut = open(&a, old.clone()).await?;
        sign_out(&a, &user).await?;
        sessions.push(open(&a, issue(&user)).await?);
        refused(&a, old.clone()).await?;
        signed_out(&cut).await?;
        signed_out(&there).await?;
        refused(&b, old).await?;
    }
    let witness = sign_in(&a, "witness").await?;
    sign_out(&b, "witness").await?;
    signed_out(&witness).await?;
    assert!(sessions.iter().all(|session| !session.is_closed()));
    Ok(())
}

/// Tokens have whole seconds, and other servers other clocks: who signs in too early is told how long to wait.
async fn a_refused_token_reports_when_to_sign_in_again(h: &dyn Harness) -> Outcome {
    let a = h.node().await?;
    let second = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UNIX_EPOCH + Duration::from_secs(now.as_secs())
    };
    let own = || Identity::new("ada", AuthenticatedAt::issued_here(second()));
    let other = || Identity::new("ada", second());
    for (token, most) in [(&own as &(dyn Fn() -> Identity + Sync), 1), (&other, 2)] {
        let refusals = async {
            loop {
                // What was issued before is refused in any case.
                let old = token();
                sign_out(&a, "ada").await?;
                let error = a.session_for(old).await.expect_err("issued before");
                assert_eq!(error.kind(), ErrorKind::Revoked, "{error}");
                // On a slow machine it may be over already.
                if let Some(wait) = error.retry_after() {
                    return Ok::<_, String>((error, wait));
                }
            }
        };
        let (error, wait) = within("a time to wait", refusals).await??;
        assert!(wait <= Duration::from_secs(most) && error.message().contains("sign in again in"), "{error}");
        tokio::time::sleep(wait).await;
        open(&a, token()).await.map(drop)?;
    }
    let began = Instant::now();
    sign_out(&a, "ada").await?;
    let error = a.session_for(Identity::new("ada", began)).await.expect_err("it began before");
    assert_eq!(error.retry_after(), None, "{error}");
    Ok(())
}

/// A server whose clock is behind stamps its revocations too early: by `Revocation::effective` one here does.
async fn clocks_within_the_allowed_skew_revoke_every_session(h: &dyn Harness) -> Outcome {
    let a = h.node().await?;
    let b = h.node_with(|options| options.clock_skew = Duration::from_secs(60)).await?;
    let ada = sign_in(&b, "ada").await?;
    let behind = SystemTime::now() - Duration::from_secs(50);
    a.revoke(Revocation::user("ada").effective(behind)).await?;
    signed_out(&ada).await?;
    // Who signs in when the news is here is past it, whatever the clocks say.
    sign_in(&b, "ada").await.map(drop)?;
    Ok(())
}

async fn clocks_beyond_the_allowed_skew_are_not_covered(h: &dyn Harness) -> Outcome {
    let a = h.node().await?;
    let b = h.node_with(|options| options.clock_skew = Duration::from_secs(60)).await?;
    let (ada, witness) = (sign_in(&b, "ada").await?, sign_in(&b, "witness").await?);
    let behind = SystemTime::now() - Duration::from_secs(70);
    a.revoke(Revocation::user("ada").effective(behind)).await?;
    sign_out(&a, "witness").await?;
    signed_out(&witness).await?;
    // So it is not larger than it has to be: who signed in well after the revocation is not cut.
    assert!(!ada.is_closed());
    Ok(())
}

/// How many sign-ins the race has: more where no server stands between the nodes.
fn racers(h: &dyn Harness) -> usize {
    if h.capabilities().reach == Reach::Cluster { 10_000 } else { 100_000 }
}

/// What became of one sign-in.
struct Racer {
    user: usize,
    began: Instant,
    session: Option<Session>,
}

/// Sign-ins on two nodes, around the moment at which a third revokes their user: none that began before lives on, and
/// none is cut that began after. The clocks are one here, so there is no need to allow for a difference.
async fn no_sign_in_escapes_a_concurrent_revocation(h: &dyn Harness) -> Outcome {
    const EACH: usize = 100;
    let (racers, exact) =
        (racers(h), |options: &mut broker_core::Options| options.clock_skew = Duration::ZERO);
    let users = racers / EACH;
    let revoker = h.node_with(exact).await?;
    let (begun, revoked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (finish, mut finished) = unbounded_channel();
    let mut signing = Vec::new();
    let nodes = [h.node_with(exact).await?, h.node_with(exact).await?];
    for node in &nodes {
        let (node, begun, revoked) = (node.broker.clone(), Arc::clone(&begun), Arc::clone(&revoked));
        let finish = finish.clone();
        signing.push(tokio::spawn(async move {
            while revoked.load(Relaxed) < users {
                let number = begun.fetch_add(1, Relaxed);
                let user = revoked.load(Relaxed).saturating_sub(1) + number % 3;
                let began = Instant::now();
                let opened = node.session_for(Identity::new(format!("user {user}"), began)).await;
                let session = match opened {
                    Err(error) if error.kind() != ErrorKind::Revoked => return Err(error.to_string()),
                    opened => opened.ok(),
                };
                let _ = finish.send(Racer { user, began, session });
                tokio::task::consume_budget().await;
            }
            Ok(())
        }));
    }
    let mut calls = Vec::with_capacity(users);
    for user in 0..users {
        until("the sign-ins to go on", || begun.load(Relaxed) >= user * EACH).await?;
        let called = Instant::now();
        sign_out(&revoker, &format!("user {user}")).await?;
        calls.push((called, Instant::now()));
        revoked.store(user + 1, Relaxed);
    }
    for task in signing {
        within("the sign-ins to end", task).await???;
    }
    drop(finish);
    let mut racers = Vec::new();
    finished.recv_many(&mut racers, usize::MAX).await;
    let early = |racer: &Racer| calls.get(racer.user).is_some_and(|(called, _)| racer.began <= *called);
    let late = |racer: &Racer| calls.get(racer.user).is_some_and(|(_, done)| racer.began > *done);
    let lives = |racer: &Racer| racer.session.as_ref().is_some_and(|session| !session.is_closed());
    until("nobody to have escaped", || !racers.iter().any(|racer| early(racer) && lives(racer))).await?;
    let cut = racers.iter().filter(|racer| late(racer) && !lives(racer)).count();
    let counts = (racers.iter().filter(|r| early(r)).count(), racers.iter().filter(|r| late(r)).count());
    assert!(cut == 0, "{cut} were cut that signed in after");
    assert!(counts.0 > 0 && counts.1 > 0, "no race: {counts:?}");
    Ok(())
}

/// Another publisher floods a channel that the session's node listens to; the flood is not over when the session is.
async fn a_flooded_channel_does_not_delay_a_revocation(h: &dyn Harness) -> Outcome {
    let (a, b, flooder) = (h.node().await?, h.node().await?, h.node().await?);
    let ada = sign_in(&b, "ada").await?;
    let listening = b.session();
    let received = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&received);
    let function = move |_: Received<Count>| {
        counting.fetch_add(1, Relaxed);
        async {}
    };
    listening.add_listener("flood", function).await?;
    let flood = tokio::spawn(async move {
        loop {
            let posts = (0..500).map(|n| count(&flooder, "flood", n));
            futures_util::future::try_join_all(posts).await?;
        }
        #[expect(unreachable_code, reason = "says what the task ends with")]
        Ok::<(), String>(())
    });
    until("the flood", || received.load(Relaxed) > 2000).await?;
    sign_out(&a, "ada").await?;
    signed_out(&ada).await?;
    let at_end = received.load(Relaxed);
    until("the flood to go on", || received.load(Relaxed) > at_end).await?;
    flood.abort();
    Ok(())
}

async fn the_first_session_of_a_node_is_checked_against_earlier_revocations(h: &dyn Harness) -> Outcome {
    let began = Instant::now();
    let a = h.node().await?;
    sign_out(&a, "ada").await?;
    a.close().await;
    let late = h.node().await?;
    refused(&late, Identity::new("ada", began)).await?;
    sign_in(&late, "ada").await.map(drop)?;
    Ok(())
}

async fn every_verb_refuses_an_invalid_user_or_scope(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let (empty, long) = (String::new(), "x".repeat(513));
    for user in [&empty, &long] {
        let opened = node.session_for(Identity::new(user, Instant::now())).await.expect_err("an error");
        let revoked = node.revoke(Revocation::user(user)).await.expect_err("an error");
        for error in [opened, revoked] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.message().contains("give 1 to 512"), "{error}");
        }
    }
    let error = node.revoke(Revocation::scopes("ada", Vec::<String>::new())).await.expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    Ok(())
}

async fn different_prefixes_isolate_revocations(h: &dyn Harness) -> Outcome {
    let prefix = h.options().prefix;
    let named = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
    let shop = h.node_with(|options| options.prefix = named("shop")).await?;
    let bank = h.node_with(|options| options.prefix = named("bank")).await?;
    let (in_shop, in_bank) = (sign_in(&shop, "ada").await?, sign_in(&bank, "ada").await?);
    let began = Instant::now();
    sign_out(&shop, "ada").await?;
    signed_out(&in_shop).await?;
    // Not received; nor read, by one that reads the log from its start.
    open(&bank, Identity::new("ada", began)).await.map(drop)?;
    let late = h.node_with(|options| options.prefix = named("bank")).await?;
    open(&late, Identity::new("ada", began)).await.map(drop)?;
    assert!(!in_bank.is_closed());
    Ok(())
}
