//! Cases about PostgreSQL alone: a cancel that is meant for a call about the log, and hits what else its session does.

use std::time::Duration;

use broker::{Revocation, Scope};
use broker_conformance::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::receives,
    wait::{LIMIT, SHORT, eventually, fence, within},
};
use futures_util::join;
use tokio_postgres::{Client, NoTls};

use crate::harness::postgres::PostgresHarness;

pub(super) const CASES: &[Case] = &[
    case!(a_batch_that_a_cancel_has_hit_is_sent_again, [1, 6]),
    case!(a_check_that_a_cancel_has_hit_keeps_the_link, [10]),
];

const NEVER: Duration = Duration::from_secs(3600);

/// `pg_notify`, with which everything is posted, passes a gate.
const POSTS: &str = "
ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO behind_the_gate;
CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  PERFORM pg_catalog.nextval('public.begun');
  PERFORM pg_catalog.pg_advisory_xact_lock_shared(1);
  PERFORM pg_catalog.behind_the_gate($1, $2);
END $$";

/// `pg_is_in_recovery`, which a heartbeat asks, passes a gate.
const CHECKS: &str = "
ALTER FUNCTION pg_catalog.pg_is_in_recovery() RENAME TO behind_the_gate;
CREATE FUNCTION pg_catalog.pg_is_in_recovery() RETURNS bool LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  PERFORM pg_catalog.nextval('public.begun');
  PERFORM pg_catalog.pg_advisory_xact_lock_shared(1);
  RETURN pg_catalog.behind_the_gate();
END $$";

/// What a function of the server waits at until it is opened, or the statement is cancelled.
struct Gate<'a> {
    postgres: &'a PostgresHarness,
    client: Client,
}

impl<'a> Gate<'a> {
    /// Puts a gate before a function of the case's database, and leaves it open.
    async fn before(h: &'a dyn Harness, function: &str) -> Outcome<Self> {
        let postgres = PostgresHarness::of(h)?;
        postgres.run(&format!("CREATE SEQUENCE public.begun; {function}")).await?;
        let (client, connection) = tokio_postgres::connect(&h.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(Self { postgres, client })
    }

    async fn shut(&self) -> Outcome {
        Ok(self.client.batch_execute("SELECT pg_advisory_lock(1)").await?)
    }

    async fn open(&self) -> Outcome {
        Ok(self.client.batch_execute("SELECT pg_advisory_unlock(1)").await?)
    }

    /// How often the function was called, also by statements that were undone.
    async fn calls(&self) -> Result<u64, String> {
        let rows = self.postgres.run("SELECT last_value FROM public.begun").await?;
        let number = rows.first().and_then(|row| row.first()).ok_or("no number")?;
        number.parse().map_err(|error| format!("{number}: {error}"))
    }

    async fn called_after(&self, calls: u64) -> Result<(), String> {
        eventually("a call", LIMIT, || async move {
            match self.calls().await? {
                now if now > calls => Ok(()),
                now => Err(format!("{now} calls")),
            }
        })
        .await
    }
}

async fn a_batch_that_a_cancel_has_hit_is_sent_again(h: &dyn Harness) -> Outcome {
    let gate = Gate::before(h, POSTS).await?;
    let node = h
        .node_with(|options| {
            (options.heartbeat, options.digest_interval) = (NEVER, NEVER);
            (options.publish_timeout, options.heartbeat_timeout) = (LIMIT, SHORT);
        })
        .await?;
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    gate.shut().await?;
    let before = gate.calls().await?;
    let late = async {
        gate.called_after(before).await?;
        // Its turn is behind the post's, and its limit ends first.
        let revoking = node.revoke(Revocation::user("ada"));
        let opening = async {
            gate.called_after(before + 1).await?;
            gate.open().await
        };
        let (_, opened) = join!(within("an answer", revoking), opening);
        opened
    };
    let (posted, opened) = join!(node.publish("news", "once", Scope::Global), late);
    opened?;
    posted?;
    receives(&mut received, "once").await?;
    assert_eq!((node.health().links, node.health().is_connected()), (1, true), "{:?}", node.health());
    Ok(fence(&node, &mut received).await?)
}

async fn a_check_that_a_cancel_has_hit_keeps_the_link(h: &dyn Harness) -> Outcome {
    let gate = Gate::before(h, CHECKS).await?;
    let node =
        h.node_with(|options| (options.publish_timeout, options.heartbeat_timeout) = (SHORT, LIMIT)).await?;
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    gate.shut().await?;
    let before = gate.calls().await?;
    gate.called_after(before).await?;
    let opening = async {
        // Of the next heartbeat, or of a second link.
        gate.called_after(before + 1).await?;
        gate.open().await
    };
    let (_, opened) = join!(within("an answer", node.revoke(Revocation::user("ada"))), opening);
    opened?;
    fence(&node, &mut received).await?;
    assert_eq!((node.health().links, node.health().is_connected()), (1, true), "{:?}", node.health());
    Ok(())
}
