//! Cases about PostgreSQL alone: the revocation log in two tables, and who may use them.

use std::{pin::pin, time::Duration};

use broker::{ErrorKind, Revocation};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    log_link::Opener,
    wait::{fence, within},
};
use broker_core::driver::LogCursor;
use futures_util::future::join_all;

use crate::{
    cases::backend_common::{connect, receive_from_each_other},
    harness::postgres::PostgresHarness,
};

pub(super) const CASES: &[Case] = &[
    case!(a_user_without_create_posts_and_is_told_what_to_grant, [9, 11]),
    case!(a_user_with_grants_on_the_tables_needs_no_create, [9]),
    case!(a_restored_log_that_has_grown_again_is_reported, [9]).needs(&[Need::OwnServer, Need::Durable]),
    case!(a_locked_log_costs_no_link, [9, 10]),
    case!(a_call_about_the_log_may_take_as_long_as_its_limit, [9]),
    case!(a_log_of_one_database_is_not_that_of_another, [9]),
];

async fn a_user_without_create_posts_and_is_told_what_to_grant(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let url = postgres.url_for("guest", postgres.server().addr());
    let (one, two) = (connect(h, &url).await?, connect(h, &url).await?);
    receive_from_each_other(&one, &two).await?;
    let error = within("an answer", one.revoke(Revocation::user("ada"))).await?.err();
    let error = error.ok_or("a revocation without a log")?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.to_string().to_uppercase().contains("CREATE"), "{error}");
    // Its links have lived through that.
    assert_eq!((one.health().links, two.health().links), (1, 1));
    Ok(receive_from_each_other(&one, &two).await?)
}

async fn a_user_with_grants_on_the_tables_needs_no_create(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    // An operator's own, as the first use would make it.
    let owner = h.node().await?;
    owner.revoke(Revocation::user("ada")).await?;
    postgres
        .run(
            "GRANT USAGE ON SCHEMA broker TO guest; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA broker TO guest",
        )
        .await?;
    let guest = connect(h, &postgres.url_for("guest", postgres.server().addr())).await?;
    guest.revoke(Revocation::user("bob")).await?;
    assert_eq!(postgres.run("SELECT count(*) FROM broker.record").await?, [["2"]]);
    Ok(())
}

/// The numbers that the lost records had are used again: the number alone would say that nothing is missing.
async fn a_restored_log_that_has_grown_again_is_reported(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    link.append("kept").await?;
    h.save_data().await?;
    link.append("lost").await?;
    let before = link.rest(&LogCursor::START).await?;
    before.is(&["kept", "lost"]);
    h.restore_data().await?;
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    for record in ["another", "and one more"] {
        link.append(record).await?;
    }
    let after = link.page(&before.cursor).await?;
    assert!(after.broken.is_some(), "the loss is not reported to a reader of what was lost: {after:?}");
    let records: Vec<_> = after.records.iter().map(|record| record.to_vec()).collect();
    assert_eq!(records, [b"kept".to_vec(), b"another".to_vec(), b"and one more".to_vec()]);
    Ok(())
}

/// As a migration or a repair locks a table: the calls that wait for it share a session with the posts and the probe.
async fn a_locked_log_costs_no_link(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    node.revoke(Revocation::user("ada")).await?;
    let (mut client, connection) = tokio_postgres::connect(&h.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let transaction = client.transaction().await?;
    transaction.batch_execute("LOCK TABLE broker.log").await?;
    // Several, which the server has to cancel one by one.
    let revocations = (0..16).map(|user| node.revoke(Revocation::user(format!("bob-{user}"))));
    for outcome in within("an answer", join_all(revocations)).await? {
        let error = outcome.err().ok_or("a revocation in a table that is locked")?;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert_eq!((node.health().links, node.health().is_connected()), (1, true), "{:?}", node.health());
    transaction.rollback().await?;
    within("an answer", node.revoke(Revocation::user("bob"))).await??;
    Ok(fence(&node, &mut received).await?)
}

async fn a_call_about_the_log_may_take_as_long_as_its_limit(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let patient = opener.open().await?;
    patient.append("made").await?;
    let mut opener = opener;
    opener.log.limit = Duration::from_secs(1);
    let hasty = opener.open().await?;
    let (mut client, connection) = tokio_postgres::connect(&h.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let transaction = client.transaction().await?;
    transaction.batch_execute("LOCK TABLE broker.log").await?;
    let mut waiting = pin!(patient.append("waited"));
    for _ in 0..3 {
        tokio::select! {
            outcome = &mut waiting => return Err(format!("it has not waited: {outcome:?}").into()),
            hurried = hasty.append("hurried") => assert_eq!(hurried.err().map(|e| e.kind()), Some(ErrorKind::Timeout)),
        }
    }
    transaction.rollback().await?;
    within("the append", waiting).await??;
    let rest = patient.rest(&LogCursor::START).await?;
    assert!(rest.records.iter().any(|record| record == "waited"), "{rest:?}");
    Ok(())
}

async fn a_log_of_one_database_is_not_that_of_another(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let node = h.node().await?;
    node.revoke(Revocation::user("ada")).await?;
    let tables =
        "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('broker')::oid AND relkind = 'r'";
    assert_eq!(postgres.run(tables).await?, [["2"]]);
    let elsewhere = postgres.server().control().run("postgres", tables).await?;
    assert_eq!(elsewhere, [["0"]]);
    Ok(())
}
