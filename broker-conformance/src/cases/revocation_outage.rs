//! Cases about revocations that a node could not receive: it was cut off, down, or not started yet; or the server was;
//! or the log has lost them.

use std::time::{Duration, Instant, SystemTime};

use broker_core::{
    Broker, CloseReason, ErrorKind, FailMode, Identity, Revocation, RevocationOutcome, Session, Uncertainty,
};

use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, Node},
    steps::{
        revocation::{open, refused, sign_in, sign_out, signed_out},
        wait_for_disconnect, wait_for_link,
    },
    wait::{SHORT, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_revocation_during_a_disconnect_is_applied_on_reconnect, [9]).needs(&[Need::Server, Need::Log]),
    case!(a_revocation_while_a_node_is_down_is_applied_when_it_starts, [9]).needs(&[Need::Log]),
    case!(a_revocation_survives_a_server_restart, [9]).needs(&[
        Need::OwnServer,
        Need::Durable,
        Need::Server,
        Need::Log,
    ]),
    case!(a_revocation_waits_for_the_server_to_return, [9]).needs(&[
        Need::OwnServer,
        Need::Server,
        Need::Log,
    ]),
    case!(revoke_closes_local_sessions_before_any_io, [9]).needs(&[Need::Server, Need::Log]),
    case!(a_wiped_log_is_detected_and_repaired, [9]).needs(&[Need::OwnServer, Need::Log]),
    case!(a_node_started_after_a_wipe_recovers_the_revocations, [9]).needs(&[Need::OwnServer, Need::Log]),
    case!(two_nodes_started_after_a_wipe_recover_the_revocations, [9]).needs(&[Need::OwnServer, Need::Log]),
    case!(a_log_trimmed_past_a_node_is_detected_and_repaired, [9]).needs(&[
        Need::OwnServer,
        Need::Server,
        Need::Log,
    ]),
    case!(a_rolled_back_log_is_detected_and_repaired, [9]).needs(&[
        Need::OwnServer,
        Need::Durable,
        Need::Log,
    ]),
    case!(a_session_opened_after_a_log_break_stays_open, [9]).needs(&[Need::Log]),
    case!(fail_mode_open_keeps_sessions_when_the_log_breaks, [9]).needs(&[Need::Log]),
    case!(without_a_lease_a_disconnected_node_keeps_its_sessions, [9]).needs(&[Need::Server, Need::Log]),
    case!(an_expired_lease_closes_sessions, [9]).needs(&[Need::Server]),
    case!(a_renewed_lease_keeps_sessions_open, [9]),
    case!(a_node_that_never_read_the_log_opens_no_user_session, [9]).needs(&[Need::Server, Need::Log]),
];

/// Reads the log now and then, so that a case need not wait for the poll.
fn vigilant(options: &mut broker_core::Options) {
    options.revocation_poll = Duration::from_millis(100);
}

async fn closed_as_uncertain(session: &Session) -> Result<Uncertainty, String> {
    match within("the session to be closed as uncertain", session.closed()).await? {
        CloseReason::AuthenticationUncertain(uncertainty) => Ok(uncertainty),
        other => Err(format!("expected a session closed as uncertain, it ended because {other}")),
    }
}

/// The session ends because the log lost records. How they were lost no backend can always tell: one that was wiped and
/// has grown again may look as if it were rolled back.
async fn broken_log(session: &Session) -> Result<(), String> {
    match closed_as_uncertain(session).await? {
        Uncertainty::LogBroken(_) => Ok(()),
        other => Err(format!("expected a log that broke, and {other}")),
    }
}

/// Nodes repair one after the other; then a node that starts anew knows what was revoked.
async fn known_to_a_new_node(h: &dyn Harness, identity: &Identity) -> Result<(), String> {
    let asking = async {
        loop {
            let node = h.node().await?;
            match node.session_for(identity.clone()).await {
                Err(error) if error.kind() == ErrorKind::Revoked => return Ok(()),
                Err(error) => return Err(error.to_string()),
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    within("the log to be repaired", asking).await?
}

async fn a_revocation_during_a_disconnect_is_applied_on_reconnect(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let (ada, eve) = (sign_in(&b, "ada").await?, sign_in(&b, "eve").await?);
    b.line.cut();
    wait_for_disconnect(&b).await?;
    sign_out(&a, "ada").await?;
    assert!(!ada.is_closed(), "nothing can have reached it");
    b.line.heal();
    signed_out(&ada).await?;
    wait_for_link(&b, 2).await?;
    assert!(!eve.is_closed());
    Ok(())
}

async fn a_revocation_while_a_node_is_down_is_applied_when_it_starts(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let issued = SystemTime::now();
    let (began, ada) = (Instant::now(), sign_in(&b, "ada").await?);
    b.close().await;
    drop((ada, b));
    sign_out(&a, "ada").await?;
    let again = h.node().await?;
    refused(&again, Identity::new("ada", began)).await?;
    refused(&again, Identity::new("ada", issued)).await?;
    open(&again, Identity::new("eve", issued)).await.map(drop)?;
    sign_in(&again, "ada").await.map(drop)?;
    Ok(())
}

async fn a_revocation_survives_a_server_restart(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let began = Instant::now();
    let (ada, eve) = (sign_in(&b, "ada").await?, sign_in(&b, "eve").await?);
    b.line.cut();
    wait_for_disconnect(&b).await?;
    sign_out(&a, "ada").await?;
    // Nobody is left who remembers.
    a.close().await;
    drop(a);
    h.restart_server().await?;
    b.line.heal();
    signed_out(&ada).await?;
    refused(&*h.node().await?, Identity::new("ada", began)).await?;
    wait_for_link(&b, 2).await?;
    assert!(!eve.is_closed(), "{}", eve.closed().await);
    Ok(())
}

async fn a_revocation_waits_for_the_server_to_return(h: &dyn Harness) -> Outcome {
    let long_limits = |options: &mut broker_core::Options| options.revoke_timeout = Duration::from_secs(60);
    let (a, b) = (h.node_with(long_limits).await?, h.node().await?);
    let ada = sign_in(&b, "ada").await?;
    h.kill_server().await?;
    wait_for_disconnect(&a).await?;
    let revoker = a.broker.clone();
    let revoking = tokio::spawn(async move { revoker.revoke(Revocation::user("ada")).await });
    h.start_server().await?;
    let outcome = within("the revocation to be stored", revoking).await???;
    assert_eq!(outcome, RevocationOutcome::Logged);
    within("the session to end", ada.closed()).await.map(drop)?;
    Ok(())
}

async fn revoke_closes_local_sessions_before_any_io(h: &dyn Harness) -> Outcome {
    let hasty = |options: &mut broker_core::Options| options.revoke_timeout = SHORT;
    let (a, b) = (h.node_with(hasty).await?, h.node().await?);
    let (here, there) = (sign_in(&a, "ada").await?, sign_in(&b, "ada").await?);
    a.line.cut();
    wait_for_disconnect(&a).await?;
    let mut revoking = Box::pin(a.revoke(Revocation::user("ada")));
    assert!(futures_util::poll!(&mut revoking).is_pending());
    signed_out(&here).await?;
    let error = within("the call to fail", revoking).await?.expect_err("it cannot be stored");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("perhaps not on others"), "{error}");
    assert!(!there.is_closed());
    a.line.heal();
    wait_for_link(&a, 2).await?;
    sign_out(&a, "ada").await?;
    Ok(signed_out(&there).await?)
}

async fn a_wiped_log_is_detected_and_repaired(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node_with(vigilant).await?);
    let began = Instant::now();
    let (ada, eve) = (sign_in(&b, "ada").await?, sign_in(&b, "eve").await?);
    sign_out(&a, "ada").await?;
    signed_out(&ada).await?;
    h.wipe_log().await?;
    broken_log(&eve).await?;
    known_to_a_new_node(h, &Identity::new("ada", began)).await?;
    Ok(())
}

/// Reads the log when there is a reason, and not for a long time otherwise.
fn trusting(options: &mut broker_core::Options) {
    options.revocation_poll = Duration::from_secs(600);
}

/// One node, asked again and again: it is told of what it did not know.
async fn refused_in_the_end(node: &Broker, identity: &Identity) -> Result<(), String> {
    let asking = async {
        let mut admitted = Vec::new();
        loop {
            match node.session_for(identity.clone()).await {
                Err(error) if error.kind() == ErrorKind::Revoked => break,
                Err(error) => return Err(error.to_string()),
                Ok(session) => admitted.push(session),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Nor does anybody live on who was admitted before that.
        for session in &admitted {
            signed_out(session).await?;
        }
        Ok(())
    };
    within("the token to be refused", asking).await?
}

/// A node that remembers that ada was revoked, and has no reason to look at the log: another one has revoked, and is gone.
async fn one_that_remembers(h: &dyn Harness) -> Result<Node, String> {
    let (living, revoker) = (h.node_with(trusting).await?, h.node_with(trusting).await?);
    let ada = sign_in(&living, "ada").await?;
    sign_out(&revoker, "ada").await?;
    signed_out(&ada).await?;
    revoker.close().await;
    Ok(living)
}

/// Nobody polls: what a living node remembers is asked for by the one that finds no log.
async fn a_node_started_after_a_wipe_recovers_the_revocations(h: &dyn Harness) -> Outcome {
    let issued = SystemTime::now() - Duration::from_secs(60);
    let _living = one_that_remembers(h).await?;
    h.wipe_log().await?;
    let node = h.node_with(trusting).await?;
    refused_in_the_end(&node, &Identity::new("ada", issued)).await?;
    sign_in(&node, "ada").await.map(drop)?;
    Ok(())
}

/// Two that start at once: one of them may find the log that the other has just made, and empty.
async fn two_nodes_started_after_a_wipe_recover_the_revocations(h: &dyn Harness) -> Outcome {
    let issued = SystemTime::now() - Duration::from_secs(60);
    let _living = one_that_remembers(h).await?;
    let (one, two) = (h.node_with(trusting).await?, h.node_with(trusting).await?);
    h.wipe_log().await?;
    let identity = Identity::new("ada", issued);
    let (known, rest) =
        tokio::join!(refused_in_the_end(&one, &identity), refused_in_the_end(&two, &identity));
    known?;
    rest?;
    Ok(())
}

/// The node that finds it out knows nothing of what was trimmed; the one that does has to be told.
async fn a_log_trimmed_past_a_node_is_detected_and_repaired(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let began = Instant::now();
    let (ada, eve) = (sign_in(&b, "ada").await?, sign_in(&b, "eve").await?);
    let aware = sign_in(&a, "ada").await?;
    b.line.cut();
    wait_for_disconnect(&b).await?;
    sign_out(&a, "ada").await?;
    signed_out(&aware).await?;
    h.trim_log().await?;
    b.line.heal();
    broken_log(&eve).await?;
    closed_as_uncertain(&ada).await?;
    known_to_a_new_node(h, &Identity::new("ada", began)).await?;
    Ok(())
}

async fn a_rolled_back_log_is_detected_and_repaired(h: &dyn Harness) -> Outcome {
    let (a, b) = (h.node().await?, h.node().await?);
    let began = Instant::now();
    let (ada, eve) = (sign_in(&b, "ada").await?, sign_in(&b, "eve").await?);
    sign_out(&a, "somebody").await?;
    h.save_data().await?;
    sign_out(&a, "ada").await?;
    signed_out(&ada).await?;
    append_more(&b).await?;
    h.restore_data().await?;
    broken_log(&eve).await?;
    known_to_a_new_node(h, &Identity::new("ada", began)).await?;
    Ok(())
}

/// The node has something in the log that it has read, or is still to meet there: a log that loses it is noticed either
/// way, by the cursor or by what is missing.
async fn append_more(node: &Broker) -> Result<(), String> {
    for round in 0..5 {
        sign_out(node, &format!("reader {round}")).await?;
    }
    Ok(())
}

async fn a_session_opened_after_a_log_break_stays_open(h: &dyn Harness) -> Outcome {
    let node = h.node_with(vigilant).await?;
    let old = sign_in(&node, "ada").await?;
    h.wipe_log().await?;
    broken_log(&old).await?;
    let new = sign_in(&node, "ada").await?;
    let witness = sign_in(&node, "witness").await?;
    append_more(&node).await?;
    sign_out(&node, "witness").await?;
    signed_out(&witness).await?;
    assert!(!new.is_closed());
    Ok(())
}

async fn fail_mode_open_keeps_sessions_when_the_log_breaks(h: &dyn Harness) -> Outcome {
    let keeping = |options: &mut broker_core::Options| {
        vigilant(options);
        options.on_log_break = FailMode::Open;
    };
    let (a, b) = (h.node_with(keeping).await?, h.node_with(vigilant).await?);
    let began = Instant::now();
    let (kept, closed) = (sign_in(&a, "ada").await?, sign_in(&b, "ada").await?);
    sign_out(&b, "eve").await?;
    h.wipe_log().await?;
    closed_as_uncertain(&closed).await?;
    known_to_a_new_node(h, &Identity::new("eve", began)).await?;
    // It has noticed as well, since it is still told of what is revoked.
    assert!(!kept.is_closed());
    sign_out(&b, "ada").await?;
    Ok(signed_out(&kept).await?)
}

async fn without_a_lease_a_disconnected_node_keeps_its_sessions(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let ada = sign_in(&node, "ada").await?;
    node.line.cut();
    wait_for_disconnect(&node).await?;
    // Also new ones: what was revoked until the cut is known.
    sign_in(&node, "eve").await.map(drop)?;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    assert!(!ada.is_closed());
    Ok(())
}

/// Many heartbeats, each of which renews it: a busy machine does not miss all of them.
const LEASE: Duration = Duration::from_secs(3);

fn leased(options: &mut broker_core::Options) {
    options.revocation_lease = LEASE;
}

async fn an_expired_lease_closes_sessions(h: &dyn Harness) -> Outcome {
    let node = h.node_with(leased).await?;
    let (ada, anonymous) = (sign_in(&node, "ada").await?, node.session());
    node.line.cut();
    assert_eq!(closed_as_uncertain(&ada).await?, Uncertainty::LeaseExpired);
    let error = node.session_for(Identity::new("ada", Instant::now())).await.expect_err("nobody vouches");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("revocation_lease"), "{error}");
    assert!(!anonymous.is_closed());
    node.line.heal();
    wait_for_link(&node, 2).await?;
    let opened = async {
        loop {
            match node.session_for(Identity::new("ada", Instant::now())).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => tokio::task::yield_now().await,
                opened => return opened,
            }
        }
    };
    within("sessions to be opened again", opened).await?.map(drop)?;
    Ok(())
}

/// Longer than two leases.
async fn a_renewed_lease_keeps_sessions_open(h: &dyn Harness) -> Outcome {
    let node = h.node_with(leased).await?;
    let ada = sign_in(&node, "ada").await?;
    let began = Instant::now();
    until("two leases to pass", || began.elapsed() > LEASE * 2 + LEASE / 10).await?;
    assert!(!ada.is_closed(), "{}", ada.closed().await);
    Ok(())
}

async fn a_node_that_never_read_the_log_opens_no_user_session(h: &dyn Harness) -> Outcome {
    let a = h.node().await?;
    let line = h.line().await?;
    line.cut();
    let hasty = |options: &mut broker_core::Options| options.subscribe_timeout = SHORT;
    let node = h.open_on(line, hasty)?;
    let began = Instant::now();
    sign_out(&a, "ada").await?;
    let identity = || Identity::new("ada", began);
    let opened = within("the call to fail", node.session_for(identity())).await?;
    let error = opened.expect_err("it cannot know");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    node.line.heal();
    wait_for_link(&node, 1).await?;
    let opened = async {
        loop {
            match node.session_for(identity()).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                opened => return opened,
            }
        }
    };
    match within("an answer", opened).await? {
        Err(error) if error.kind() == ErrorKind::Revoked => Ok(()),
        other => Err(format!("expected a session that is refused, got {other:?}").into()),
    }
}
