//! Cases about the revocation log on NATS alone: what becomes of its stream at the server, and who is told.

use std::time::Duration;

use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    log_checks as checks,
    log_link::Opener,
    wait::{LIMIT, eventually, until_is},
};
use broker_core::driver::{LogCursor, LogDiscontinuity};
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    cases::nats::connecting::OWN,
    harness::nats::NatsHarness,
    servers::nats::control::{connections, jetstream, listen_to_everything},
};

pub(super) const CASES: &[Case] = &[
    case!(a_killed_server_keeps_the_log, [9]).needs(&[Need::Durable]),
    case!(a_log_restored_from_a_copy_is_reported, [9]).needs(&[Need::Durable]),
    case!(a_log_lost_with_its_server_is_reported, [9]).needs(OWN),
    case!(concurrent_nodes_create_one_log, [9]).needs(OWN),
    case!(a_record_deleted_unread_is_reported_once, [9]).needs(OWN),
    case!(a_page_of_missing_records_is_skipped, [9]).needs(OWN),
    case!(an_emptied_log_keeps_its_identity, [9]).needs(&[Need::Durable]),
    case!(old_records_expire_and_later_cursors_stay_valid, [9]).needs(OWN),
    case!(a_stream_with_other_settings_is_used, [9]).needs(OWN),
    case!(a_wildcard_subscriber_does_not_disturb_the_log, [9]).needs(OWN),
    case!(reads_leave_nothing_at_the_server, [9]).needs(OWN),
];

/// The log's stream and the subject of its records, by the driver's documentation.
pub(super) const STREAM: &str = "_24revocations";
pub(super) const SUBJECT: &str = "$revocations.log";

/// Has JetStream do something with the stream of the log.
async fn order(h: &dyn Harness, verb: &str, question: &Value) -> Result<Value, String> {
    let addr = NatsHarness::of(h)?.server().addr();
    jetstream(addr, &format!("STREAM.{verb}.{STREAM}"), question).await
}

async fn a_killed_server_keeps_the_log(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    link.append("a").await?;
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    for n in 0..50 {
        link.append(n.to_string()).await?;
    }
    h.restart_server().await?;
    let (link, read) = opener.read_again(&cursor).await?;
    assert_eq!((read.broken, read.records.len()), (None, 50), "{read:?}");
    link.append("b").await?;
    link.rest(&read.cursor).await?.is(&["b"]);
    Ok(())
}

/// Also when its numbers are used again, and whoever had not read further has lost nothing.
async fn a_log_restored_from_a_copy_is_reported(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    link.append("a").await?;
    let early = link.rest(&LogCursor::START).await?.cursor;
    h.save_data().await?;
    let (link, read) = opener.read_again(&early).await?;
    read.is(&[]);
    for record in ["b", "c"] {
        link.append(record).await?;
    }
    let late = link.rest(&early).await?.cursor;
    h.restore_data().await?;
    let (link, rest) = opener.read_again(&late).await?;
    assert_eq!(rest.broken, Some(LogDiscontinuity::RolledBack));
    rest.is_broken(&["a"]);
    link.rest(&early).await?.is(&[]);
    // It grows again, to less than it had been, to as much, and to more; the place stays lost.
    let mut grown = vec!["a"];
    for record in ["d", "e", "f"] {
        link.append(record).await?;
        grown.push(record);
        let rest = link.rest(&late).await?;
        assert_eq!(rest.broken, Some(LogDiscontinuity::RolledBack), "after {record}");
        rest.is_broken(&grown);
        link.rest(&early).await?.is(&grown[1..]);
    }
    Ok(())
}

async fn a_log_lost_with_its_server_is_reported(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    link.append("a").await?;
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    h.restart_server().await?;
    let (link, rest) = opener.read_again(&cursor).await?;
    assert_eq!(rest.broken, Some(LogDiscontinuity::Replaced));
    rest.is_broken(&[]);
    link.rest(&rest.cursor).await?.is(&[]);
    Ok(())
}

async fn concurrent_nodes_create_one_log(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let links = try_join_all((0..10).map(|_| opener.open())).await?;
    for _ in 0..5 {
        let pages = try_join_all(links.iter().map(|link| link.page(&LogCursor::START))).await?;
        try_join_all(links.iter().map(|link| link.append("x"))).await?;
        for page in pages {
            let read = links[0].rest(&page.cursor).await?;
            assert_eq!((page.broken, read.broken, read.records.len()), (None, None, 10));
        }
        h.wipe_log().await?;
    }
    assert!(links.iter().all(|link| !link.is_lost()));
    // Who wants records to be kept for longer may be told so, and nobody that the stream is there already.
    let mut brief = opener.clone();
    brief.log.retention /= 2;
    let both = try_join_all([&opener, &brief].repeat(5).into_iter().map(|opener| opener.open())).await?;
    for _ in 0..10 {
        for page in join_all(both.iter().map(|link| link.page(&LogCursor::START))).await {
            let error = page.err().filter(|error| !error.message().contains("`max_age`"));
            assert!(error.is_none(), "{error:?}");
        }
        h.wipe_log().await?;
    }
    Ok(())
}

/// Who had read it, and who comes later, is not told.
async fn a_record_deleted_unread_is_reported_once(h: &dyn Harness) -> Outcome {
    let link = Opener::of(h)?.open().await?;
    link.append("1").await?;
    let early = link.rest(&LogCursor::START).await?.cursor;
    let records: Vec<String> = (2..=700).map(|n| n.to_string()).collect();
    for chunk in records.chunks(100) {
        for record in chunk {
            link.append(record.clone()).await?;
        }
    }
    let late = link.rest(&early).await?.cursor;
    // In the second page of whoever begins at the start.
    order(h, "MSG.DELETE", &json!({ "seq": 400 })).await?;
    let left: Vec<&str> =
        ["1"].into_iter().chain(records.iter().map(String::as_str)).filter(|r| *r != "400").collect();
    let rest = link.rest(&early).await?;
    assert_eq!(rest.broken, Some(LogDiscontinuity::Trimmed));
    rest.is_broken(&left);
    let read = link.rest(&LogCursor::START).await?;
    read.is(&left);
    for cursor in [&late, &rest.cursor, &read.cursor] {
        link.rest(cursor).await?.is(&[]);
    }
    link.append("701").await?;
    for cursor in [late, rest.cursor, read.cursor] {
        link.rest(&cursor).await?.is(&["701"]);
    }
    Ok(())
}

async fn a_page_of_missing_records_is_skipped(h: &dyn Harness) -> Outcome {
    let link = Opener::of(h)?.open().await?;
    for chunk in 0..8 {
        let appended = join_all((0..100).map(|n| link.append(format!("{chunk}/{n}")))).await;
        appended.into_iter().collect::<Result<(), _>>()?;
    }
    for seq in 2..800 {
        order(h, "MSG.DELETE", &json!({ "seq": seq })).await?;
    }
    let read = link.rest(&LogCursor::START).await?;
    assert_eq!((read.broken, read.records.len()), (None, 2), "{read:?}");
    link.append("b").await?;
    link.rest(&read.cursor).await?.is(&["b"]);
    Ok(())
}

/// A server that starts with nothing in it still knows what the last record was.
async fn an_emptied_log_keeps_its_identity(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    for record in ["a", "b"] {
        link.append(record).await?;
    }
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    h.trim_log().await?;
    link.rest(&cursor).await?.is(&[]);
    h.restart_server().await?;
    let (link, read) = opener.read_again(&cursor).await?;
    read.is(&[]);
    link.append("c").await?;
    link.rest(&cursor).await?.is(&["c"]);
    Ok(())
}

async fn old_records_expire_and_later_cursors_stay_valid(h: &dyn Harness) -> Outcome {
    let mut opener = Opener::of(h)?;
    opener.log.retention = Duration::from_secs(1);
    let link = opener.open().await?;
    let before = link.page(&LogCursor::START).await?.cursor;
    link.append("a").await?;
    let read = link.rest(&before).await?;
    read.is(&["a"]);
    eventually("the record to be too old", LIMIT, || async {
        let rest = link.rest(&LogCursor::START).await.map_err(|error| error.to_string())?;
        if rest.records.is_empty() { Ok(()) } else { Err(format!("{rest:?}")) }
    })
    .await?;
    link.rest(&read.cursor).await?.is(&[]);
    let rest = link.rest(&before).await?;
    assert_eq!(rest.broken, Some(LogDiscontinuity::Trimmed));
    link.append("b").await?;
    link.rest(&read.cursor).await?.is(&["b"]);
    Ok(())
}

async fn a_stream_with_other_settings_is_used(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    for settings in [
        json!({ "storage": "memory", "max_msgs": 1_000_000, "discard": "new" }),
        json!({ "storage": "file", "max_age": 2 * opener.log.retention.as_nanos() as u64, "description": "ours" }),
    ] {
        let mut config = json!({ "name": STREAM, "subjects": [SUBJECT] });
        for (key, value) in settings.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        order(h, "CREATE", &config).await?;
        checks::read_your_writes(&opener).await?;
        let info = order(h, "INFO", &json!({})).await?;
        assert_eq!(info["config"]["storage"], settings["storage"], "{info}");
        h.wipe_log().await?;
    }
    Ok(())
}

/// It takes what is sent to the subject of the log, so that nobody is told that there is no stream.
async fn a_wildcard_subscriber_does_not_disturb_the_log(h: &dyn Harness) -> Outcome {
    let server = NatsHarness::of(h)?.server();
    let _listener = listen_to_everything(server.addr()).await?;
    let link = Opener::of(h)?.open().await?;
    link.append("a").await?;
    h.wipe_log().await?;
    link.append("b").await?;
    link.rest(&LogCursor::START).await?.is(&["b"]);
    Ok(())
}

async fn reads_leave_nothing_at_the_server(h: &dyn Harness) -> Outcome {
    let monitor = NatsHarness::of(h)?.server().monitor();
    let link = Opener::of(h)?.open().await?;
    link.append("a").await?;
    let mut cursor = link.rest(&LogCursor::START).await?.cursor;
    for n in 0..200 {
        // Given up at another point each time.
        let calls = async { tokio::join!(link.page(&LogCursor::START), link.append("b")) };
        let _ = timeout(Duration::from_micros(n * 20), calls).await;
        cursor = link.rest(&cursor).await?.cursor;
    }
    let info = order(h, "INFO", &json!({})).await?;
    assert_eq!(info["state"]["consumer_count"], 0, "{info}");
    // The link's own subject, and nothing beside it.
    let all = connections(monitor).await?;
    let subjects: Vec<usize> = all.iter().map(|one| one.subjects.len()).collect();
    assert_eq!(subjects, [1], "{all:?}");
    assert!(!link.is_lost());
    link.close().await?;
    until_is("nothing to be left", 0, || h.connections()).await?;
    Ok(())
}
