//! Cases about RabbitMQ alone: the ways to it, and the ways in which it refuses. Each has a virtual host, with a user
//! of its name, to itself.

use std::path::Path;

use broker::{ErrorKind, Scope};
use broker_conformance::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::{post, quick_detection, receives, receives_again, wait_for_link},
    wait::{LIMIT, eventually, fence, until, until_is, within},
};
use serde_json::json;

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
    harness::rabbitmq::RabbitHarness,
};

pub(super) const CASES: &[Case] = &[
    case!(a_wrong_password_is_refused_and_not_shown, [11]),
    case!(a_missing_or_closed_virtual_host_is_named, [11]),
    case!(a_link_needs_each_of_its_permissions, [10, 11]),
    case!(a_withdrawn_permission_fails_new_calls_and_keeps_the_link, [6, 11]),
    case!(a_withdrawn_permission_ends_connected, [4, 10]),
    case!(an_exchange_of_another_kind_is_named_and_another_name_works, [10, 11]),
    case!(a_full_virtual_host_is_unavailable_until_there_is_room, [6, 10]),
    case!(tls_with_the_right_authority_connects, [1, 2]),
    case!(tls_with_another_authority_is_refused_and_names_the_key, [11]),
    case!(tls_without_the_client_certificate_is_refused, [11]),
    case!(tls_on_one_side_only_is_named_rabbitmq, [10]),
    case!(another_kind_of_server_is_named_with_its_scheme, [10]),
    case!(silent_hosts_only_delay_the_connection, [6]),
    case!(every_failed_host_is_named, [10]),
    case!(a_thousand_channels_keep_one_order, [3]),
];

/// The permission that the driver's documentation says is enough.
pub(super) const ENOUGH: &str = r"^broker(\..*)?$";
const EXCHANGE_ALONE: &str = "^broker$";
const QUEUES_ALONE: &str = r"^broker\.";

/// Gives the case's user these permissions: configure, write and read.
pub(super) async fn allow(rabbit: &RabbitHarness, [configure, write, read]: [&str; 3]) -> Result<(), String> {
    let rights = json!({ "configure": configure, "write": write, "read": read });
    let path = format!("permissions/{0}/{0}", rabbit.name);
    rabbit.server().control().call("PUT", &path, Some(&rights)).await.map(drop)
}

async fn a_wrong_password_is_refused_and_not_shown(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (addr, name) = (rabbit.server().addr(), &rabbit.name);
    for user in [name, "nobody", "guest"] {
        let url = format!("amqp://{user}:s3cret@{addr}/{name}");
        let error = refusal(h, &url, &addr.to_string()).await?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(!error.is_transient(), "{error}");
        assert!(error.message().contains(&format!("{user:?}")), "{error}");
        assert!(error.message().contains("password"), "{error}");
    }
    Ok(())
}

async fn a_missing_or_closed_virtual_host_is_named(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, name) = (rabbit.server().control(), &rabbit.name);
    let other = format!("{name}-other");
    control.add_vhost(&other).await?;
    for (vhost, kind, remedy) in [
        ("elsewhere", ErrorKind::Misconfigured, "add it"),
        (&other, ErrorKind::Forbidden, "rabbitmqctl"),
        // That of a URL without one.
        ("", ErrorKind::Forbidden, "rabbitmqctl"),
    ] {
        let addr = rabbit.server().addr();
        let url = format!("amqp://{name}:{name}@{addr}/{vhost}");
        let error = refusal(h, &url, &addr.to_string()).await?;
        assert_eq!(error.kind(), kind, "{error}");
        let named = if vhost.is_empty() { "/" } else { vhost };
        for part in [&format!("{name:?}"), &format!("{named:?}"), remedy] {
            assert!(error.message().contains(part), "{part} is not in: {error}");
        }
    }
    control.remove_vhost(&other).await?;
    Ok(())
}

async fn a_link_needs_each_of_its_permissions(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let addr = rabbit.server().addr().to_string();
    for rights in [
        [QUEUES_ALONE, ENOUGH, ENOUGH],
        [EXCHANGE_ALONE, ENOUGH, ENOUGH],
        [ENOUGH, QUEUES_ALONE, ENOUGH],
        [ENOUGH, EXCHANGE_ALONE, ENOUGH],
        [ENOUGH, ENOUGH, QUEUES_ALONE],
        [ENOUGH, ENOUGH, EXCHANGE_ALONE],
    ] {
        allow(rabbit, rights).await?;
        let error = refusal(h, &h.url(), &addr).await.map_err(|error| format!("{rights:?}: {error}"))?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{rights:?}: {error}");
        for part in [&format!("{:?}", rabbit.name), "\"broker\"", "`rabbitmqctl list_permissions`"] {
            assert!(error.message().contains(part), "{part} is not in: {error}");
        }
        let node = open(h, &h.url())?;
        until("two attempts", || node.health().failures >= 2).await?;
        let health = node.health();
        assert_eq!(health.links, 0, "{rights:?}");
        assert_eq!(health.last_error.map(|error| error.kind()), Some(ErrorKind::Forbidden), "{rights:?}");
        // No more than this is needed.
        allow(rabbit, [ENOUGH; 3]).await?;
        wait_for_link(&node, 1).await?;
        let mut received = node.subscribe("news").await?;
        fence(&node, &mut received).await?;
        node.close().await;
    }
    Ok(())
}

/// The server remembers what it has allowed, for as long as an AMQP channel is busy. Here it forgets.
async fn forget_permissions(rabbit: &RabbitHarness) -> Result<(), String> {
    let forget = "[sys:replace_state(C, fun(S) -> erase(permission_cache), S end) \
                  || C <- rabbit_channel:list_local()]";
    rabbit.server().evaluate(forget).await
}

/// The next heartbeat is refused, and would not be received.
async fn a_withdrawn_permission_ends_connected(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let node = h.node_with(quick_detection).await?;
    let mut received = node.subscribe("news").await?;
    allow(rabbit, [ENOUGH, QUEUES_ALONE, ENOUGH]).await?;
    let lost = eventually("the loss to be noticed", LIMIT, || async {
        // It may have remembered once more what it allowed before.
        forget_permissions(rabbit).await?;
        if node.health().is_connected() { Err("connected".to_owned()) } else { Ok(()) }
    });
    lost.await?;
    let refused = || node.health().last_error.is_some_and(|error| error.kind() == ErrorKind::Forbidden);
    until("the refusal", refused).await?;
    assert!(!node.health().is_connected());
    allow(rabbit, [ENOUGH; 3]).await?;
    assert!(receives_again(&node, &mut received).await? >= 1, "no gap");
    Ok(())
}

async fn a_withdrawn_permission_fails_new_calls_and_keeps_the_link(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    // Its own post at a heartbeat would be refused, too.
    let node = h.node_with(|options| options.heartbeat = std::time::Duration::from_secs(3600)).await?;
    let mut received = node.subscribe("news").await?;
    post(&node, "news", "allowed").await?;
    receives(&mut received, "allowed").await?;

    // To read from the exchange is what a binding needs.
    allow(rabbit, [ENOUGH, ENOUGH, QUEUES_ALONE]).await?;
    forget_permissions(rabbit).await?;
    let mut names = (0..).map(|n| format!("other.{n}"));
    let error = eventually("a refused channel", LIMIT, || {
        let subscribing = node.subscribe(names.next().unwrap_or_default());
        async { subscribing.await.err().ok_or_else(|| "subscribed".to_owned()) }
    });
    let error = error.await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.channel().is_some_and(|name| name.as_str().starts_with("other.")), "{error}");
    fence(&node, &mut received).await?;

    allow(rabbit, [ENOUGH, QUEUES_ALONE, ENOUGH]).await?;
    forget_permissions(rabbit).await?;
    let error = eventually("a refused post", LIMIT, || async {
        let posted = node.publish("silence", "hello", Scope::Global).await;
        posted.err().ok_or_else(|| "posted".to_owned())
    });
    let error = error.await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert_eq!(error.channel().map(AsRef::as_ref), Some("silence"), "{error}");

    // Granted again, everything works, and on the same link.
    allow(rabbit, [ENOUGH; 3]).await?;
    let mut again = node.subscribe("other").await?;
    fence(&node, &mut again).await?;
    fence(&node, &mut received).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn an_exchange_of_another_kind_is_named_and_another_name_works(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, addr) = (rabbit.server().control(), rabbit.server().addr().to_string());
    let path = format!("exchanges/{}/broker", rabbit.name);
    for (round, other) in
        [json!({ "type": "fanout", "durable": true }), json!({ "type": "direct", "durable": false })]
            .iter()
            .enumerate()
    {
        control.call("PUT", &path, Some(other)).await?;
        let error = refusal(h, &h.url(), &addr).await?;
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        for part in ["\"broker\"", "`exchange`", &format!("{:?}", rabbit.name)] {
            assert!(error.message().contains(part), "{part} is not in: {error}");
        }
        let url = format!("{}?exchange=other", h.url());
        let (one, two) = (connect(h, &url).await?, connect(h, &url).await?);
        receive_from_each_other(&one, &two).await?;

        let node = open(h, &h.url())?;
        until("two attempts", || node.health().failures >= 2).await?;
        let kind = node.health().last_error.map(|error| error.kind());
        assert_eq!((node.health().links, kind), (0, Some(ErrorKind::Misconfigured)), "round {round}");
        control.call("DELETE", &path, None).await?;
        wait_for_link(&node, 1).await?;
        node.close().await;
        control.call("DELETE", &path, None).await?;
    }
    Ok(())
}

/// A link has two connections, and that is all there is room for: the server counts a moment late.
async fn a_full_virtual_host_is_unavailable_until_there_is_room(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, addr) = (rabbit.server().control(), rabbit.server().addr().to_string());
    for limit in ["vhost-limits", "user-limits"] {
        let path = format!("{limit}/{}/max-connections", rabbit.name);
        control.call("PUT", &path, Some(&json!({ "value": 2 }))).await?;
        let mut long_limits = h.options();
        // Who loses a link here, because the server has other things to do, loses its place to the second.
        (long_limits.publish_timeout, long_limits.heartbeat_timeout) = (LIMIT, LIMIT);
        let first = broker::connect_with(&h.url(), long_limits).await?;
        until_is("the link to be counted", 2, || h.connections()).await?;
        let error = refusal(h, &h.url(), &addr).await?;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("too many connections"), "{error}");
        let second = open(h, &h.url())?;
        let tried = until("two attempts", || second.health().failures >= 2).await;
        tried.map_err(|error| format!("{error}: {:?}, {:?}", first.health(), second.health()))?;
        assert_eq!(second.health().links, 0);
        let mut received = first.subscribe("news").await?;
        fence(&first, &mut received).await?;
        assert_eq!(first.health().links, 1);
        first.close().await;
        within("room for the second", second.ready()).await??;
        second.close().await;
        control.call("DELETE", &path, None).await?;
        until_is("everyone to be gone", 0, || h.connections()).await?;
    }
    Ok(())
}

fn encrypted(rabbit: &RabbitHarness, addr: std::net::SocketAddr) -> String {
    let name = &rabbit.name;
    format!("amqps://{name}:{name}@{addr}/{name}")
}

async fn tls_with_the_right_authority_connects(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (url, ca) = (encrypted(rabbit, rabbit.server().tls()), rabbit.server().certificates().authority());
    tls::works_from_end_to_end(h, &url, &ca, h.drop_links()).await?;
    // Those without encryption are on the same channels.
    let one = connect(h, &with_keys(&url, &[("ca", &ca)])).await?;
    Ok(receive_from_each_other(&one, &h.node().await?.broker).await?)
}

async fn tls_with_another_authority_is_refused_and_names_the_key(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (tls, url) = (rabbit.server().tls(), encrypted(rabbit, rabbit.server().tls()));
    tls::another_authority_is_refused(h, &url, &tls.to_string()).await?;
    for file in [Path::new("/no/such/ca.pem"), &rabbit.server().certificates().server_key()] {
        let part = format!("ca={}", file.display());
        let error = refusal(h, &with_keys(&url, &[("ca", file)]), &part).await?;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    Ok(())
}

async fn tls_without_the_client_certificate_is_refused(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let addr = rabbit.server().demanding_tls().await?;
    let certificates = rabbit.server().certificates();
    tls::a_client_certificate_is_demanded(h, &encrypted(rabbit, addr), &addr.to_string(), certificates).await
}

async fn tls_on_one_side_only_is_named_rabbitmq(h: &dyn Harness) -> Outcome {
    let server = RabbitHarness::of(h)?.server();
    let (plain, tls) = (server.addr().to_string(), server.tls().to_string());
    tls::one_side_only_is_named(h, &format!("amqp://{tls}"), &tls, "use amqps://").await?;
    let url = with_keys(&format!("amqps://{plain}"), &[("ca", &server.certificates().authority())]);
    within("an error", tls::one_side_only_is_named(h, &url, &plain, "use amqp://")).await?
}
