//! Cases about PostgreSQL alone: what a link has prepared at the server, and a server that does not know it any more.

use std::time::Duration;

use broker::{ErrorKind, Scope, Subscription};
use broker_conformance::{
    case::{Case, Outcome, case},
    harness::{Harness, Node},
    steps::{post, receives, receives_link_loss, wait_for_link},
    wait::{fence, within},
};

use crate::harness::postgres::PostgresHarness;

pub(super) const CASES: &[Case] = &[
    case!(a_deallocated_statement_costs_one_post_and_no_heartbeat, [6, 10]),
    case!(a_statement_with_another_result_costs_one_post_and_no_heartbeat, [6, 10]),
];

/// A node of which nothing but its posts could find that they fail.
async fn silent(h: &dyn Harness) -> Result<(Node, Subscription), String> {
    let node = h
        .node_with(|options| {
            let never = Duration::from_secs(3600);
            (options.heartbeat, options.digest_interval) = (never, never);
        })
        .await?;
    let mut received = node.subscribe("news").await.map_err(|error| error.to_string())?;
    fence(&node, &mut received).await?;
    Ok((node, received))
}

/// The next post fails for certain, and with a remedy; the ones after it go by another link.
async fn costs_one_post(node: &Node, received: &mut Subscription) -> Outcome {
    let error = within("an answer", node.publish("news", "lost", Scope::Global)).await?.err();
    let error = error.ok_or("a post by a statement that is no more")?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("had prepared"), "{error}");
    wait_for_link(node, 2).await?;
    receives_link_loss(received).await?;
    post(node, "news", "again").await?;
    Ok(receives(received, "again").await?)
}

/// Deallocates what its session has prepared, as does a pooler when it lends the connection to the next client.
const FORGETS: &str = "
ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_itself;
CREATE TABLE public.forgets ();
CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  IF EXISTS (SELECT FROM public.forgets) THEN EXECUTE 'DEALLOCATE ALL'; END IF;
  PERFORM pg_catalog.pg_notify_itself($1, $2);
END $$";

async fn a_deallocated_statement_costs_one_post_and_no_heartbeat(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    postgres.run(FORGETS).await?;
    let (node, mut received) = silent(h).await?;
    postgres.run("INSERT INTO public.forgets DEFAULT VALUES").await?;
    post(&node, "news", "the last").await?;
    receives(&mut received, "the last").await?;
    postgres.run("TRUNCATE public.forgets").await?;
    costs_one_post(&node, &mut received).await
}

/// A new schema makes the server plan its statements anew.
const RETURNS_A_NUMBER: &str = "
ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_itself;
CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS int LANGUAGE sql AS
  'SELECT pg_catalog.pg_notify_itself($1, $2); SELECT 1';
CREATE SCHEMA another";

async fn a_statement_with_another_result_costs_one_post_and_no_heartbeat(h: &dyn Harness) -> Outcome {
    let (node, mut received) = silent(h).await?;
    PostgresHarness::of(h)?.run(RETURNS_A_NUMBER).await?;
    costs_one_post(&node, &mut received).await
}
