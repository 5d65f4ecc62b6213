//! Cases about Redis alone: the ways to it, and the ways in which it refuses. Each starts a server as it wants it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use broker::{CloseReason, ErrorKind, Scope};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    free_port,
    harness::Harness,
    steps::{post, receives, receives_link_loss, wait_for_link},
    wait::{fence, until, within},
};

use crate::{
    cases::{
        backend_common::{
            connect, impostor, open, receive_from_each_other, receives_again_after, refusal, refusal_within,
            restart, there_is_room_for_one, with_keys,
        },
        reaching::another_kind_of_server_is_named_with_its_scheme,
        tls,
    },
    servers::{
        self, Server,
        certificates::Certificates,
        redis::{Redis, config::RedisConfig, process::RedisServer},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_wrong_password_is_refused_and_not_shown, [11]).needs(OWN),
    case!(a_closed_port_is_unavailable, [6]),
    case!(a_foreign_server_differs_from_an_unreachable_one, [11]),
    case!(a_server_too_old_for_resp3_is_named, [11]),
    case!(tls_with_the_right_authority_connects, [1, 2]).needs(OWN),
    case!(tls_with_another_authority_is_refused_and_names_the_key, [11]).needs(OWN),
    case!(tls_without_the_client_certificate_is_refused, [11]).needs(OWN),
    case!(tls_on_one_side_only_is_named_redis, [10]).needs(OWN),
    case!(another_kind_of_server_is_named_with_its_scheme, [10]),
    case!(a_unix_socket_works_like_a_port, [1, 2]).needs(&[Need::Process]),
    case!(a_full_server_is_unavailable_until_there_is_room, [6, 10]).needs(OWN),
    case!(a_link_needs_permission_to_publish, [10]).needs(OWN),
    case!(a_post_without_permission_is_forbidden_and_the_link_stays, [11]).needs(OWN),
    case!(a_withdrawn_permission_ends_its_channel_and_no_other, [4, 11]).needs(OWN),
    case!(a_killed_subscriber_connection_is_a_gap_and_recovers, [4]).needs(OWN),
    case!(a_killed_publisher_connection_is_detected_and_recovers, [4, 6]).needs(OWN),
    case!(a_changed_password_is_reported_at_the_next_link, [10]).needs(OWN),
];

const OWN: &[Need] = &[Need::OwnServer];

async fn server(config: RedisConfig) -> Result<Box<dyn Redis>, String> {
    servers::redis::start(config).await
}

async fn a_wrong_password_is_refused_and_not_shown(h: &dyn Harness) -> Outcome {
    let server =
        server(RedisConfig::default().password("s3cret").user("ada on >s3cret2 ~* &* +@all")).await?;
    let addr = server.addr();
    for credentials in ["", ":s3cretive@", "ada:s3cret@", "nobody:s3cret@"] {
        let error = refusal(h, &format!("redis://{credentials}{addr}"), &addr.to_string()).await?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(!error.is_transient());
    }
    let one = connect(h, &server.url_at(addr)).await?;
    let two = connect(h, &format!("redis://ada:s3cret2@{addr}")).await?;
    receive_from_each_other(&one, &two).await?;
    Ok(())
}

async fn a_closed_port_is_unavailable(h: &dyn Harness) -> Outcome {
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let error = refusal(h, &format!("redis://:s3cret@{addr}"), &addr.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let node = open(h, &format!("redis://{addr}"))?;
    until("three attempts", || node.health().failures >= 3).await?;
    let refused = node.publish("news", "hello", Scope::Global).await;
    assert!(refused.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    within("the broker to close", node.close()).await?;
    Ok(())
}

async fn a_foreign_server_differs_from_an_unreachable_one(h: &dyn Harness) -> Outcome {
    for (answer, close, kind) in [
        (Some("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), true, ErrorKind::Protocol),
        (Some("220 mail.example.org ESMTP\r\n"), false, ErrorKind::Protocol),
        (Some("\0\0\0\0\0\0\0\0"), false, ErrorKind::Protocol),
        (None, false, ErrorKind::Timeout),
        (None, true, ErrorKind::Unavailable),
    ] {
        let addr = impostor(answer, close).await?;
        let error =
            refusal_within(h, &format!("redis://:s3cret@{addr}"), &addr.to_string(), Duration::from_secs(2))
                .await?;
        assert_eq!(error.kind(), kind, "answering {answer:?}: {error}");
    }
    Ok(())
}

async fn a_server_too_old_for_resp3_is_named(h: &dyn Harness) -> Outcome {
    for answer in ["-ERR unknown command 'HELLO'\r\n", "-NOPROTO unsupported protocol version\r\n"] {
        let addr = impostor(Some(answer), false).await?;
        let error = refusal(h, &format!("redis://:s3cret@{addr}"), &addr.to_string()).await?;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains("Redis 6"), "{error}");
    }
    Ok(())
}

async fn tls_with_the_right_authority_connects(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let server = server(RedisConfig::default().tls(Arc::clone(&certificates), false)).await?;
    let url = server.url_at(server.addr());
    tls::works_from_end_to_end(h, &url, &certificates.authority(), restart(&*server)).await
}

async fn tls_with_another_authority_is_refused_and_names_the_key(h: &dyn Harness) -> Outcome {
    let server = server(RedisConfig::default().tls(Arc::new(Certificates::new()?), false)).await?;
    let url = server.url_at(server.addr());
    tls::another_authority_is_refused(h, &url, &server.addr().to_string()).await?;
    let missing =
        refusal(h, &with_keys(&url, &[("ca", Path::new("/no/such/ca.pem"))]), "/no/such/ca.pem").await?;
    assert_eq!(missing.kind(), ErrorKind::InvalidInput, "{missing}");
    Ok(())
}

async fn tls_without_the_client_certificate_is_refused(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let server = server(RedisConfig::default().tls(Arc::clone(&certificates), true)).await?;
    let (url, place) = (server.url_at(server.addr()), server.addr().to_string());
    tls::a_client_certificate_is_demanded(h, &url, &place, &certificates).await
}

async fn tls_on_one_side_only_is_named_redis(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let config = RedisConfig::default().tls(Arc::clone(&certificates), false);
    let (tls, plain) = (server(config).await?, server(RedisConfig::default()).await?);
    let (tls, plain) = (tls.addr().to_string(), plain.addr().to_string());
    tls::one_side_only_is_named(h, &format!("redis://{tls}"), &tls, "use rediss://").await?;
    let url = with_keys(&format!("rediss://{plain}"), &[("ca", &certificates.authority())]);
    tls::one_side_only_is_named(h, &url, &plain, "use redis://").await
}

async fn a_unix_socket_works_like_a_port(h: &dyn Harness) -> Outcome {
    let server = RedisServer::start(RedisConfig::default()).await?;
    let socket = server.socket();
    let one = connect(h, &format!("redis+unix://{}", socket.display())).await?;
    let two = connect(h, &server.url_at(server.addr())).await?;
    receive_from_each_other(&one, &two).await?;
    receives_again_after(&one, &two, restart(&server)).await?;
    let gone = socket.with_extension("gone");
    let error = refusal(h, &format!("redis+unix://{}", gone.display()), &gone.display().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    Ok(())
}

async fn a_full_server_is_unavailable_until_there_is_room(h: &dyn Harness) -> Outcome {
    // Room for one link, and for one connection more: a link needs two.
    let server = server(RedisConfig::default().line("maxclients 3")).await?;
    there_is_room_for_one(h, &*server).await
}

async fn a_link_needs_permission_to_publish(h: &dyn Harness) -> Outcome {
    let server = server(RedisConfig::default()).await?;
    let url = server.url_at(server.addr());
    for rules in ["-publish", "+publish resetchannels &news"] {
        let mut args: Vec<&[u8]> = vec![b"ACL", b"SETUSER", b"default"];
        args.extend(rules.split(' ').map(str::as_bytes));
        server.command(&args).await?;
        let error = refusal(h, &url, &server.addr().to_string()).await?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        let node = open(h, &url)?;
        until("two attempts", || node.health().failures >= 2).await?;
        assert_eq!(node.health().links, 0);
        node.close().await;
    }
    server.command(&[b"ACL", b"SETUSER", b"default", b"allchannels"]).await?;
    connect(h, &url).await?;
    Ok(())
}

async fn a_post_without_permission_is_forbidden_and_the_link_stays(h: &dyn Harness) -> Outcome {
    let server =
        server(RedisConfig::default().line("user ada on >ada resetchannels &open &$* +@all")).await?;
    let addr = server.addr();
    let (ada, other) =
        (connect(h, &format!("redis://ada:ada@{addr}")).await?, connect(h, &server.url_at(addr)).await?);
    let (mut open, mut closed) = (other.subscribe("open").await?, other.subscribe("closed").await?);
    // Side by side, so that they share batches: each has its own outcome.
    let posts = (0..100).map(|n| {
        let channel = if n % 2 == 0 { "open" } else { "closed" };
        ada.publish(channel, n.to_string(), Scope::Global)
    });
    for (n, outcome) in futures_util::future::join_all(posts).await.into_iter().enumerate() {
        match outcome {
            Ok(_) if n % 2 == 0 => {}
            Err(error) if n % 2 == 1 && error.kind() == ErrorKind::Forbidden => {
                assert_eq!(error.channel().map(AsRef::as_ref), Some("closed"), "{error}");
            }
            other => return Err(format!("post {n}: {other:?}").into()),
        }
    }
    for n in (0..100).step_by(2) {
        receives(&mut open, &n.to_string()).await?;
    }
    fence(&ada, &mut open).await?;
    fence(&other, &mut closed).await?;
    assert_eq!(ada.health().links, 1);
    Ok(())
}

/// The server ends the connection of whoever is subscribed to what is no longer allowed.
async fn a_withdrawn_permission_ends_its_channel_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(RedisConfig::default()).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let (mut open, mut shut) = (node.subscribe("open").await?, node.subscribe("shut").await?);
    server.command(&[b"ACL", b"SETUSER", b"default", b"resetchannels", b"&open", b"&$*"]).await?;
    assert!(within("the end", shut.next()).await?.is_none());
    let Some(CloseReason::Refused(error)) = shut.close_reason() else {
        return Err(format!("ended because: {:?}", shut.close_reason()).into());
    };
    assert_eq!((error.kind(), error.channel().map(AsRef::as_ref)), (ErrorKind::Forbidden, Some("shut")));
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut open).await?;
    fence(&node, &mut open).await?;
    let refused = node.subscribe("shut").await.map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Forbidden));
    // Granted again, it is a channel like any other.
    server.command(&[b"ACL", b"SETUSER", b"default", b"allchannels"]).await?;
    let mut again = node.subscribe("shut").await?;
    fence(&node, &mut again).await?;
    fence(&node, &mut open).await?;
    assert_eq!(node.health().links, 2);
    Ok(())
}

async fn a_killed_subscriber_connection_is_a_gap_and_recovers(h: &dyn Harness) -> Outcome {
    killed(h, "pubsub").await
}

async fn a_killed_publisher_connection_is_detected_and_recovers(h: &dyn Harness) -> Outcome {
    killed(h, "normal").await
}

/// Half of a link is gone: the other half goes too.
async fn killed(h: &dyn Harness, kind: &str) -> Outcome {
    let server = server(RedisConfig::default()).await?;
    let mut options = h.options();
    // The end of a connection is detected by itself, not only by a missing echo.
    options.heartbeat = Duration::from_secs(60);
    let url = server.url_at(server.addr());
    let node = broker::connect_with(&url, options.clone()).await?;
    let other = broker::connect_with(&url, options).await?;
    let mut received = node.subscribe("news").await?;
    for round in 0..3 {
        server.command(&[b"CLIENT", b"KILL", b"TYPE", kind.as_bytes()]).await?;
        wait_for_link(&node, round + 2).await?;
        wait_for_link(&other, round + 2).await?;
        post(&other, "news", "hello").await?;
        receives_link_loss(&mut received).await?;
        receives(&mut received, "hello").await?;
        post(&node, "news", "self").await?;
        receives(&mut received, "self").await?;
    }
    Ok(())
}

async fn a_changed_password_is_reported_at_the_next_link(h: &dyn Harness) -> Outcome {
    let server = server(RedisConfig::default().password("s3cret")).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut received = node.subscribe("news").await?;
    server.command(&[b"CONFIG", b"SET", b"requirepass", b"other"]).await?;
    fence(&node, &mut received).await?;
    server.command(&[b"CLIENT", b"KILL", b"USER", b"default"]).await?;
    let forbidden = || node.health().last_error.is_some_and(|error| error.kind() == ErrorKind::Forbidden);
    until("the refusal", forbidden).await?;
    assert!(!node.health().is_connected());
    server.command(&[b"CONFIG", b"SET", b"requirepass", b"s3cret"]).await?;
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut received).await?;
    fence(&node, &mut received).await?;
    Ok(())
}
