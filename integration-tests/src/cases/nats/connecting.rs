//! Cases about NATS alone: the ways to it. Each starts a server as it wants it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use broker::ErrorKind;
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    free_port,
    harness::Harness,
    steps::{post, receives, receives_link_loss, wait_for_link},
};

use crate::{
    cases::{
        backend_common::{
            a_thousand_channels_keep_one_order, connect, impostor, receive_from_each_other, refusal,
            refusal_within, restart, there_is_room_for_one, with_keys,
        },
        reaching::{
            another_kind_of_server_is_named_with_its_scheme, every_failed_host_is_named,
            silent_hosts_only_delay_the_connection,
        },
        tls,
    },
    servers::{
        self,
        certificates::Certificates,
        nats::{Nats, config::NatsConfig},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_wrong_password_is_refused_and_not_shown, [11]).needs(OWN),
    case!(only_the_configured_nkey_signs_in, [11]).needs(&[Need::Process]),
    case!(a_silent_server_differs_from_an_unreachable_one, [11]),
    case!(tls_with_the_right_authority_connects, [1, 2]).needs(OWN),
    case!(tls_with_another_authority_is_refused_and_names_the_key, [11]).needs(OWN),
    case!(tls_without_the_client_certificate_is_refused, [11]).needs(OWN),
    case!(tls_on_one_side_only_is_named_nats, [10]).needs(OWN),
    case!(a_server_that_begins_with_tls_needs_a_key, [1, 10]).needs(OWN),
    case!(another_kind_of_server_is_named_with_its_scheme, [10]),
    case!(silent_hosts_only_delay_the_connection, [6]),
    case!(every_failed_host_is_named, [10]),
    case!(one_reachable_server_of_several_is_enough, [6, 10]).needs(OWN),
    case!(a_server_in_lame_duck_mode_is_left_for_another, [4, 10]).needs(&[Need::Process]),
    case!(a_full_server_is_unavailable_until_there_is_room, [6, 10]).needs(OWN),
    case!(a_thousand_channels_keep_one_order, [3]),
];

pub(super) const OWN: &[Need] = &[Need::OwnServer];

pub(super) async fn server(config: NatsConfig) -> Result<Box<dyn Nats>, String> {
    servers::nats::start(config).await
}

async fn a_wrong_password_is_refused_and_not_shown(h: &dyn Harness) -> Outcome {
    let config = NatsConfig::default().password("s3cret").user("user: ada, password: s3cret2");
    let server = server(config).await?;
    let addr = server.addr();
    for (credentials, who) in [
        ("", "without credentials"),
        ("s3cret@", "the token"),
        ("app:s3cretive@", "\"app\""),
        ("ada:s3cret@", "\"ada\""),
        ("nobody:s3cret@", "\"nobody\""),
    ] {
        let error = refusal(h, &format!("nats://{credentials}{addr}"), &addr.to_string()).await?;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(error.message().contains(who), "{error}");
    }
    let one = connect(h, &server.url_at(addr)).await?;
    let two = connect(h, &format!("nats://ada:s3cret2@{addr}")).await?;
    receive_from_each_other(&one, &two).await?;
    Ok(())
}

async fn only_the_configured_nkey_signs_in(h: &dyn Harness) -> Outcome {
    let known = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let seeds = [
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
        "SUACEI6MLGHQMEITZJ665K3X2ICGJTMCEZ7IQDJVPUPT3FVZ4NZ5WRFW4A",
    ];
    let dir = tempfile::tempdir()?;
    let paths = [dir.path().join("one.nk"), dir.path().join("other.nk")];
    for (path, seed) in paths.iter().zip(seeds) {
        std::fs::write(path, format!("{seed}\n"))?;
    }
    let server = server(NatsConfig::default().password("s3cret").user(&format!("nkey: {known}"))).await?;
    let url = format!("nats://{}", server.addr());
    let [one, other] = paths.each_ref().map(|path| with_keys(&url, &[("nkey", path)]));
    let error = refusal(h, &other, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(seeds.iter().all(|seed| !format!("{error:?}").contains(seed)), "{error:?}");
    receive_from_each_other(&connect(h, &one).await?, &connect(h, &server.url_at(server.addr())).await?)
        .await?;
    Ok(())
}

/// Listens and says nothing, or hangs up at once.
async fn a_silent_server_differs_from_an_unreachable_one(h: &dyn Harness) -> Outcome {
    for (close, kind) in [(false, ErrorKind::Timeout), (true, ErrorKind::Unavailable)] {
        let addr = impostor(None, close).await?;
        let error =
            refusal_within(h, &format!("nats://s3cret@{addr}"), &addr.to_string(), Duration::from_secs(2))
                .await?;
        assert_eq!(error.kind(), kind, "{error}");
    }
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let error = refusal(h, &format!("nats://s3cret@{addr}"), &addr.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    Ok(())
}

async fn tls_with_the_right_authority_connects(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let server = server(NatsConfig::default().tls(Arc::clone(&certificates), false)).await?;
    let url = server.url_at(server.addr());
    tls::works_from_end_to_end(h, &url, &certificates.authority(), restart(&*server)).await
}

async fn tls_with_another_authority_is_refused_and_names_the_key(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let server = server(NatsConfig::default().tls(Arc::clone(&certificates), false)).await?;
    let (addr, url) = (server.addr().to_string(), server.url_at(server.addr()));
    tls::another_authority_is_refused(h, &url, &addr).await?;
    // The server asks for TLS where the URL does not.
    tls::names_the_authority(h, &format!("nats://{addr}"), &addr).await?;
    for file in [Path::new("/no/such/ca.pem"), &certificates.server_key()] {
        let error = refusal(h, &with_keys(&url, &[("ca", file)]), &addr).await?;
        assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Misconfigured), "{error}");
        assert!(error.message().contains("`ca`"), "{error}");
    }
    Ok(())
}

async fn tls_without_the_client_certificate_is_refused(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let server = server(NatsConfig::default().tls(Arc::clone(&certificates), true)).await?;
    let (url, place) = (server.url_at(server.addr()), server.addr().to_string());
    tls::a_client_certificate_is_demanded(h, &url, &place, &certificates).await
}

async fn tls_on_one_side_only_is_named_nats(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let plain = server(NatsConfig::default()).await?;
    let place = plain.addr().to_string();
    let url = with_keys(&format!("tls://{place}"), &[("ca", &certificates.authority())]);
    tls::one_side_only_is_named(h, &url, &place, "use nats://").await
}

async fn a_server_that_begins_with_tls_needs_a_key(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let config = || NatsConfig::default().tls(Arc::clone(&certificates), false);
    let (first, second) = (server(config().tls_first()).await?, server(config()).await?);
    let (addr, ca) = (first.addr().to_string(), certificates.authority());
    for url in [format!("nats://{addr}"), with_keys(&format!("tls://{addr}"), &[("ca", &ca)])] {
        tls::one_side_only_is_named(h, &url, &addr, "`tls_first=true`").await?;
    }
    let url = format!("{}&tls_first=true", with_keys(&format!("tls://{addr}"), &[("ca", &ca)]));
    receive_from_each_other(
        &connect(h, &url).await?,
        &connect(h, &url.replace("127.0.0.1", "localhost")).await?,
    )
    .await?;
    let addr = second.addr().to_string();
    let url = format!("{}&tls_first=true", with_keys(&format!("tls://{addr}"), &[("ca", &ca)]));
    tls::one_side_only_is_named(h, &url, &addr, "leave out the key `tls_first`").await
}

async fn one_reachable_server_of_several_is_enough(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().password("s3cret")).await?;
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    // Wherever it begins.
    for _ in 0..10 {
        let node = connect(h, &format!("nats://app:s3cret@{dead},{},{dead}", server.addr())).await?;
        assert_eq!(node.health().links, 1);
        node.close().await;
    }
    let error = refusal(h, &format!("nats://app:s3cret@{dead},{dead}"), &dead.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // A refusal tells more than that another is away.
    let url = format!("nats://app:s3cretive@{dead},{}", server.addr());
    let error = refusal(h, &url, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    Ok(())
}

async fn a_server_in_lame_duck_mode_is_left_for_another(h: &dyn Harness) -> Outcome {
    let config = || NatsConfig::default().line("lame_duck_duration: 60s").line("lame_duck_grace_period: 30s");
    let (first, second) = (server(config()).await?, server(config()).await?);
    second.kill().await?;
    let node = connect(h, &format!("nats://{},{}", first.addr(), second.addr())).await?;
    let mut received = node.subscribe("news").await?;
    second.start_again().await?;
    first.retire().await?;
    wait_for_link(&node, 2).await?;
    receives_link_loss(&mut received).await?;
    let other = connect(h, &second.url_at(second.addr())).await?;
    post(&other, "news", "over here").await?;
    receives(&mut received, "over here").await?;
    Ok(())
}

async fn a_full_server_is_unavailable_until_there_is_room(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().line("max_connections: 1")).await?;
    there_is_room_for_one(h, &*server).await
}
