//! Cases about PostgreSQL alone: a standby, and the fail-over to it.

use broker::ErrorKind;
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{post, receives, receives_again, receives_link_loss, wait_for_link},
    wait::fence,
};

use crate::{
    cases::backend_common::{connect, receive_from_each_other, refusal},
    servers::{
        Server,
        postgres::{Postgres, config::PostgresConfig, process::PostgresServer},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_standby_is_refused_until_it_is_promoted, [8, 10]).needs(&[Need::Process]),
    case!(a_fail_over_to_the_standby_is_one_gap, [3, 4]).needs(&[Need::Process]),
];

async fn promote(standby: &PostgresServer) -> Result<(), String> {
    standby.control().ask("postgres", "SELECT pg_promote()").await.map(drop)
}

async fn a_standby_is_refused_until_it_is_promoted(h: &dyn Harness) -> Outcome {
    let primary = PostgresServer::start(PostgresConfig::default()).await?;
    let standby = PostgresServer::standby_of(&primary, PostgresConfig::default().durable()).await?;
    let url = standby.url_at(standby.addr());
    let error = refusal(h, &url, &standby.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_transient() && error.message().contains("standby"), "{error}");
    promote(&standby).await?;
    Ok(receive_from_each_other(&connect(h, &url).await?, &connect(h, &url).await?).await?)
}

async fn a_fail_over_to_the_standby_is_one_gap(h: &dyn Harness) -> Outcome {
    let primary = PostgresServer::start(PostgresConfig::default()).await?;
    let standby = PostgresServer::standby_of(&primary, PostgresConfig::default().durable()).await?;
    // The standby comes first: whoever goes there is sent on.
    let url = format!("postgres://app@{},{}/app", standby.addr(), primary.addr());
    let (one, two) = (connect(h, &url).await?, connect(h, &url).await?);
    let mut received = one.subscribe("news").await?;
    post(&two, "news", "before").await?;
    receives(&mut received, "before").await?;
    primary.kill().await?;
    promote(&standby).await?;
    wait_for_link(&one, 2).await?;
    wait_for_link(&two, 2).await?;
    post(&two, "news", "after").await?;
    receives_link_loss(&mut received).await?;
    receives(&mut received, "after").await?;
    fence(&two, &mut received).await?;
    // It lives on, as a primary does.
    assert_eq!(receives_again(&one, &mut received).await?, 0);
    Ok(())
}
