//! Cases about a NATS server on which the revocation log cannot be, or may not be used. Each starts one as it wants it.

use std::time::Duration;

use broker_conformance::{
    case::{Case, Need, Outcome, case},
    free_port,
    harness::Harness,
    log_checks as checks,
    log_link::{LogLink, Opener, RETENTION},
    steps::receives,
    wait::{self, eventually, fence, within},
};
use broker_core::{
    Backend, ErrorKind, Identity, Revocation, Scope,
    driver::{LogCursor, LogSpec},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    cases::{
        backend_common::connect,
        nats::{
            connecting::{OWN, server},
            log::{STREAM, SUBJECT},
        },
    },
    servers::nats::{
        Nats,
        cluster::NatsCluster,
        config::NatsConfig,
        control::{ask, jetstream},
    },
};

pub(super) const CASES: &[Case] = &[
    case!(a_server_without_jetstream_has_no_log, [9]).needs(OWN),
    case!(an_account_without_jetstream_has_no_log, [9]).needs(&[Need::Process]),
    case!(the_documented_permissions_are_sufficient_and_necessary, [9, 11]).needs(OWN),
    case!(a_log_without_permission_affects_no_post, [9, 11]).needs(OWN),
    case!(a_foreign_stream_in_place_of_the_log_is_reported, [9]).needs(OWN),
    case!(a_stream_with_a_shorter_retention_is_misconfigured, [9]).needs(OWN),
    case!(a_full_log_is_a_transient_error, [9]).needs(OWN),
    case!(a_cluster_without_a_majority_is_a_transient_error, [9]).needs(&[Need::Process]),
    case!(a_cluster_of_three_keeps_the_log_without_its_leader, [9]).needs(&[Need::Process]),
];

const NATS: Backend = broker_nats::BACKEND;
/// Far below the limit of a call.
const AT_ONCE: Duration = Duration::from_secs(20);

fn opener(server: &dyn Nats, prefix: &str) -> Outcome<Opener> {
    Opener::new(NATS, &server.url_at(server.addr()), LogSpec::of(prefix, RETENTION, wait::LIMIT))
}

/// Both calls fail in this way and at once, and the link does not mind.
async fn fails(link: &LogLink, kind: ErrorKind, parts: &[&str]) -> Outcome {
    let since = Instant::now();
    let appended = link.append("refused").await.err().ok_or("appended")?;
    let read = link.page(&LogCursor::START).await.err().ok_or("read")?;
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    for error in [appended, read] {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(parts.iter().all(|part| error.message().contains(part)), "{parts:?} are not in: {error}");
    }
    assert!(!link.is_lost());
    Ok(())
}

async fn a_server_without_jetstream_has_no_log(_: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default()).await?;
    let link = opener(&*server, "")?.open().await?;
    fails(&link, ErrorKind::Unsupported, &["JetStream", &server.addr().to_string()]).await
}

async fn an_account_without_jetstream_has_no_log(_: &dyn Harness) -> Outcome {
    let store = tempfile::tempdir()?;
    let line = format!("jetstream {{ store_dir: {:?} }}", store.path());
    let server = server(NatsConfig::default().line(&line)).await?;
    let link = opener(&*server, "")?.open().await?;
    fails(&link, ErrorKind::Unsupported, &["JetStream", "account"]).await
}

async fn the_documented_permissions_are_sufficient_and_necessary(_: &dyn Harness) -> Outcome {
    let stream = "shop_2E_24revocations";
    let api = ["INFO", "MSG.GET", "CREATE"].map(|verb| format!("$JS.API.STREAM.{verb}.{stream}"));
    let subjects: Vec<&str> = api.iter().map(String::as_str).chain(["shop.$revocations.log"]).collect();
    let with = |subjects: &[&str]| {
        NatsConfig::default()
            .jetstream()
            .allow(&[&["shop.news", "shop.$node.>", "_INBOX.>"], subjects].concat())
    };
    let server = server(with(&subjects)).await?;
    let opener = opener(&*server, "shop")?;
    checks::read_your_writes(&opener).await?;
    let link = opener.open().await?;
    for missing in &subjects {
        let others: Vec<&str> = subjects.iter().copied().filter(|subject| subject != missing).collect();
        server.reconfigure(with(&others)).await?;
        let since = Instant::now();
        if missing.contains("CREATE") {
            // It is not asked for as long as the stream is there.
            link.append("a").await?;
            jetstream(server.addr(), &format!("STREAM.DELETE.{stream}"), &json!({})).await?;
        }
        let appended = link.append("b").await.err();
        let read = link.page(&LogCursor::START).await.err();
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        let rest = match *missing {
            record if record.ends_with(".log") => vec![appended.ok_or("appended")?],
            get if get.contains("MSG.GET") => vec![read.ok_or("read")?],
            _ => vec![appended.ok_or("appended")?, read.ok_or("read")?],
        };
        for error in rest {
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{missing}: {error}");
            assert!(error.message().contains(&format!("`{missing}`")), "{missing}: {error}");
        }
        assert!(!link.is_lost(), "{missing}");
    }
    // Granted again, it is a log like any other; on the same link, too.
    server.reconfigure(with(&subjects)).await?;
    link.append("c").await?;
    let read = link.rest(&LogCursor::START).await?;
    assert_eq!(read.records.last().map(AsRef::as_ref), Some(&b"c"[..]), "{read:?}");
    assert!(!link.is_lost());
    Ok(())
}

/// The server complains about both on the same connection.
async fn a_log_without_permission_affects_no_post(h: &dyn Harness) -> Outcome {
    let config = NatsConfig::default().jetstream().allow(&["news", "$node.>", "$revocations", "_INBOX.>"]);
    let server = server(config).await?;
    let node = connect(h, &server.url_at(server.addr())).await?;
    let mut received = node.subscribe("news").await?;
    let revoking = async {
        for _ in 0..50 {
            let identity = Identity::new("ada", std::time::Instant::now());
            let error = node.session_for(identity).await.err().ok_or("a session")?;
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
            assert!(error.message().contains("$JS.API.STREAM."), "{error}");
            let error = node.revoke(Revocation::user("ada")).await.err().ok_or("revoked")?;
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        }
        Outcome::Ok(())
    };
    let posting = async {
        for n in 0..500 {
            node.publish("news", n.to_string(), Scope::Global).await?;
            receives(&mut received, &n.to_string()).await?;
            let refused =
                node.publish("shut", n.to_string(), Scope::Global).await.map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::Forbidden));
        }
        Outcome::Ok(())
    };
    let (revoked, posted) = within("both", async { tokio::join!(revoking, posting) }).await?;
    revoked?;
    posted?;
    fence(&node, &mut received).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn a_foreign_stream_in_place_of_the_log_is_reported(_: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().jetstream()).await?;
    let link = opener(&*server, "")?.open().await?;
    for (name, subjects) in [
        ("orders", json!([SUBJECT])),
        ("orders", json!(["$revocations.>"])),
        (STREAM, json!(["orders"])),
        (STREAM, json!([SUBJECT, "orders"])),
    ] {
        let config = json!({ "name": name, "subjects": subjects });
        jetstream(server.addr(), &format!("STREAM.CREATE.{name}"), &config).await?;
        fails(&link, ErrorKind::Misconfigured, &[STREAM, SUBJECT]).await?;
        jetstream(server.addr(), &format!("STREAM.DELETE.{name}"), &json!({})).await?;
    }
    link.append("a").await?;
    link.rest(&LogCursor::START).await?.is(&["a"]);
    Ok(())
}

async fn a_stream_with_a_shorter_retention_is_misconfigured(_: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().jetstream()).await?;
    let mut opener = opener(&*server, "")?;
    let link = opener.open().await?;
    link.append("a").await?;
    opener.log.retention = 2 * RETENTION;
    let longer = opener.open().await?;
    fails(&longer, ErrorKind::Misconfigured, &[STREAM, "`max_age`", "7200s"]).await?;
    opener.log.retention = RETENTION / 2;
    let shorter = opener.open().await?;
    shorter.rest(&LogCursor::START).await?.is(&["a"]);
    link.rest(&LogCursor::START).await?.is(&["a"]);
    Ok(())
}

async fn a_full_log_is_a_transient_error(_: &dyn Harness) -> Outcome {
    let server = server(NatsConfig::default().jetstream()).await?;
    let config = json!({ "name": STREAM, "subjects": [SUBJECT], "max_msgs": 2, "discard": "new" });
    jetstream(server.addr(), &format!("STREAM.CREATE.{STREAM}"), &config).await?;
    let link = opener(&*server, "")?.open().await?;
    for record in ["a", "b"] {
        link.append(record).await?;
    }
    let error = link.append("c").await.err().ok_or("appended")?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("room"), "{error}");
    link.rest(&LogCursor::START).await?.is(&["a", "b"]);
    assert!(!link.is_lost());
    Ok(())
}

/// A server of a cluster: where it listens for the others, and where they do.
fn member(here: u16, others: &[u16]) -> NatsConfig {
    let routes: Vec<String> = others.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let listen = format!("listen: \"127.0.0.1:{here}\", routes: [{}]", routes.join(", "));
    NatsConfig::default().jetstream().durable().line(&format!("cluster {{ name: one, {listen} }}"))
}

async fn a_cluster_without_a_majority_is_a_transient_error(_: &dyn Harness) -> Outcome {
    let server = server(member(free_port()?, &[free_port()?])).await?;
    let mut opener = opener(&*server, "")?;
    opener.log.limit = Duration::from_secs(1);
    let link = opener.open().await?;
    eventually("the lack of a majority", wait::LIMIT, || async {
        for error in [link.append("a").await.err(), link.page(&LogCursor::START).await.err()] {
            let error = error.ok_or("an answer of a cluster without a majority")?;
            if error.kind() != ErrorKind::Unavailable {
                return Err(error.to_string());
            }
        }
        Ok(())
    })
    .await?;
    assert!(!link.is_lost());
    Ok(())
}

async fn a_cluster_of_three_keeps_the_log_without_its_leader(_: &dyn Harness) -> Outcome {
    let cluster = NatsCluster::start(NatsConfig::default().jetstream().durable()).await?;
    let servers = cluster.members();
    let mut openers = servers.iter().map(|server| opener(&**server, "")).collect::<Outcome<Vec<_>>>()?;
    // Until there is a leader nobody may answer.
    openers.iter_mut().for_each(|opener| opener.log.limit = Duration::from_secs(1));
    let read = async |at: usize, cursor: &LogCursor| {
        eventually("the log to be read", wait::LIMIT, || async {
            let link = openers[at].open().await.map_err(|error| format!("{error:?}"))?;
            link.rest(cursor).await.map_err(|error| error.to_string())
        })
        .await
    };
    read(0, &LogCursor::START).await?.is(&[]);
    let leader = eventually("three that are up to date", wait::LIMIT, || async {
        let info = jetstream(servers[0].addr(), &format!("STREAM.INFO.{STREAM}"), &json!({})).await?;
        let (leader, others) = (&info["cluster"]["leader"], info["cluster"]["replicas"].as_array());
        let current = others.into_iter().flatten().filter(|one| one["current"] == true).count();
        if current == 2 && leader.is_string() { Ok(leader.clone()) } else { Err(info.to_string()) }
    })
    .await?;
    let mut expected = Vec::new();
    openers[0].open().await?.append("a").await?;
    let cursor = read(0, &LogCursor::START).await?.cursor;
    let mut dead = 0;
    for (n, server) in servers.iter().enumerate() {
        if ask(server.monitor(), "varz").await?["server_name"] == leader {
            dead = n;
        }
    }
    servers[dead].kill().await?;
    let alive = (dead + 1) % 3;
    for n in 0..20 {
        // What failed may be in it, too.
        eventually("the record to be stored", wait::LIMIT, || async {
            let link = openers[alive].open().await.map_err(|error| format!("{error:?}"))?;
            link.append(n.to_string()).await.map_err(|error| error.to_string())
        })
        .await?;
        expected.push(n.to_string());
    }
    servers[dead].start_again().await?;
    for at in 0..3 {
        let mut rest = read(at, &cursor).await?;
        rest.records.dedup();
        let records: Vec<&str> = expected.iter().map(String::as_str).collect();
        rest.is(&records);
    }
    Ok(())
}
