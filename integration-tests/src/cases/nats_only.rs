//! Cases about NATS alone: the ways to it, and the ways in which it refuses. Each starts a server as it wants it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use broker::{Broker, CloseReason, Error, ErrorKind, Scope};
use futures_util::{FutureExt, future::join_all};
use tokio::{net::TcpListener, task::coop::unconstrained};

use super::steps::{hears, linked, post, told_of_the_loss};
use crate::{
    case::{Case, Need, Outcome, case},
    certificates::Certificates,
    harness::Harness,
    nats_config::NatsConfig,
    server::{Nats, Source, free_port},
    wait::{fence, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_wrong_password_is_refused_and_not_shown, [11]).needs(OWN),
    case!(an_nkey_signs_in_and_another_does_not, [11]).needs(&[Need::Process]),
    case!(a_silent_server_is_told_from_one_that_is_away, [11]),
    case!(tls_with_the_right_authority_works_from_end_to_end, [1, 2]).needs(OWN),
    case!(tls_with_another_authority_is_refused_and_names_the_key, [11]).needs(OWN),
    case!(tls_without_the_client_certificate_is_refused, [11]).needs(OWN),
    case!(any_one_of_several_servers_will_do, [6, 10]).needs(OWN),
    case!(a_lame_duck_is_left_for_another_server, [4, 10]).needs(&[Need::Process]),
    case!(a_full_server_is_unavailable_until_there_is_room, [6, 10]).needs(OWN),
    case!(without_permission_for_its_inbox_it_is_never_connected, [10]).needs(OWN),
    case!(every_refused_post_is_told_and_no_other, [11]).needs(OWN),
    case!(every_refused_channel_is_told_and_no_other, [1, 11]).needs(OWN),
    case!(a_permission_withdrawn_ends_its_channel_and_no_other, [4, 11]).needs(OWN),
    case!(more_channels_than_a_connection_may_have_are_refused, [11]).needs(OWN),
    case!(a_post_over_the_servers_limit_is_refused_and_no_other, [11]).needs(OWN),
    case!(a_thousand_channels_keep_one_order, [3]),
];

const OWN: &[Need] = &[Need::OwnServer];

async fn server(config: NatsConfig) -> Result<Box<dyn Nats>, String> {
    Source::fresh_from_env()?.start_nats(config).await
}

/// Connects, in the background if need be.
fn open(h: &dyn Harness, url: &str) -> Result<Broker, Error> {
    broker::open(url, h.options())
}

/// Connects once, and says why not.
async fn connect(h: &dyn Harness, url: &str) -> Result<Broker, Error> {
    broker::connect_with(url, h.options()).await
}

/// Why one cannot connect; every such error is within the limit, names the place and shows no secret.
async fn refusal(h: &dyn Harness, url: &str, place: &str) -> Result<Error, String> {
    let mut options = h.options();
    options.connect_timeout = Duration::from_secs(2);
    match within("a refusal", broker::connect_with(url, options)).await? {
        Ok(broker) => {
            broker.close().await;
            Err("connected".to_owned())
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            if shown.contains("s3cret") || error.backend() != Some("nats") {
                return Err(format!("not as it should be: {shown}"));
            }
            // Who gave up waiting knows nothing of the place.
            if error.kind() != ErrorKind::Timeout && !shown.contains(place) {
                return Err(format!("does not name {place}: {shown}"));
            }
            Ok(error)
        }
    }
}

/// Two brokers hear each other.
async fn hear_each_other(one: &Broker, two: &Broker) -> Result<(), String> {
    for (from, to) in [(one, two), (two, one)] {
        let mut heard = to.subscribe("news").await.map_err(|error| error.to_string())?;
        post(from, "news", "hello").await?;
        hears(&mut heard, "hello").await?;
        fence(from, &mut heard).await?;
    }
    Ok(())
}

fn with_keys(url: &str, keys: &[(&str, &Path)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(key, path)| format!("{key}={}", path.display())).collect();
    format!("{url}/?{}", keys.join("&"))
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
    hear_each_other(&one, &two).await?;
    Ok(())
}

async fn an_nkey_signs_in_and_another_does_not(h: &dyn Harness) -> Outcome {
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
    hear_each_other(&connect(h, &one).await?, &connect(h, &server.url_at(server.addr())).await?).await?;
    Ok(())
}

/// Listens and says nothing, or hangs up at once.
async fn a_silent_server_is_told_from_one_that_is_away(h: &dyn Harness) -> Outcome {
    for (close, kind) in [(false, ErrorKind::Timeout), (true, ErrorKind::Unavailable)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        // Ends with the case's runtime.
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                if !close {
                    open.push(socket);
                }
            }
        });
        let error = refusal(h, &format!("nats://s3cret@{addr}"), &addr.to_string()).await?;
        assert_eq!(error.kind(), kind, "{error}");
    }
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let error = refusal(h, &format!("nats://s3cret@{addr}"), &addr.to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    Ok(())
}

async fn tls_with_the_right_authority_works_from_end_to_end(h: &dyn Harness) -> Outcome {
    let certificates = Arc::new(Certificates::new()?);
    let server = server(NatsConfig::default().tls(Arc::clone(&certificates), false)).await?;
    let ca = certificates.authority();
    let url = with_keys(&server.url_at(server.addr()), &[("ca", &ca)]);
    let (one, two) = (connect(h, &url).await?, connect(h, &url.replace("127.0.0.1", "localhost")).await?);
    hear_each_other(&one, &two).await?;
    let mut heard = one.subscribe("news").await?;
    server.kill().await?;
    server.start_again().await?;
    linked(&one, 2).await?;
    linked(&two, 2).await?;
    post(&two, "news", "again").await?;
    told_of_the_loss(&mut heard).await?;
    hears(&mut heard, "again").await?;
    Ok(())
}

async fn tls_with_another_authority_is_refused_and_names_the_key(h: &dyn Harness) -> Outcome {
    let (certificates, others) = (Arc::new(Certificates::new()?), Certificates::new()?);
    let tls = server(NatsConfig::default().tls(Arc::clone(&certificates), false)).await?;
    let plain = server(NatsConfig::default()).await?;
    let (addr, url) = (tls.addr(), tls.url_at(tls.addr()));
    // Another authority, none but the system's, and no TLS at all on either side.
    for (url, addr) in [
        (with_keys(&url, &[("ca", &others.authority())]), addr),
        (url.clone(), addr),
        (format!("nats://{addr}"), addr),
        (with_keys(&format!("tls://{}", plain.addr()), &[("ca", &certificates.authority())]), plain.addr()),
    ] {
        let error = refusal(h, &url, &addr.to_string()).await?;
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{url}: {error}");
        assert!(error.message().contains("`ca`"), "{error}");
    }
    for (keys, part) in
        [([("ca", Path::new("/no/such/ca.pem"))], "`ca`"), ([("ca", &*certificates.server_key())], "`ca`")]
    {
        let error = refusal(h, &with_keys(&url, &keys), &addr.to_string()).await?;
        assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Misconfigured), "{error}");
        assert!(error.message().contains(part), "{error}");
    }
    Ok(())
}

async fn tls_without_the_client_certificate_is_refused(h: &dyn Harness) -> Outcome {
    let (certificates, others) = (Arc::new(Certificates::new()?), Certificates::new()?);
    let server = server(NatsConfig::default().tls(Arc::clone(&certificates), true)).await?;
    let (addr, url) = (server.addr(), server.url_at(server.addr()));
    let ca = certificates.authority();
    let own = [("ca", &*ca), ("cert", &certificates.client()), ("key", &certificates.client_key())];
    let foreign = [("ca", &*ca), ("cert", &others.client()), ("key", &others.client_key())];
    for keys in [&own[..1], &foreign] {
        let error = refusal(h, &with_keys(&url, keys), &addr.to_string()).await?;
        assert!(matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::Unavailable), "{error}");
    }
    let url = with_keys(&url, &own);
    let (one, two) = (connect(h, &url).await?, connect(h, &url).await?);
    hear_each_other(&one, &two).await?;
    Ok(())
}

async fn any_one_of_several_servers_will_do(h: &dyn Harness) -> Outcome {
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

async fn a_lame_duck_is_left_for_another_server(h: &dyn Harness) -> Outcome {
    let config = || NatsConfig::default().line("lame_duck_duration: 60s").line("lame_duck_grace_period: 30s");
    let (first, second) = (server(config()).await?, server(config()).await?);
    second.kill().await?;
    let node = connect(h, &format!("nats://{},{}", first.addr(), second.addr())).await?;
    let mut heard = node.subscribe("news").await?;
    second.start_again().await?;
    first.retire().await?;
    linked(&node, 2).await?;
    told_of_the_loss(&mut heard).await?;
    let other = connect(h, &second.url_at(second.addr())).await?;
    post(&other, "news", "over here").await?;
    hears(&mut heard, "over here").await?;
    Ok(())
}

async fn a_full_server_is_unavailable_until_there_is_room(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().line("max_connections: 1")).await?;
    let url = server.url_at(server.addr());
    let first = connect(h, &url).await?;
    let error = refusal(h, &url, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let second = open(h, &url)?;
    until("two attempts", || second.health().failures >= 2).await?;
    let mut heard = first.subscribe("news").await?;
    fence(&first, &mut heard).await?;
    assert_eq!(first.health().links, 1);
    first.close().await;
    within("room for the second", second.ready()).await??;
    Ok(())
}

async fn without_permission_for_its_inbox_it_is_never_connected(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().allow(&["news", "$node.>", "replies.>"])).await?;
    let url = server.url_at(server.addr());
    let error = refusal(h, &url, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains("`_INBOX.>`") && error.message().contains("`inbox`"), "{error}");
    let node = open(h, &url)?;
    until("two attempts", || node.health().failures >= 2).await?;
    assert_eq!(node.health().links, 0);
    // With another place for it, it works.
    let node = connect(h, &format!("{url}?inbox=replies")).await?;
    let mut heard = node.subscribe("news").await?;
    fence(&node, &mut heard).await?;
    Ok(())
}

fn narrow() -> NatsConfig {
    NatsConfig::default().allow(&["open.>", "$node.>", "_INBOX.>"])
}

/// More of them than the client keeps complaints, side by side, so that they share batches. The first burst may be
/// told with less certainty: nobody knew that there would be refusals.
async fn every_refused_post_is_told_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(narrow()).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut open = node.subscribe("open.all").await?;
    for round in 0..4 {
        let posts = (0..900).map(|n| {
            let channel = match n % 3 {
                0 => "open.all".to_owned(),
                1 => format!("shut.{n}"),
                _ => "shut.\u{200b}\"'\\".to_owned(),
            };
            let node = &node;
            async move { node.publish(channel.as_str(), format!("{round}.{n}"), Scope::Global).await }
        });
        for (n, outcome) in within("the outcomes", join_all(posts)).await?.into_iter().enumerate() {
            match outcome {
                Ok(()) if n % 3 == 0 => {}
                Err(error) if n % 3 != 0 && error.kind() == ErrorKind::Forbidden => {
                    assert!(error.channel().is_some_and(|name| name.as_str().starts_with("shut")), "{error}");
                }
                Err(error) if round == 0 && error.kind() == ErrorKind::Interrupted => {}
                other => return Err(format!("post {n} of round {round}: {other:?}").into()),
            }
        }
        for n in (0..900).step_by(3) {
            hears(&mut open, &format!("{round}.{n}")).await?;
        }
    }
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn every_refused_channel_is_told_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(narrow()).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let names = (0..600).map(|n| match n % 3 {
        0 => format!("open.{n}"),
        1 => format!("shut.{n}"),
        _ => format!("shut.\u{200b}\"'\\{n}"),
    });
    let all = names.map(|name| {
        let node = &node;
        async move { (node.subscribe(&name).await, name) }
    });
    for (outcome, name) in within("every answer", join_all(all)).await? {
        match outcome {
            Ok(mut subscription) if name.starts_with("open") => fence(&node, &mut subscription).await?,
            Err(error) if name.starts_with("shut") => {
                assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
                assert_eq!(error.channel().map(AsRef::as_ref), Some(name.as_str()), "{error}");
            }
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn a_permission_withdrawn_ends_its_channel_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default()).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let (mut open, mut shut) = (node.subscribe("open.one").await?, node.subscribe("shut").await?);
    server.reconfigure(narrow()).await?;
    assert!(within("the end", shut.next()).await?.is_none());
    let Some(CloseReason::Refused(error)) = shut.close_reason() else {
        return Err(format!("ended because: {:?}", shut.close_reason()).into());
    };
    assert_eq!((error.kind(), error.channel().map(AsRef::as_ref)), (ErrorKind::Forbidden, Some("shut")));
    linked(&node, 2).await?;
    told_of_the_loss(&mut open).await?;
    fence(&node, &mut open).await?;
    let refused = node.subscribe("shut").await.map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Forbidden));
    let refused = node.publish("shut", "post", Scope::Global).await.map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::Forbidden));
    // Granted again, it is a channel like any other.
    server.reconfigure(NatsConfig::default()).await?;
    let mut again = node.subscribe("shut").await?;
    fence(&node, &mut again).await?;
    fence(&node, &mut open).await?;
    assert_eq!(node.health().links, 2);
    Ok(())
}

async fn more_channels_than_a_connection_may_have_are_refused(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().line("max_subscriptions: 10")).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut heard = Vec::new();
    let error = loop {
        match node.subscribe(format!("room.{}", heard.len())).await {
            Ok(subscription) => heard.push(subscription),
            Err(error) => break error,
        }
    };
    // The node's own two count as well.
    assert_eq!(heard.len(), 8);
    assert!(matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::Forbidden), "{error}");
    for subscription in &mut heard {
        fence(&node, subscription).await?;
    }
    drop(heard.pop());
    let mut next = heard.len();
    // The place is free once the one that left has been unsubscribed.
    let mut subscription = loop {
        next += 1;
        match node.subscribe(format!("room.{next}")).await {
            Ok(subscription) => break subscription,
            Err(_) => assert!(next < 1000, "no place becomes free"),
        }
    };
    fence(&node, &mut subscription).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn a_post_over_the_servers_limit_is_refused_and_no_other(h: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().line("max_payload: 2048")).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut heard = node.subscribe("news").await?;
    let sizes = [10, 5_000, 20, 500_000, 30];
    let posts = sizes.map(|size| node.publish("news", "x".repeat(size), Scope::Global));
    let outcomes = within("the outcomes", join_all(posts)).await?;
    for (size, outcome) in sizes.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) if size < 2048 => hears(&mut heard, &"x".repeat(size)).await?,
            Err(error) if size > 2048 => {
                assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
                assert!(
                    error.message().contains("2048") && error.message().contains("max_payload"),
                    "{error}"
                );
            }
            other => return Err(format!("{size} bytes: {other:?}").into()),
        }
    }
    fence(&node, &mut heard).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

/// What one node posts on many channels is heard by another in that order, across all of them.
async fn a_thousand_channels_keep_one_order(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut all = Vec::new();
    for n in 0..1000 {
        all.push(here.subscribe(format!("room.{n}")));
    }
    let mut all = join_all(all).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let posts = (0..5000).map(|n| there.publish(format!("room.{}", n % 1000), n.to_string(), Scope::Global));
    for outcome in within("the posts", join_all(posts)).await? {
        outcome?;
    }
    // The last one heard means that all are there.
    let last = all.last_mut().ok_or("no channel")?;
    for n in (999..5000).step_by(1000) {
        hears(last, &n.to_string()).await?;
    }
    // Nobody waits for anything from here on.
    for (n, subscription) in all.iter_mut().enumerate().take(999) {
        for round in 0..5 {
            let expected = (round * 1000 + n).to_string();
            let heard = unconstrained(hears(subscription, &expected)).now_or_never();
            heard.ok_or_else(|| format!("room {n} is behind the last one"))??;
        }
    }
    Ok(())
}
