//! A case about revocation on a NATS server that keeps no log of it.

use std::time::Instant;

use broker::{CloseReason, Identity, Revocation, RevocationOutcome, Uncertainty};
use broker_conformance::{
    case::{Case, Outcome, case},
    harness::Harness,
    proxy::Proxy,
    steps::{
        revocation::{sign_in, signed_out},
        wait_for_disconnect, wait_for_link,
    },
    wait::within,
};

use crate::{
    cases::{
        backend_common::connect,
        nats::connecting::{OWN, server},
    },
    servers::nats::config::NatsConfig,
};

pub(super) const CASES: &[Case] =
    &[case!(without_a_log_revocations_are_announced_and_gaps_close_sessions, [9]).needs(OWN)];

async fn without_a_log_revocations_are_announced_and_gaps_close_sessions(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default()).await?;
    let proxy = Proxy::start(server.addr()).await?;
    let a = connect(h, &server.url_at(server.addr())).await?;
    let b = connect(h, &server.url_at(proxy.addr())).await?;
    let (ada, eve) = (sign_in(&b, "ada").await?, sign_in(&b, "eve").await?);
    let outcome = within("the revocation", a.revoke(Revocation::user("ada"))).await??;
    assert_eq!(outcome, RevocationOutcome::Announced);
    signed_out(&ada).await?;
    assert!(!eve.is_closed());

    proxy.cut();
    wait_for_disconnect(&b).await?;
    assert!(!eve.is_closed(), "nothing may have reached it yet");
    a.revoke(Revocation::user("eve")).await?;
    proxy.heal();
    match within("the session to end", eve.closed()).await? {
        CloseReason::AuthenticationUncertain(Uncertainty::Unlogged) => {}
        other => return Err(format!("ended because {other}").into()),
    }
    wait_for_link(&b, 2).await?;
    let opened = b.session_for(Identity::new("eve", Instant::now())).await?;
    assert!(!opened.is_closed());
    for broker in [a, b] {
        broker.close().await;
    }
    Ok(())
}
