//! Cases about the revocation log of RabbitMQ alone: who may use it, what stands in its way, and what it leaves behind.

use std::time::Duration;

use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    log_link::{LogLink, Opener},
    wait::{LIMIT, eventually, until_is, within},
};
use broker_core::{
    Error, ErrorKind,
    driver::{LogCursor, LogDiscontinuity},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    cases::rabbitmq::connecting::{ENOUGH, allow},
    harness::rabbitmq::RabbitHarness,
};

pub(super) const CASES: &[Case] = &[
    case!(a_log_without_permission_is_refused_and_the_link_stays, [9, 11]),
    case!(a_queue_of_another_kind_is_refused_as_log_and_the_link_stays, [9, 11]),
    case!(a_log_with_another_retention_is_used, [9]),
    case!(a_server_without_streams_is_reported_until_it_has_them, [9, 11])
        .needs(&[Need::OwnServer, Need::Process]),
    case!(an_append_blocked_by_an_alarm_fails_within_the_limit, [9]).needs(&[Need::OwnServer]),
    case!(concurrent_nodes_create_one_log, [9]),
    case!(an_append_to_a_deleted_log_lands_in_the_new_one, [9]),
    case!(another_entry_at_a_cursors_offset_is_reported, [9]),
    case!(a_killed_server_keeps_the_log, [9]).needs(&[Need::OwnServer, Need::Durable]),
    case!(a_log_restored_from_a_copy_is_reported, [9]).needs(&[Need::OwnServer, Need::Durable]),
    case!(reads_leave_nothing_at_the_server, [9]).needs(&[Need::OwnServer]),
];

/// The log's queue, by the driver's documentation.
const QUEUE: &str = "broker..$revocations";
/// What a link needs that has no log.
const WITHOUT_LOG: &str = r"^broker(\.[0-9a-f]{32})?$";

/// Both calls fail in this way, and the link does not mind.
async fn fails(link: &LogLink, kind: ErrorKind, parts: &[&str]) -> Outcome {
    let appended = link.append("refused").await.err().ok_or("appended")?;
    let read = link.page(&LogCursor::START).await.err().ok_or("read")?;
    for error in [appended, read] {
        is(&error, kind, parts);
    }
    assert!(!link.is_lost());
    Ok(())
}

#[track_caller]
fn is(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.message().contains(part), "`{part}` is not in: {error}");
    }
}

async fn a_log_without_permission_is_refused_and_the_link_stays(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    allow(rabbit, [ENOUGH; 3]).await?;
    let link = Opener::of(h)?.open().await?;
    let named = [&*format!("{:?}", rabbit.name), "`rabbitmqctl list_permissions`"];
    for rights in [[WITHOUT_LOG, ENOUGH, ENOUGH], [ENOUGH, WITHOUT_LOG, ENOUGH]] {
        allow(rabbit, rights).await?;
        fails(&link, ErrorKind::Forbidden, &named).await.map_err(|error| format!("{rights:?}: {error:?}"))?;
    }
    // Who may not read may append.
    allow(rabbit, [ENOUGH, ENOUGH, WITHOUT_LOG]).await?;
    link.append("a").await?;
    is(&link.page(&LogCursor::START).await.err().ok_or("read")?, ErrorKind::Forbidden, &named);
    // Once it is there it need not be made.
    allow(rabbit, [WITHOUT_LOG, WITHOUT_LOG, ENOUGH]).await?;
    link.append("b").await?;
    link.rest(&LogCursor::START).await?.is(&["a", "b"]);
    // No more than this is needed.
    allow(rabbit, [ENOUGH; 3]).await?;
    h.wipe_log().await?;
    link.append("c").await?;
    link.rest(&LogCursor::START).await?.is(&["c"]);
    assert!(!link.is_lost());
    Ok(())
}

/// Makes a queue under the log's name.
async fn declare(rabbit: &RabbitHarness, arguments: Value) -> Result<(), String> {
    let queue = json!({ "durable": true, "arguments": arguments });
    let path = format!("queues/{}/{QUEUE}", rabbit.name);
    rabbit.server().control().call("PUT", &path, Some(&queue)).await.map(drop)
}

async fn a_queue_of_another_kind_is_refused_as_log_and_the_link_stays(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, name) = (rabbit.server().control(), &rabbit.name);
    let link = Opener::of(h)?.open().await?;
    for kind in ["classic", "quorum"] {
        declare(rabbit, json!({ "x-queue-type": kind })).await?;
        fails(&link, ErrorKind::Misconfigured, &["another kind of queue", "`exchange`"]).await?;
        // It takes what is appended if somebody has bound it, and is no log all the same.
        let binding = json!({ "routing_key": QUEUE });
        control.call("POST", &format!("bindings/{name}/e/broker/q/{QUEUE}"), Some(&binding)).await?;
        let error = link.page(&LogCursor::START).await.err().ok_or("read")?;
        is(&error, ErrorKind::Misconfigured, &["another kind of queue", "`exchange`"]);
        control.call("DELETE", &format!("queues/{name}/{QUEUE}"), None).await?;
    }
    link.append("a").await?;
    link.rest(&LogCursor::START).await?.is(&["a"]);
    assert!(!link.is_lost());
    Ok(())
}

async fn a_log_with_another_retention_is_used(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    declare(rabbit, json!({ "x-queue-type": "stream" })).await?;
    let mut opener = Opener::of(h)?;
    let one = opener.open().await?;
    one.append("a").await?;
    opener.log.retention *= 2;
    let two = opener.open().await?;
    two.append("b").await?;
    two.rest(&LogCursor::START).await?.is(&["a", "b"]);
    one.rest(&LogCursor::START).await?.is(&["a", "b"]);
    Ok(())
}

/// Turns streams on or off. `false`: this server is so new that it cannot be without.
async fn set_streams(rabbit: &RabbitHarness, on: bool) -> Result<bool, String> {
    let server = rabbit.server();
    let flags = server.control().get("feature-flags").await?;
    let stability = |flags: &Value, key: &str| {
        let flags = flags.as_array().into_iter().flatten();
        flags
            .filter(|flag| flag["name"] == "stream_queue")
            .map(|flag| flag[key].to_string())
            .collect::<String>()
    };
    if stability(&flags, "stability").contains("required") {
        return Ok(false);
    }
    server.evaluate(&format!("rabbit_feature_flags:mark_as_enabled_locally(stream_queue, {on})")).await?;
    let state = if on { "\"enabled\"" } else { "\"disabled\"" };
    until_is("the feature flag", state.to_owned(), || async {
        Ok(stability(&server.control().get("feature-flags").await?, "state"))
    })
    .await?;
    Ok(true)
}

async fn a_server_without_streams_is_reported_until_it_has_them(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let link = Opener::of(h)?.open().await?;
    let could = set_streams(rabbit, false).await?;
    let outcome =
        if could { fails(&link, ErrorKind::Unsupported, &["`stream_queue`"]).await } else { Ok(()) };
    // Also after a failure: the next case has the same server.
    set_streams(rabbit, true).await?;
    outcome?;
    link.append("a").await?;
    link.rest(&LogCursor::START).await?.is(&["a"]);
    assert!(!link.is_lost());
    Ok(())
}

async fn an_append_blocked_by_an_alarm_fails_within_the_limit(h: &dyn Harness) -> Outcome {
    let server = RabbitHarness::of(h)?.server();
    let mut opener = Opener::of(h)?;
    let long_limits = opener.open().await?;
    long_limits.append("before").await?;
    opener.log.limit = Duration::from_secs(1);
    let (link, alarm) = (opener.open().await?, "{resource_limit, memory, node()}");
    server.evaluate(&format!("rabbit_alarm:set_alarm({{{alarm}, []}})")).await?;
    let held_up = async {
        // Until the alarm is received, it still takes some.
        let appended = loop {
            if let Err(error) = link.append("held up").await {
                break error;
            }
        };
        let read = loop {
            if let Err(error) = link.page(&LogCursor::START).await {
                break error;
            }
        };
        (appended, read)
    };
    let held_up = within("both calls to end", held_up).await;
    // Also after a failure: the next case has the same server.
    server.evaluate(&format!("rabbit_alarm:clear_alarm({alarm})")).await?;
    let (appended, read) = held_up?;
    for error in [appended, read] {
        is(&error, ErrorKind::Timeout, &["low on memory or disk"]);
    }
    assert!(!link.is_lost());
    eventually("the alarm to be over", LIMIT, || async {
        long_limits.append("after").await.map_err(|error| error.to_string())
    })
    .await?;
    // What was held up may be in it or not.
    let read = long_limits.rest(&LogCursor::START).await?;
    assert_eq!(read.records.first().map(AsRef::as_ref), Some(&b"before"[..]), "{read:?}");
    assert!(read.records.iter().any(|record| record == "after"), "{read:?}");
    Ok(())
}

async fn concurrent_nodes_create_one_log(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let links = join_all((0..6).map(|_| opener.open())).await.into_iter().collect::<Outcome<Vec<_>>>()?;
    for round in 0..5 {
        let read = join_all(links.iter().map(|link| link.rest(&LogCursor::START))).await;
        for rest in read {
            rest.map_err(|error| format!("round {round}: {error}"))?.is(&[]);
        }
        for appended in join_all(links.iter().map(|link| link.append("a"))).await {
            appended?;
        }
        for link in &links {
            link.rest(&LogCursor::START).await?.is(&["a"; 6]);
        }
        h.wipe_log().await?;
    }
    assert!(links.iter().all(|link| !link.is_lost()));
    Ok(())
}

async fn an_append_to_a_deleted_log_lands_in_the_new_one(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let link = Opener::of(h)?.open().await?;
    for record in ["a", "b", "c"] {
        link.append(record).await?;
        link.rest(&LogCursor::START).await?.is(&[record]);
        h.wipe_log().await?;
    }
    // One that is there, and that nothing gets to.
    link.append("d").await?;
    let path = format!("bindings/{}/e/broker/q/{QUEUE}/{QUEUE}", rabbit.name);
    rabbit.server().control().call("DELETE", &path, None).await?;
    link.append("e").await?;
    link.rest(&LogCursor::START).await?.is(&["d", "e"]);
    assert!(!link.is_lost());
    Ok(())
}

async fn another_entry_at_a_cursors_offset_is_reported(h: &dyn Harness) -> Outcome {
    let link = Opener::of(h)?.open().await?;
    let mut cursors = Vec::new();
    for records in [["a", "b"], ["c", "d"]] {
        for record in records {
            link.append(record).await?;
        }
        cursors.push(link.rest(&LogCursor::START).await?.cursor);
        if cursors.len() == 1 {
            h.wipe_log().await?;
        }
    }
    let offsets: Vec<_> = cursors
        .iter()
        .filter_map(|cursor| cursor.place()?.split_once('/'))
        .map(|(offset, _)| offset)
        .collect();
    assert!(offsets.len() == 2 && offsets[0] == offsets[1], "{cursors:?}");
    let rest = link.rest(&cursors[0]).await?;
    rest.is_broken(&["c", "d"]);
    assert_eq!(rest.broken, Some(LogDiscontinuity::Replaced));
    link.rest(&cursors[1]).await?.is(&[]);
    Ok(())
}

async fn a_killed_server_keeps_the_log(h: &dyn Harness) -> Outcome {
    let link = Opener::of(h)?.open().await?;
    link.append("a").await?;
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    for n in 0..50 {
        link.append(n.to_string()).await?;
    }
    h.restart_server().await?;
    let (link, read) = Opener::of(h)?.read_again(&cursor).await?;
    assert_eq!((read.broken, read.records.len()), (None, 50), "{read:?}");
    link.append("b").await?;
    link.rest(&read.cursor).await?.is(&["b"]);
    Ok(())
}

async fn a_log_restored_from_a_copy_is_reported(h: &dyn Harness) -> Outcome {
    let link = Opener::of(h)?.open().await?;
    link.append("a").await?;
    let kept = link.rest(&LogCursor::START).await?.cursor;
    h.save_data().await?;
    for n in 0..20 {
        link.append(n.to_string()).await?;
    }
    let lost = link.rest(&kept).await?.cursor;
    h.restore_data().await?;
    let (link, rest) = Opener::of(h)?.read_again(&lost).await?;
    rest.is_broken(&["a"]);
    assert_eq!(rest.broken, Some(LogDiscontinuity::RolledBack));
    link.rest(&kept).await?.is(&[]);
    // Grown beyond it again.
    for _ in 0..30 {
        link.append("b").await?;
    }
    link.rest(&lost).await?.is_broken(&[&["a"][..], &["b"; 30]].concat());
    Ok(())
}

async fn reads_leave_nothing_at_the_server(h: &dyn Harness) -> Outcome {
    let rabbit = RabbitHarness::of(h)?;
    let (control, name) = (rabbit.server().control(), &rabbit.name);
    let link = Opener::of(h)?.open().await?;
    link.append("a").await?;
    let mut cursor = link.rest(&LogCursor::START).await?.cursor;
    let length = |list: Value| list.as_array().map_or(0, Vec::len);
    let channels = async || Ok::<_, String>(length(control.get(&format!("vhosts/{name}/channels")).await?));
    let consumers = async || Ok::<_, String>(length(control.get(&format!("consumers/{name}")).await?));
    for _ in 0..100 {
        cursor = link.rest(&cursor).await?.cursor;
    }
    until_is("the consumers to be the link's", 1, &consumers).await?;
    for n in 0..100 {
        // Given up at another point each time.
        let calls = async { tokio::join!(link.page(&cursor), link.append("b")) };
        let _ = timeout(Duration::from_micros(n * 200), calls).await;
        cursor = link.rest(&cursor).await?.cursor;
    }
    // The link's two and the log's; two to receive, and one on each of the others.
    until_is("the connections to be few", 3, async || Ok(control.connections(name).await?.len())).await?;
    until_is("the channels to be few", 4, &channels).await?;
    assert!(!link.is_lost());
    link.close().await?;
    until_is("nothing to be left", 0, || h.connections()).await?;
    Ok(())
}
