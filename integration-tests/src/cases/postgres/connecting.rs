//! Cases about PostgreSQL alone: the ways to it, and the ways in which it refuses.

use broker::{ErrorKind, Scope};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{eventually, until, within},
};

use crate::{
    cases::{
        backend_common::{
            a_thousand_channels_keep_one_order, connect, open, receive_from_each_other, refusal, with_keys,
        },
        reaching::{
            another_kind_of_server_is_named_with_its_scheme, every_failed_host_is_named,
            silent_hosts_only_delay_the_connection,
        },
        tls,
    },
    harness::postgres::PostgresHarness,
    servers::{LIMIT, postgres::pooler::Pooler},
};

pub(super) const CASES: &[Case] = &[
    case!(a_wrong_password_is_refused_and_not_shown, [11]),
    case!(a_password_changed_under_way_is_the_reason_that_posts_name, [10]).needs(&[Need::OwnServer]),
    case!(a_missing_or_closed_database_is_named, [11]),
    case!(a_limit_for_statements_that_is_too_short_is_named, [10]),
    case!(encryption_from_end_to_end_with_the_right_authority, [1, 2]),
    case!(another_authority_is_refused_and_names_the_key, [11]),
    case!(a_client_certificate_is_demanded_where_the_server_wants_one, [11]),
    case!(a_server_that_wants_encryption_is_named_with_the_remedy, [10]),
    case!(a_pooler_of_transactions_is_named, [1, 10]).needs(&[Need::Pooler]),
    case!(another_kind_of_server_is_named_with_its_scheme, [10]),
    case!(silent_hosts_only_delay_the_connection, [6]),
    case!(every_failed_host_is_named, [10]),
    case!(a_thousand_channels_keep_one_order, [3]),
];

async fn a_wrong_password_is_refused_and_not_shown(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let addr = postgres.server().addr();
    for user in ["guarded", "unknown"] {
        let error = refusal(h, &postgres.url_for(&format!("{user}:s3cret"), addr), &addr.to_string()).await?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(!error.is_transient() && error.message().contains(&format!("{user:?}")), "{error}");
    }
    let url = postgres.url_for("guarded:right", addr);
    Ok(receive_from_each_other(&connect(h, &url).await?, &connect(h, &url).await?).await?)
}

/// Why the next link cannot be opened counts from the first attempt on, and no longer how the last one ended.
async fn a_password_changed_under_way_is_the_reason_that_posts_name(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let url = postgres.url_for("guarded:right", postgres.server().addr());
    let node = connect(h, &url).await?;
    postgres.run("ALTER ROLE guarded PASSWORD 'another'").await?;
    h.drop_links().await?;
    for failures in 2..6 {
        until("an attempt", || node.health().failures >= failures).await?;
        let error = within("an answer", node.publish("news", "lost", Scope::Global)).await?.err();
        let error = error.ok_or("a post without a link")?;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("wrong password"), "{error}");
    }
    postgres.run("ALTER ROLE guarded PASSWORD 'right'").await?;
    within("the next link", node.ready()).await??;
    Ok(())
}

async fn a_missing_or_closed_database_is_named(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let (addr, name) = (postgres.server().addr(), &postgres.database);
    let error = refusal(h, &format!("postgres://app@{addr}/elsewhere"), &addr.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("\"elsewhere\""), "{error}");
    postgres.run(&format!("REVOKE CONNECT ON DATABASE \"{name}\" FROM public")).await?;
    let error = refusal(h, &postgres.url_for("guest:x", addr), &addr.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains("\"guest\"") && error.message().contains(name.as_str()), "{error}");
    Ok(())
}

/// The server answers: so it is not taken for one that is frozen.
async fn a_limit_for_statements_that_is_too_short_is_named(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let (addr, name) = (postgres.server().addr(), &postgres.database);
    // Of a time so short some statements are done by chance.
    let slow = "ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_itself; \
                CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(3600)'; ";
    postgres
        .run(&format!("{slow} ALTER ROLE app IN DATABASE \"{name}\" SET statement_timeout = '10ms'"))
        .await?;
    let error = refusal(h, &h.url(), &addr.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    for part in ["57014", "`statement_timeout`", "ALTER ROLE"] {
        assert!(error.message().contains(part), "{part} is not in: {error}");
    }
    Ok(())
}

/// The URL of a user who comes encrypted.
fn encrypted(postgres: &PostgresHarness, user: &str) -> String {
    postgres.url_for(user, postgres.server().addr())
}

/// More keys behind those of the shared steps.
fn verified(url: &str) -> String {
    format!("{url}?sslmode=verify-full")
}

async fn encryption_from_end_to_end_with_the_right_authority(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let ca = postgres.server().certificates().authority();
    let url = format!("{}&ca={}", verified(&encrypted(postgres, "encrypted")), ca.display());
    let by_name = url.replace("127.0.0.1", "localhost");
    let (one, two) = (connect(h, &url).await?, connect(h, &by_name).await?);
    receive_from_each_other(&one, &two).await?;
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'encrypted' \
                 AND datname = current_database() AND NOT ssl";
    assert_eq!(postgres.run(plain).await?, [["0"]]);
    assert_eq!(h.connections().await?, 4);
    Ok(())
}

async fn another_authority_is_refused_and_names_the_key(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let others = crate::servers::certificates::Certificates::new()?;
    let (url, place) = (verified(&encrypted(postgres, "app")), postgres.server().addr().to_string());
    for url in [format!("{url}&ca={}", others.authority().display()), url] {
        tls::names_the_authority(h, &url, &place).await?;
    }
    Ok(())
}

async fn a_client_certificate_is_demanded_where_the_server_wants_one(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let (certificates, place) = (postgres.server().certificates(), postgres.server().addr().to_string());
    let url = encrypted(postgres, "certified");
    let mode = std::path::Path::new("verify-full");
    let (ca, cert, key) = (certificates.authority(), certificates.client(), certificates.client_key());
    let own = [("sslmode", mode), ("ca", &*ca), ("cert", &*cert), ("key", &*key)];
    let error = refusal(h, &with_keys(&url, &own[..2]), &place).await?;
    assert!(
        matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::Misconfigured | ErrorKind::Unavailable),
        "{error}"
    );
    let url = with_keys(&url, &own);
    Ok(receive_from_each_other(&connect(h, &url).await?, &connect(h, &url).await?).await?)
}

async fn a_server_that_wants_encryption_is_named_with_the_remedy(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let place = postgres.server().addr().to_string();
    let error = refusal(h, &encrypted(postgres, "encrypted"), &place).await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains("sslmode=verify-full"), "{error}");
    Ok(())
}

/// It would answer LISTEN, and nothing would ever arrive.
async fn a_pooler_of_transactions_is_named(h: &dyn Harness) -> Outcome {
    let postgres = PostgresHarness::of(h)?;
    let pooler = Pooler::before(postgres.server().addr()).await?;
    let url = postgres.url_for("app", pooler.addr());
    let error = refusal(h, &url, &pooler.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    for part in ["pooler", "pool_mode"] {
        assert!(error.message().contains(part), "{part} is not in: {error}");
    }
    // A node that keeps trying never counts as connected, and no other client gets a connection that listens.
    let node = open(h, &url)?;
    until("two attempts", || node.health().failures >= 2).await?;
    assert_eq!(node.health().links, 0);
    node.close().await;
    eventually("no connection to listen", LIMIT, || async {
        let listening = "SELECT pg_listening_channels()";
        let through = crate::servers::postgres::control::PostgresControl::at(pooler.addr());
        let left = through.run(&postgres.database, listening).await?;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    Ok(())
}
