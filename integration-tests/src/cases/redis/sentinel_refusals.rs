//! Cases about the way to Sentinels: as whom, encrypted, and what is said where it is refused.

use std::{net::SocketAddr, sync::Arc};

use broker::{ErrorKind, RevocationOutcome};
use broker_conformance::{
    case::{Case, Outcome, case},
    free_port,
    harness::Harness,
};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, Value};

use super::sentinel::{PROCESS, cluster};
use crate::{
    cases::{
        backend_common::{connect, receive_from_each_other, receives_again_after, refusal},
        tls,
    },
    servers::{
        Server,
        certificates::Certificates,
        redis::{
            config::RedisConfig,
            process::RedisServer,
            sentinel::{MASTER, RedisSentinel, url_at},
        },
    },
};

pub(super) const CASES: &[Case] = &[
    case!(an_unknown_master_is_named_with_the_remedy, [11]).needs(PROCESS),
    case!(a_server_that_is_no_sentinel_is_named, [10]).needs(PROCESS),
    case!(sentinels_that_want_a_password_get_it_and_show_it_to_nobody, [11]).needs(PROCESS),
    case!(sentinels_and_servers_speak_tls, [1, 2, 4]).needs(PROCESS),
    case!(the_least_permissions_suffice_and_nothing_else_is_granted, [10]).needs(PROCESS),
];

fn addrs(cluster: &RedisSentinel) -> Vec<SocketAddr> {
    cluster.sentinels().iter().map(Server::addr).collect()
}

async fn an_unknown_master_is_named_with_the_remedy(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let url = cluster.url("redis+sentinel", "").replace("master=main", "master=mian");
    let error = refusal(h, &url, "127.0.0.1").await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    for part in ["no master `mian`", "the key `master`", "SENTINEL MASTERS"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    Ok(())
}

async fn a_server_that_is_no_sentinel_is_named(h: &dyn Harness) -> Outcome {
    let server = RedisServer::start(RedisConfig::default()).await?;
    let url = url_at("redis+sentinel", "", &[server.addr()], "");
    let error = refusal(h, &url, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("is no Sentinel") && error.message().contains("redis://"), "{error}");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let error = refusal(h, &url_at("redis+sentinel", "", &[nowhere], ""), &nowhere.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    Ok(())
}

async fn sentinels_that_want_a_password_get_it_and_show_it_to_nobody(h: &dyn Harness) -> Outcome {
    let sentinels = RedisConfig::default().password("s3cret");
    let cluster = RedisSentinel::start(RedisConfig::default(), sentinels).await?;
    for (keys, hint) in [
        ("", "the key `sentinel_password`"),
        ("&sentinel_password=s3cretive", "wrong password"),
        ("&sentinel_user=ada&sentinel_password=s3cret", "\"ada\""),
    ] {
        let error = refusal(h, &cluster.url("redis+sentinel", keys), "127.0.0.1").await?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{keys}: {error}");
        assert!(error.message().contains(hint), "{hint}: {error}");
    }
    // As every other refusal: without a server, and with the password in the wrong place.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    refusal(h, &url_at("redis+sentinel", "", &[nowhere], "&sentinel_password=s3cret"), "127.0.0.1").await?;
    let url = cluster.url("redis+sentinel", "&sentinel_password=s3cret");
    let refused = broker::open(&format!("{url}&sentinel_pasword=s3cret"), h.options()).err();
    let refused = refused.ok_or("a key with a typing error")?.to_string();
    assert!(refused.contains("sentinel_pasword`") && !refused.contains("s3cret"), "{refused}");
    let one = connect(h, &url).await?;
    receive_from_each_other(&one, &connect(h, &url).await?).await?;
    assert!(!format!("{one:?}").contains("s3cret"));
    Ok(())
}

async fn sentinels_and_servers_speak_tls(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let config = RedisConfig::default().tls(Arc::clone(&certificates), false).line("tls-replication yes");
    let cluster = RedisSentinel::start(config.clone(), config).await?;
    let ca = format!("&ca={}", certificates.authority().display());
    let url = cluster.url("rediss+sentinel", &ca);
    let (one, two) = (connect(h, &url).await?, connect(h, &url).await?);
    receive_from_each_other(&one, &two).await?;
    let old = cluster.master().await?;
    receives_again_after(&one, &two, old.kill()).await?;
    tls::names_the_authority(h, &cluster.url("rediss+sentinel", ""), "127.0.0.1").await?;
    tls::one_side_only_is_named(h, &cluster.url("redis+sentinel", ""), "127.0.0.1", "use rediss+sentinel://")
        .await
}

/// The permissions are those of the documentation of the driver.
async fn the_least_permissions_suffice_and_nothing_else_is_granted(h: &dyn Harness) -> Outcome {
    let servers = RedisConfig::default().user(
        "shop on >shop resetchannels &shop.* ~shop.$revocations -@all +publish +subscribe +unsubscribe \
         +xadd +xrange +xinfo|stream +xinfo|groups +xgroup|create",
    );
    let sentinels = RedisConfig::default().user(
        "watcher on >watch resetchannels &+switch-master -@all +subscribe +sentinel|get-master-addr-by-name",
    );
    let cluster = RedisSentinel::start(servers, sentinels).await?;
    let keys = "&prefix=shop&sentinel_user=watcher&sentinel_password=watch";
    let url = url_at("redis+sentinel", "shop:shop@", &addrs(&cluster), keys);
    let (one, two) = (connect(h, &url).await?, connect(h, &url).await?);
    receive_from_each_other(&one, &two).await?;
    let logged = one.revoke(broker::Revocation::user("nobody")).await?;
    assert_eq!(logged, RevocationOutcome::Logged);
    let old = cluster.master().await?;
    receives_again_after(&one, &two, old.kill()).await?;
    for (node, shown) in [(&one, "one"), (&two, "two")] {
        assert!(node.health().is_connected(), "{shown}: {:?}", node.health());
    }
    let master = cluster.master_after(old.addr()).await?;
    for command in
        ["PUBLISH other x", "SUBSCRIBE other", "PSUBSCRIBE shop.*", "GET shop.$revocations", "PING", "ROLE"]
    {
        refused(master.addr(), ("shop", "shop"), command).await?;
    }
    for command in [
        &format!("SENTINEL MASTER {MASTER}"),
        "SENTINEL MASTERS",
        &format!("SENTINEL FAILOVER {MASTER}"),
        "SUBSCRIBE +sdown",
        "PSUBSCRIBE *",
        "PUBLISH +switch-master x",
        "PING",
        "INFO",
    ] {
        refused(cluster.sentinels()[0].addr(), ("watcher", "watch"), command).await?;
    }
    Ok(())
}

/// This command is one that this user may not give.
async fn refused(at: SocketAddr, (user, password): (&str, &str), command: &str) -> Outcome {
    let info: ConnectionInfo = format!("redis://{at}?protocol=resp3").into_connection_info()?;
    let user = RedisConnectionInfo::default()
        .set_username(user)
        .set_password(password)
        .set_protocol(redis::ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    let client = Client::open(info.set_redis_settings(user))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut words = command.split(' ');
    let mut asking = redis::cmd(words.next().unwrap_or_default());
    for word in words {
        asking.arg(word);
    }
    let answer = asking.query_async::<Value>(&mut connection).await;
    match answer {
        Err(error) if error.code() == Some("NOPERM") => Ok(()),
        other => Err(format!("{command}: {other:?}").into()),
    }
}
