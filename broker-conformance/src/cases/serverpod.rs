//! Cases about revocations in the form of Serverpod's servers, which share the backend.

use std::time::Instant;

use broker_core::{
    CloseReason, ErrorKind, Identity, Options, Raw, Revocation, RevocationOutcome, Revoked, Uncertainty,
};

use crate::{
    case::{Case, Outcome, case},
    harness::{Harness, Node},
    steps::{
        receives,
        revocation::{open, refused, signed_out},
        wait_for_link,
    },
    wait::{fence, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_revocation_of_serverpods_closes_the_sessions_that_it_hits, [8]),
    case!(a_revocation_is_told_to_serverpods_servers, [8]),
    case!(what_is_no_revocation_of_serverpods_closes_nothing, [8, 11]),
    case!(a_session_ends_when_a_revocation_of_serverpods_may_be_lost, [8]),
];

/// A node of ours, on the channels of Serverpod's servers.
async fn node(h: &dyn Harness) -> Result<Node, String> {
    h.node_with(|options| {
        options.prefix.clear();
        options.serverpod_revocations = true;
    })
    .await
}

/// What stands for a server of Serverpod: it publishes, and receives, bare payloads.
async fn serverpod(h: &dyn Harness) -> Result<Node, String> {
    h.node_with(|options| {
        options.prefix.clear();
        options.raw = Options::default().accept_raw("_serverpod_", Raw::Bytes).raw;
    })
    .await
}

fn channel(user: &str) -> String {
    format!("_serverpod_revoked_authentication_{user}")
}

fn payload(class: &str, members: &str) -> String {
    let class = format!("serverpod.RevokedAuthentication{class}");
    format!(r#"{{"className":"{class}","data":{{"__className__":"{class}"{members}}}}}"#)
}

async fn closed(session: &broker_core::Session, what: &Revoked) -> Result<(), String> {
    match within("the session to be revoked", session.closed()).await? {
        CloseReason::AuthenticationRevoked(found) if found == *what => Ok(()),
        other => Err(format!("expected {what:?}, it ended because {other}")),
    }
}

async fn a_revocation_of_serverpods_closes_the_sessions_that_it_hits(h: &dyn Harness) -> Outcome {
    let (node, serverpod) = (node(h).await?, serverpod(h).await?);
    // Others may share the server.
    let ada = format!("ada-{}", node.node_id());
    let began = Instant::now();
    let key = |key: &str| Identity::new(&ada, began).with_auth_id(key);
    let eve = open(&node, Identity::new(format!("eve-{}", node.node_id()), began).with_auth_id("k1")).await?;
    let (first, second) = (open(&node, key("k1")).await?, open(&node, key("k2")).await?);
    let scoped = open(&node, Identity::new(&ada, began).with_scopes(["board"])).await?;
    serverpod.post_raw(channel(&ada).as_str(), payload("AuthId", r#","authId":"k1""#)).await?;
    closed(&first, &Revoked::AuthId("k1".to_owned())).await?;
    serverpod.post_raw(channel(&ada).as_str(), payload("Scope", r#","scopes":["admin","board"]"#)).await?;
    closed(&scoped, &Revoked::Scopes(["admin", "board"].map(str::to_owned).into())).await?;
    assert!(!second.is_closed());
    serverpod.post_raw(channel(&ada).as_str(), payload("User", "")).await?;
    signed_out(&second).await?;
    // What began before it is refused; what begins now is not.
    refused(&node, key("k3")).await?;
    drop(open(&node, Identity::new(&ada, Instant::now())).await?);
    assert!(!eve.is_closed());
    assert_eq!(node.health().malformed, 0);
    Ok(())
}

async fn a_revocation_is_told_to_serverpods_servers(h: &dyn Harness) -> Outcome {
    let (here, there, serverpod) = (node(h).await?, node(h).await?, serverpod(h).await?);
    let ada = format!("ada-{}", here.node_id());
    let session = open(&there, Identity::new(&ada, Instant::now())).await?;
    let mut bytes = serverpod.subscribe(channel(&ada).as_str()).await?;
    for (revocation, expected) in [
        (Revocation::auth_id(&ada, "k1"), payload("AuthId", r#","authId":"k1""#)),
        (Revocation::scopes(&ada, ["b", "a"]), payload("Scope", r#","scopes":["a","b"]"#)),
        (Revocation::user(&ada), payload("User", "")),
    ] {
        assert_eq!(here.revoke(revocation).await?, RevocationOutcome::Logged);
        receives(&mut bytes, &expected).await?;
    }
    signed_out(&session).await?;
    fence(&serverpod, &mut bytes).await?;
    let error = here.revoke(Revocation::user("a b")).await.err().ok_or("it has no channel")?;
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    Ok(())
}

async fn what_is_no_revocation_of_serverpods_closes_nothing(h: &dyn Harness) -> Outcome {
    let (node, serverpod) = (node(h).await?, serverpod(h).await?);
    let ada = format!("ada-{}", node.node_id());
    let session = open(&node, Identity::new(&ada, Instant::now())).await?;
    for payload in
        ["hello", "{}", &payload("Device", ""), &payload("AuthId", ""), &payload("Scope", r#","scopes":[]"#)]
    {
        serverpod.post_raw(channel(&ada).as_str(), payload.to_owned()).await?;
    }
    until("all of them to be counted", || node.health().malformed == 5).await?;
    assert!(!session.is_closed());
    // A node that does not listen to Serverpod's takes nothing for one.
    let deaf = h.node().await?;
    let other = open(&deaf, Identity::new(&ada, Instant::now())).await?;
    serverpod.post_raw(channel(&ada).as_str(), payload("User", "")).await?;
    signed_out(&session).await?;
    assert!(!other.is_closed());
    Ok(())
}

/// Serverpod keeps no log of them.
async fn a_session_ends_when_a_revocation_of_serverpods_may_be_lost(h: &dyn Harness) -> Outcome {
    let node = node(h).await?;
    let ada = format!("ada-{}", node.node_id());
    let session = open(&node, Identity::new(&ada, Instant::now())).await?;
    node.line.cut();
    until("the loss to be noticed", || !node.health().is_connected()).await?;
    node.line.heal();
    wait_for_link(&node, 2).await?;
    match within("the session to end", session.closed()).await? {
        CloseReason::AuthenticationUncertain(Uncertainty::Unlogged) => {}
        other => return Err(format!("it ended because {other}").into()),
    }
    drop(open(&node, Identity::new(&ada, Instant::now())).await?);
    Ok(())
}
