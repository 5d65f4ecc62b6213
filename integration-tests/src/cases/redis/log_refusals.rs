//! Cases about the revocation log on Redis: the ways in which the server refuses it.

use broker_conformance::{
    case::{Case, Outcome, case},
    free_port,
    harness::Harness,
    log_checks,
    log_link::{LIMIT, LogLink, Opener, RETENTION},
};
use broker_core::{
    Error, ErrorKind,
    driver::{LogCursor, LogSpec},
};

use crate::{
    cases::{
        backend_common::{connect, receive_from_each_other},
        redis::log::{KEY, OWN, ask, server},
    },
    servers::{Server, redis::config::RedisConfig},
};

pub(super) const CASES: &[Case] = &[
    case!(a_key_of_another_type_is_misconfigured_until_deleted, [9]).needs(OWN),
    case!(the_documented_permissions_are_sufficient, [9, 11]).needs(OWN),
    case!(each_missing_permission_is_forbidden, [9]).needs(OWN),
    case!(a_server_out_of_memory_refuses_revocations, [9]).needs(OWN),
    case!(a_master_without_replicas_refuses_revocations, [9]).needs(OWN),
    case!(a_replica_refuses_revocations_and_is_left, [9]).needs(OWN),
];

/// What the driver's page says that the log needs.
const COMMANDS: [&str; 5] = ["+xadd", "+xrange", "+xinfo|stream", "+xinfo|groups", "+xgroup|create"];

/// The rules of a user of the application `shop`, as in the driver's page, but for one of those commands.
fn shop(user: &str, without: Option<&str>) -> String {
    let log: Vec<&str> = COMMANDS.into_iter().filter(|command| Some(*command) != without).collect();
    format!(
        "{user} on >{user} resetkeys ~shop.{KEY} resetchannels &shop.* -@all +publish +subscribe +unsubscribe {}",
        log.join(" ")
    )
}

fn as_user(server: &dyn Server, user: &str) -> String {
    format!("redis://{user}:{user}@{}", server.addr())
}

fn log_of(url: &str, prefix: &str) -> Outcome<Opener> {
    Opener::new(broker_redis::BACKEND, url, LogSpec::of(prefix, RETENTION, LIMIT))
}

/// The error of a call, which says where, and is not about the link.
#[track_caller]
fn refused<T>(link: &LogLink, server: &dyn Server, answer: Result<T, Error>) -> Error {
    let error = answer.err().expect("a refusal");
    assert!(error.message().contains(&server.addr().to_string()), "{error}");
    assert!(!link.is_lost(), "{error}");
    error
}

async fn a_key_of_another_type_is_misconfigured_until_deleted(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let known = opener.open().await?;
    known.append("a").await?;
    let cursor = known.rest(&LogCursor::START).await?.cursor;
    ask::<()>(&*server, &format!("SET {KEY} s3cret")).await?;
    for link in [known, opener.open().await?] {
        for answer in [
            link.append("b").await,
            link.page(&cursor).await.map(drop),
            link.page(&LogCursor::START).await.map(drop),
        ] {
            let error = refused(&link, &*server, answer);
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }
    ask::<()>(&*server, &format!("DEL {KEY}")).await?;
    log_checks::read_your_writes(&opener).await
}

async fn the_documented_permissions_are_sufficient(h: &dyn Harness) -> Outcome {
    let config = RedisConfig::default().user(&shop("shop", None)).line("user default off");
    let (server, _) = server(config).await?;
    let url = as_user(&*server, "shop");
    log_checks::pages(&log_of(&url, "shop")?).await?;
    let url = format!("{url}?prefix=shop");
    receive_from_each_other(&connect(h, &url).await?, &connect(h, &url).await?).await?;
    Ok(())
}

async fn each_missing_permission_is_forbidden(_: &dyn Harness) -> Outcome {
    let mut config = RedisConfig::default().user("keyless on >keyless ~other &* +@all");
    for (n, command) in COMMANDS.into_iter().enumerate() {
        config = config.user(&shop(&format!("u{n}"), Some(command)));
    }
    let (server, _) = server(config).await?;
    let mut users = vec![("keyless".to_owned(), "~")];
    users.extend(COMMANDS.into_iter().enumerate().map(|(n, command)| (format!("u{n}"), command)));
    for (user, missing) in users {
        ask::<()>(&*server, &format!("DEL shop.{KEY}")).await?;
        let link = log_of(&as_user(&*server, &user), "shop")?.open().await?;
        let (read, appended) = (link.page(&LogCursor::START).await, link.append("a").await);
        let error = appended.expect_err(missing);
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{missing}: {error}");
        assert!(error.message().contains(&format!("\"{user}\"")), "{error}");
        if missing != "+xadd" {
            let error = read.expect_err(missing);
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{missing}: {error}");
        }
        assert!(!link.is_lost(), "{missing}");
    }
    Ok(())
}

async fn a_server_out_of_memory_refuses_revocations(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let link = opener.open().await?;
    link.append("a").await?;
    ask::<()>(&*server, "CONFIG SET maxmemory 1").await?;
    let error = refused(&link, &*server, link.append("b").await);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_transient() && error.message().contains("maxmemory"), "{error}");
    // What is there can be read.
    link.rest(&LogCursor::START).await?.is(&["a"]);
    ask::<()>(&*server, "CONFIG SET maxmemory 0").await?;
    link.append("b").await?;
    link.rest(&LogCursor::START).await?.is(&["a", "b"]);
    Ok(())
}

async fn a_master_without_replicas_refuses_revocations(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    ask::<()>(&*server, "CONFIG SET min-replicas-to-write 1").await?;
    let link = opener.open().await?;
    for answer in [link.append("a").await, link.page(&LogCursor::START).await.map(drop)] {
        let error = refused(&link, &*server, answer);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("min-replicas-to-write"), "{error}");
    }
    ask::<()>(&*server, "CONFIG SET min-replicas-to-write 0").await?;
    log_checks::read_your_writes(&opener).await
}

async fn a_replica_refuses_revocations_and_is_left(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let link = opener.open().await?;
    link.append("a").await?;
    // Of a master that nobody will find.
    ask::<()>(&*server, &format!("REPLICAOF 127.0.0.1 {}", free_port()?)).await?;
    link.rest(&LogCursor::START).await?.is(&["a"]);
    assert!(!link.is_lost());
    let error = link.append("b").await.expect_err("an append to a replica");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("master"), "{error}");
    assert!(link.is_lost());
    ask::<()>(&*server, "REPLICAOF NO ONE").await?;
    let link = opener.open().await?;
    link.append("b").await?;
    link.rest(&LogCursor::START).await?.is(&["a", "b"]);
    Ok(())
}
