//! Cases about posts inside transactions of PostgreSQL: they are received exactly if those commit, in the order of the commits.

use std::time::Duration;

use broker::{Broker, ChannelName, ErrorKind, Options, Post, Revocation, Subscription};
use broker_conformance::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::{post, receives},
    wait::{next_message, text, within},
};
use broker_postgres::{SqlPost, migrate, post_in, post_in_sqlx};
use futures_util::future::try_join_all;
use sqlx::Connection;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::{
    harness::postgres::PostgresHarness,
    servers::postgres::config::{APP, CONTROL},
};

pub(super) const CASES: &[Case] = &[
    case!(what_a_transaction_posts_is_received_exactly_if_it_commits, [1, 2]),
    case!(concurrent_transactions_are_received_in_the_order_of_their_commits, [3]),
    case!(long_messages_of_one_transaction_stay_apart, [2]),
    case!(the_largest_message_of_a_transaction_arrives_whole_and_once, [1, 2, 11]),
    case!(a_table_posts_its_rows, [1, 2]),
    case!(a_post_from_rust_is_part_of_the_transaction, [1, 2]),
    case!(what_the_page_shows_is_received, [2]),
    case!(bad_input_of_a_post_is_named, [11]),
    case!(the_functions_lend_no_rights_of_their_owner, [11]),
    case!(a_migration_may_run_again_and_is_refused_to_strangers, [11]),
    case!(a_migration_is_refused_in_what_belongs_to_a_stranger, [11]),
];

/// A node with room for everything, and a connection of the application's own, with the functions installed.
async fn prepared(h: &dyn Harness) -> Outcome<(Broker, Client, JoinSet<()>)> {
    let url = h.url();
    migrate(&url).await?;
    let mut options = h.options();
    options.queue_capacity = 1 << 16;
    let node = broker::connect_with(&url, options).await?;
    let (client, task) = client(&url).await?;
    Ok((node, client, task))
}

async fn client(url: &str) -> Outcome<(Client, JoinSet<()>)> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Ends with the case.
    let mut task = JoinSet::new();
    task.spawn(async move { drop(connection.await) });
    Ok((client, task))
}

async fn what_a_transaction_posts_is_received_exactly_if_it_commits(h: &dyn Harness) -> Outcome {
    const TIMES: usize = 10_000;
    let (node, client, _task) = prepared(h).await?;
    let mut received = node.subscribe("orders").await?;
    let posting = format!(
        "DO $$ BEGIN FOR i IN 1..{TIMES} LOOP
           PERFORM broker.post('orders', '\"rolled back\"'); ROLLBACK;
           PERFORM broker.post('orders', to_jsonb(i), 'Order', '{{\"of\": \"sql\"}}'); COMMIT;
         END LOOP; END $$"
    );
    client.batch_execute("SET synchronous_commit = off").await?;
    let receiving = async {
        for expected in 1..=TIMES {
            let message = next_message(&mut received).await?;
            assert_eq!(text(&message)?, expected.to_string());
            assert_eq!((message.type_name(), message.sequence()), (Some("Order"), None));
            assert_eq!(message.headers().get("of"), Some("sql"));
        }
        Outcome::Ok(())
    };
    let (posted, received_all) = tokio::join!(client.batch_execute(&posting), receiving);
    posted?;
    received_all?;
    post(&node, "orders", "end").await?;
    Ok(receives(&mut received, "end").await?)
}

async fn concurrent_transactions_are_received_in_the_order_of_their_commits(h: &dyn Harness) -> Outcome {
    const CLIENTS: usize = 16;
    const TIMES: usize = 50;
    let (node, first, _task) = prepared(h).await?;
    first.batch_execute("CREATE TABLE counter AS SELECT 0 AS n").await?;
    let mut received = node.subscribe("counts").await?;
    let url = h.url();
    let clients = try_join_all((0..CLIENTS).map(|_| client(&url))).await?;
    let posting = clients.iter().map(|(client, _)| async move {
        // The row is locked until the commit: so the numbers are in the order of the commits.
        let count = "BEGIN; UPDATE counter SET n = n + 1; SELECT broker.post('counts', to_jsonb(n)) FROM counter; COMMIT";
        for _ in 0..TIMES {
            client.batch_execute(count).await?;
        }
        Ok::<(), tokio_postgres::Error>(())
    });
    try_join_all(posting).await?;
    for expected in 1..=CLIENTS * TIMES {
        assert_eq!(text(&next_message(&mut received).await?)?, expected.to_string());
    }
    Ok(())
}

/// Whatever they have in common: equal notifications of a transaction are delivered once.
async fn long_messages_of_one_transaction_stay_apart(h: &dyn Harness) -> Outcome {
    let (node, mut client, _task) = prepared(h).await?;
    let mut received = node.subscribe("long").await?;
    let zeros = "0".repeat(500_000);
    let long = || SqlPost::new(&ChannelName::new("long")?, Post::from(zeros.clone()), &h.options());
    let (posts, transaction) = ([long()?, long()?], client.transaction().await?);
    for post in &posts {
        post_in(&transaction, post).await?;
        transaction.batch_execute("SELECT broker.post('long', to_jsonb(repeat('0', 500000)))").await?;
    }
    transaction.commit().await?;
    for _ in &posts {
        assert_eq!(text(&next_message(&mut received).await?)?, zeros);
        assert_eq!(text(&next_message(&mut received).await?)?, format!("\"{zeros}\""));
    }
    assert_eq!(node.health().malformed, 0);
    Ok(())
}

/// A megabyte in 168 pieces. Of the frame 35 bytes are no payload, and of that two are the quotes.
async fn the_largest_message_of_a_transaction_arrives_whole_and_once(h: &dyn Harness) -> Outcome {
    const MOST: usize = 1_000_000 - 35 - 2;
    let (node, client, _task) = prepared(h).await?;
    let mut received = node.subscribe("long").await?;
    let numbers = (1..=200_000).map(|n| format!("{n} ")).collect::<String>();
    let largest = &numbers[..MOST];
    let post_first = |bytes| {
        format!(
            "BEGIN; SELECT broker.post('long', to_jsonb(left(string_agg(n || ' ', '' ORDER BY n), {bytes}))) \
             FROM generate_series(1, 200000) AS n; COMMIT"
        )
    };
    client.batch_execute(&post_first(MOST)).await?;
    let error = client.batch_execute(&post_first(MOST + 1)).await.expect_err("a byte more");
    assert!(error.as_db_error().is_some_and(|error| error.message().contains("1000001 bytes")), "{error:?}");
    let message = text(&next_message(&mut received).await?)?;
    assert!(message == format!("\"{largest}\""), "{} bytes: {:.40}", message.len(), message);
    post(&node, "long", "end").await?;
    Ok(receives(&mut received, "end").await?)
}

async fn a_table_posts_its_rows(h: &dyn Harness) -> Outcome {
    let (node, client, _task) = prepared(h).await?;
    let acme = ChannelName::of(["orders", "acme"])?;
    let other = ChannelName::of(["orders", "B & C."])?;
    let (mut acme, mut other) = (node.subscribe(acme).await?, node.subscribe(other).await?);
    client
        .batch_execute(
            "CREATE TABLE orders (id int, tenant_id text);
             INSERT INTO orders VALUES (6, NULL), (7, NULL);
             SELECT broker.publish_changes('orders', 'nowhere');
             SELECT broker.publish_changes('orders', 'orders.{tenant_id}', 'Order');
             UPDATE orders SET tenant_id = 'acme' WHERE id = 6;
             DELETE FROM orders;
             INSERT INTO orders VALUES (1, 'acme'), (2, 'B & C.');
             UPDATE orders SET id = 3 WHERE id = 1;
             UPDATE orders SET tenant_id = 'acme' WHERE id = 2;
             DELETE FROM orders;
             SELECT broker.stop_publishing_changes('orders');
             INSERT INTO orders VALUES (4, 'acme'), (5, 'B & C.')",
        )
        .await?;
    let rows: &mut [(&mut Subscription, &[(&str, i64)])] = &mut [
        (
            &mut acme,
            &[
                ("insert", 6),
                ("delete", 6),
                ("insert", 1),
                ("update", 3),
                ("insert", 2),
                ("delete", 3),
                ("delete", 2),
            ],
        ),
        (&mut other, &[("insert", 2), ("delete", 2)]),
    ];
    for (received, expected) in rows {
        for (operation, id) in *expected {
            let message = next_message(received).await?;
            assert_eq!(message.headers().get("operation"), Some(*operation), "{message:?}");
            assert_eq!(message.headers().get("table"), Some("public.orders"));
            let row: serde_json::Value = serde_json::from_str(&text(&message)?)?;
            assert_eq!((message.type_name(), &row["id"]), (Some("Order"), &(*id).into()));
        }
    }
    for (channel, received) in [("orders.acme", &mut acme), ("orders.B%20&%20C%2E", &mut other)] {
        post(&node, channel, "end").await?;
        receives(received, "end").await?;
    }
    Ok(())
}

async fn a_post_from_rust_is_part_of_the_transaction(h: &dyn Harness) -> Outcome {
    let (node, mut client, _task) = prepared(h).await?;
    let mut received = node.subscribe("orders").await?;
    let prepare = |text: &str| SqlPost::new(&ChannelName::new("orders")?, Post::from(text), &h.options());
    let mut other = sqlx::PgConnection::connect(&h.url()).await?;
    for (says, commits) in [("no", false), ("yes", true)] {
        let transaction = client.transaction().await?;
        post_in(&transaction, &prepare(says)?).await?;
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        let mut transaction = other.begin().await?;
        post_in_sqlx(&mut transaction, &prepare(says)?).await?;
        if commits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
    }
    receives(&mut received, "yes").await?;
    receives(&mut received, "yes").await?;
    post(&node, "orders", "end").await?;
    Ok(receives(&mut received, "end").await?)
}

/// As the page on PostgreSQL shows it.
async fn pay(client: &mut Client, options: &Options) -> Outcome {
    let post = SqlPost::new(&ChannelName::new("orders.acme")?, Post::from("17 is paid"), options)?;
    let transaction = client.transaction().await?;
    transaction.execute("UPDATE orders SET paid = true WHERE id = 17", &[]).await?;
    post_in(&transaction, &post).await?; // with sqlx: post_in_sqlx(&mut transaction, &post)
    transaction.commit().await?;
    Ok(())
}

async fn what_the_page_shows_is_received(h: &dyn Harness) -> Outcome {
    let (node, mut client, _task) = prepared(h).await?;
    let mut received = node.subscribe("orders.acme").await?;
    client.batch_execute("CREATE TABLE orders AS SELECT 17 AS id, false AS paid").await?;
    pay(&mut client, &h.options()).await?;
    Ok(receives(&mut received, "17 is paid").await?)
}

async fn bad_input_of_a_post_is_named(h: &dyn Harness) -> Outcome {
    let (node, client, _task) = prepared(h).await?;
    let mut received = node.subscribe("a").await?;
    client.batch_execute("CREATE TABLE orders (id int, tenant_id text)").await?;
    for (statement, names) in [
        ("broker.post(NULL, '1')", "is null"),
        ("broker.post('', '1')", "1 to 251 bytes"),
        ("broker.post('a b', '1')", "'a b' has white space"),
        ("broker.post('$revocations', '1')", "'$revocations' has a segment that begins with $"),
        ("broker.post('shop.$revocations', '1')", "reserved"),
        ("broker.post('a..b', '1')", "empty segment"),
        ("broker.post('a', NULL)", "payload is null"),
        ("broker.post('a', '1', repeat('t', 256))", "256 bytes"),
        ("broker.post('a', '1', NULL, '[]')", "an object of texts"),
        ("broker.post('a', '1', NULL, '{\"n\": 1}')", "'n'"),
        ("broker.post('a', '1', NULL, jsonb_build_object('n', repeat('v', 70000)))", "70000 bytes"),
        ("broker.post('a', '1', NULL, jsonb_build_object('n', repeat('v', 17000)))", "16,384"),
        ("broker.post('a', to_jsonb(repeat('x', 1000000)))", "1,000,000"),
        ("broker.publish_changes('orders', 'orders.{tenant}')", "column tenant"),
        ("broker.publish_changes('orders', 'orders..{id}')", "empty segment"),
        ("broker.publish_changes('orders', 'a{b.{id}')", "brace"),
        ("broker.publish_changes('orders', 'orders.{id')", "brace"),
        ("broker.publish_changes('orders', NULL)", "is null"),
        ("broker.publish_changes(NULL, 'orders')", "table is null"),
        ("broker.publish_changes('orders', 'orders', repeat('t', 256))", "256 bytes"),
        // In a moment, however much there is of it.
        (
            "broker.post('a', '1', NULL, (SELECT jsonb_object_agg(n, 'v') FROM generate_series(1, 300000) AS n))",
            "first 65",
        ),
        ("broker.escaped(repeat('é.', 100000))", "300000 bytes"),
    ] {
        let error = client.batch_execute(&format!("SELECT {statement}")).await.expect_err(statement);
        let said = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
        assert!(said.starts_with("broker.") && said.contains(names), "{statement}: {said}");
    }
    // As some old applications have it: it changes what a backslash means.
    client.batch_execute("SET standard_conforming_strings = off; SELECT broker.post('a', '\"old\"')").await?;
    receives(&mut received, "\"old\"").await?;
    client.batch_execute("SELECT broker.publish_changes('orders', 'orders.{tenant_id}')").await?;
    let error = client.batch_execute("INSERT INTO orders VALUES (1, NULL)").await.expect_err("no channel");
    assert!(
        error.as_db_error().is_some_and(|error| error.message().contains("tenant_id is null")),
        "{error:?}"
    );
    post(&node, "a", "end").await?;
    Ok(receives(&mut received, "end").await?)
}

/// What becomes JSON, and what a type's name means, may call functions of whoever made the type. Those run as the writer, and
/// who writes needs no permission for the schema.
const STRANGER: &str = "
    CREATE TABLE guest.ran_as (who text);
    CREATE TYPE guest.kind AS ENUM ('x');
    CREATE FUNCTION guest.spied(guest.kind) RETURNS json LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO guest.ran_as VALUES (current_user); RETURN '1'; END $$;
    CREATE CAST (guest.kind AS json) WITH FUNCTION guest.spied(guest.kind);
    CREATE FUNCTION guest.checked(value pg_catalog.text) RETURNS bool LANGUAGE plpgsql AS
      $$ BEGIN INSERT INTO guest.ran_as VALUES ('by a temporary type'); RETURN true; END $$;
    CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (guest.checked(VALUE));
    CREATE TABLE guest.kinds (kind guest.kind);
    CREATE TRIGGER mine AFTER INSERT ON guest.kinds FOR EACH ROW EXECUTE FUNCTION broker.publish_row('kinds');
    INSERT INTO guest.kinds VALUES ('x');
    INSERT INTO orders VALUES (1)";

async fn the_functions_lend_no_rights_of_their_owner(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let (node, owner, _task) = prepared(h).await?;
    let (mut kinds, mut orders) = (node.subscribe("kinds").await?, node.subscribe("orders").await?);
    owner
        .batch_execute(
            "CREATE TABLE orders (id int); GRANT INSERT ON orders TO guest;
             SELECT broker.publish_changes('orders', 'orders')",
        )
        .await?;
    postgres.run("CREATE SCHEMA guest AUTHORIZATION guest").await?;
    let (guest, _guests) = client(&postgres.url_for("guest", postgres.server().addr())).await?;
    guest.batch_execute(STRANGER).await?;
    receives(&mut kinds, r#"{"kind": 1}"#).await?;
    receives(&mut orders, r#"{"id": 1}"#).await?;
    assert_eq!(postgres.run("SELECT DISTINCT who FROM guest.ran_as").await?, [["guest"]]);
    Ok(())
}

async fn a_migration_may_run_again_and_is_refused_to_strangers(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let url = h.url();
    let at_once = (0..4).map(|_| tokio::time::timeout(Duration::from_secs(60), migrate(&url)));
    for migrated in try_join_all(at_once).await? {
        migrated?;
    }
    let stranger = postgres.url_for("guest", postgres.server().addr());
    let error = migrate(&stranger).await.expect_err("a stranger");
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains("belong to app: run it as the owner"), "{error}");
    let error = migrate("redis://127.0.0.1").await.expect_err("another backend");
    assert!(error.message().contains("postgres://"), "{error}");
    Ok(())
}

/// Who owns a schema, or a function, may replace it after the migration: so not even a superuser installs anything there.
async fn a_migration_is_refused_in_what_belongs_to_a_stranger(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let addr = postgres.server().addr();
    let functions =
        "SELECT count(*) FROM pg_proc WHERE pronamespace = to_regnamespace('broker') AND proname = 'post'";
    for (made, refused) in [
        (
            "CREATE SCHEMA broker AUTHORIZATION guest; GRANT ALL ON SCHEMA broker TO PUBLIC",
            ErrorKind::Forbidden,
        ),
        (
            "CREATE SCHEMA broker AUTHORIZATION app; CREATE FUNCTION broker.escaped(value text) RETURNS text LANGUAGE sql AS \
             'SELECT NULL::text'; ALTER FUNCTION broker.escaped(text) OWNER TO guest",
            ErrorKind::Forbidden,
        ),
        (
            "CREATE SCHEMA broker AUTHORIZATION app; CREATE TABLE broker.log (name text); \
             ALTER TABLE broker.log OWNER TO guest",
            ErrorKind::Misconfigured,
        ),
    ] {
        postgres.run(made).await?;
        for user in [APP, CONTROL] {
            let error = migrate(&postgres.url_for(user, addr)).await.err().ok_or(made)?;
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
            for part in ["guest", "ALTER SCHEMA broker RENAME TO"] {
                assert!(error.message().contains(part), "{part} is not in: {error}");
            }
            assert_eq!(postgres.run(functions).await?, [["0"]], "{made}");
        }
        // The tables of the log neither.
        let node = h.node().await?;
        let error = within("an answer", node.revoke(Revocation::user("ada"))).await?.err();
        let error = error.ok_or("a revocation in what belongs to a stranger")?;
        assert_eq!(error.kind(), refused, "{error}");
        // It tries again to make the schema, beside what is made here next.
        node.close().await;
        postgres.run("DROP SCHEMA broker CASCADE").await?;
    }
    // A superuser's is everybody's, and so is that of the owner of the database.
    for (first, then) in [(CONTROL, CONTROL), (APP, CONTROL), (APP, APP)] {
        migrate(&postgres.url_for(first, addr)).await?;
        migrate(&postgres.url_for(then, addr)).await?;
        postgres.run("DROP SCHEMA broker CASCADE").await?;
    }
    Ok(())
}
