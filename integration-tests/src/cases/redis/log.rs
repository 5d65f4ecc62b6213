//! Cases about the revocation log on Redis: what becomes of it at the server, and who is told.

use std::time::{SystemTime, UNIX_EPOCH};

use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    log_checks,
    log_link::{LIMIT, Opener, RETENTION},
    wait::until_is,
};
use broker_core::driver::{LogCursor, LogDiscontinuity, LogSpec};
use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value};

use crate::servers::{
    self,
    redis::{Redis, config::RedisConfig},
};

pub(super) const CASES: &[Case] = &[
    case!(a_log_from_an_old_snapshot_is_reported_to_later_readers, [9]).needs(&[Need::Durable]),
    case!(a_log_on_disk_survives_a_killed_server, [9]).needs(&[Need::Durable]),
    case!(a_log_lost_with_its_server_is_reported, [9]).needs(OWN),
    case!(a_log_recreated_within_a_millisecond_is_reported, [9]).needs(OWN),
    case!(concurrent_links_create_one_log, [9]).needs(OWN),
    case!(only_records_deleted_unread_are_reported, [9]).needs(OWN),
    case!(a_stream_of_another_program_serves_as_the_log, [9]).needs(OWN),
    case!(only_old_records_expire, [9]).needs(OWN),
    case!(a_clock_that_was_ahead_expires_no_young_record, [9]).needs(OWN),
    case!(reading_leaves_nothing_at_the_server, [9]).needs(OWN),
];

pub(super) const OWN: &[Need] = &[Need::OwnServer];

/// The key of the log of an application without a prefix.
pub(super) const KEY: &str = "$revocations";

/// A server of the case's own, and the log on it.
pub(super) async fn server(config: RedisConfig) -> Outcome<(Box<dyn Redis>, Opener)> {
    let server = servers::redis::start(config).await?;
    let url = server.url_at(server.addr());
    let opener = Opener::new(broker_redis::BACKEND, &url, LogSpec::of("", RETENTION, LIMIT))?;
    Ok((server, opener))
}

/// Has the server run a ask, written as in its shell, and without quotes.
pub(super) async fn ask<T: FromRedisValue>(server: &dyn Redis, command: &str) -> Outcome<T> {
    let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let answer: Value = server.command(&args).await.map_err(|error| format!("{command}: {error}"))?;
    Ok(T::from_redis_value(answer)?)
}

/// The time, in milliseconds, as the ids of a stream tell it.
fn now() -> Outcome<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())
}

/// Who had not read further cannot see it: that is for those who have the lost records, and for core.
async fn a_log_from_an_old_snapshot_is_reported_to_later_readers(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    link.append("a").await?;
    let early = link.rest(&LogCursor::START).await?.cursor;
    h.save_data().await?;
    for record in ["b", "c"] {
        link.append(record).await?;
    }
    let late = link.rest(&early).await?.cursor;
    h.restore_data().await?;
    let link = opener.open().await?;
    let read = link.rest(&late).await?;
    assert_eq!(read.broken, Some(LogDiscontinuity::RolledBack));
    read.is_broken(&["a"]);
    link.rest(&early).await?.is(&[]);
    // It grows again, to less than it had been, to as much, and to more; the place stays lost.
    let mut grown = vec!["a"];
    for record in ["d", "e", "f"] {
        link.append(record).await?;
        grown.push(record);
        let read = link.rest(&late).await?;
        assert_eq!(read.broken, Some(LogDiscontinuity::RolledBack), "after {record}");
        read.is_broken(&grown);
        link.rest(&early).await?.is(&grown[1..]);
    }
    Ok(())
}

async fn a_log_on_disk_survives_a_killed_server(h: &dyn Harness) -> Outcome {
    let opener = Opener::of(h)?;
    let link = opener.open().await?;
    link.append("a").await?;
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    for n in 0..20 {
        link.append(n.to_string()).await?;
    }
    h.restart_server().await?;
    let read = opener.open().await?.rest(&cursor).await?;
    assert_eq!((read.broken, read.records.len()), (None, 20));
    Ok(())
}

async fn a_log_lost_with_its_server_is_reported(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let link = opener.open().await?;
    link.append("a").await?;
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    server.kill().await?;
    server.start_again().await?;
    let link = opener.open().await?;
    let read = link.rest(&cursor).await?;
    assert_eq!(read.broken, Some(LogDiscontinuity::Replaced));
    read.is_broken(&[]);
    link.rest(&read.cursor).await?.is(&[]);
    Ok(())
}

/// By its ids and by its numbers the new log is the old one.
async fn a_log_recreated_within_a_millisecond_is_reported(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let link = opener.open().await?;
    link.append("a").await?;
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    let entries: Vec<(String, Vec<String>)> = ask(&*server, &format!("XRANGE {KEY} - +")).await?;
    let id = &entries.first().ok_or("no entry")?.0;
    ask::<()>(&*server, &format!("DEL {KEY}")).await?;
    ask::<()>(&*server, &format!("XADD {KEY} {id} r unread")).await?;
    let read = link.rest(&cursor).await?;
    assert_eq!(read.broken, Some(LogDiscontinuity::Replaced));
    read.is_broken(&["unread"]);
    Ok(())
}

async fn concurrent_links_create_one_log(_: &dyn Harness) -> Outcome {
    let (_server, opener) = server(RedisConfig::default()).await?;
    let links = try_join_all((0..20).map(|_| opener.open())).await?;
    let pages = try_join_all(links.iter().map(|link| link.page(&LogCursor::START))).await?;
    try_join_all(links.iter().map(|link| link.append("x"))).await?;
    for page in pages {
        let read = links[0].rest(&page.cursor).await?;
        assert_eq!((page.broken, read.broken, read.records.len()), (None, None, 20));
    }
    Ok(())
}

async fn only_records_deleted_unread_are_reported(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let link = opener.open().await?;
    for record in ["a", "b"] {
        link.append(record).await?;
    }
    let cursor = link.rest(&LogCursor::START).await?.cursor;
    for record in ["c", "d"] {
        link.append(record).await?;
    }
    let entries: Vec<(String, Vec<String>)> = ask(&*server, &format!("XRANGE {KEY} - +")).await?;
    ask::<()>(&*server, &format!("XDEL {KEY} {}", entries[0].0)).await?;
    link.rest(&cursor).await?.is(&["c", "d"]);
    let end = link.rest(&cursor).await?.cursor;
    ask::<()>(&*server, &format!("XDEL {KEY} {}", entries[2].0)).await?;
    let read = link.rest(&cursor).await?;
    assert_eq!(read.broken, Some(LogDiscontinuity::Trimmed));
    read.is_broken(&["b", "d"]);
    // All are dropped, and have been read.
    ask::<()>(&*server, &format!("XTRIM {KEY} MAXLEN 0")).await?;
    for place in [&end, &read.cursor] {
        link.rest(place).await?.is(&[]);
    }
    link.append("e").await?;
    link.rest(&end).await?.is(&["e"]);
    Ok(())
}

async fn a_stream_of_another_program_serves_as_the_log(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    for command in [
        format!("XADD {KEY} * level warn text hello"),
        format!("XADD {KEY} * r record level warn"),
        format!("XGROUP CREATE {KEY} auditors 0"),
    ] {
        ask::<()>(&*server, &command).await?;
    }
    let link = opener.open().await?;
    let read = link.rest(&LogCursor::START).await?;
    read.is(&["record"]);
    ask::<()>(&*server, &format!("XADD {KEY} * level warn text again")).await?;
    link.append("a").await?;
    link.rest(&read.cursor).await?.is(&["a"]);
    link.rest(&LogCursor::START).await?.is(&["record", "a"]);
    Ok(())
}

async fn only_old_records_expire(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let (old, young) = (now()? - 2 * RETENTION.as_millis(), now()? - RETENTION.as_millis() / 2);
    for n in 0..350 {
        ask::<()>(&*server, &format!("XADD {KEY} {} r old", old + n)).await?;
    }
    for n in 0..150 {
        ask::<()>(&*server, &format!("XADD {KEY} {} r young", young + n)).await?;
    }
    let link = opener.open().await?;
    let before = link.rest(&LogCursor::START).await?;
    assert_eq!((before.broken, before.records.len()), (None, 500));
    // The second one knows from the first what time it is at the server.
    for _ in 0..2 {
        link.append("new").await?;
    }
    let after = link.rest(&LogCursor::START).await?;
    let count = |text: &str| after.records.iter().filter(|record| *record == text).count();
    // The server drops them by the hundred.
    assert!(count("old") < 100, "{} old ones are left", count("old"));
    assert_eq!((count("young"), count("new")), (150, 2));
    link.rest(&before.cursor).await?.is(&["new", "new"]);
    Ok(())
}

/// The ids of a stream never go back: one from the future stays the last until then.
async fn a_clock_that_was_ahead_expires_no_young_record(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    let link = opener.open().await?;
    for _ in 0..250 {
        link.append("young").await?;
    }
    let ahead = now()? + 10 * RETENTION.as_millis();
    ask::<()>(&*server, &format!("XADD {KEY} {ahead} r ahead")).await?;
    link.append("new").await?;
    link.append("newer").await?;
    let read = link.rest(&LogCursor::START).await?;
    assert_eq!((read.broken, read.records.len()), (None, 253));
    Ok(())
}

async fn reading_leaves_nothing_at_the_server(_: &dyn Harness) -> Outcome {
    let (server, opener) = server(RedisConfig::default()).await?;
    log_checks::pages(&opener).await?;
    let link = opener.open().await?;
    for _ in 0..100 {
        link.page(&LogCursor::START).await?;
        // One that is given up in the middle.
        tokio::select! {
            biased;
            page = link.page(&LogCursor::START) => drop(page?),
            () = tokio::task::yield_now() => {}
        }
    }
    let keys: Vec<String> = ask(&*server, "KEYS *").await?;
    assert_eq!(keys, [KEY]);
    let groups: Vec<Value> = ask(&*server, &format!("XINFO GROUPS {KEY}")).await?;
    let shown = format!("{groups:?}");
    assert_eq!(groups.len(), 1, "{shown}");
    let consumers: Vec<Value> =
        ask(&*server, &format!("XINFO CONSUMERS {KEY} {}", group_name(&groups)?)).await?;
    assert!(consumers.is_empty(), "{consumers:?}");
    link.close().await?;
    let clients = || async {
        let list: String = ask(&*server, "CLIENT LIST").await.map_err(|failure| format!("{failure:?}"))?;
        Ok(list.lines().filter(|line| line.contains(" user=default ")).count())
    };
    until_is("connections of links", 0, clients).await?;
    Ok(())
}

fn group_name(groups: &[Value]) -> Outcome<String> {
    let Some(Value::Array(fields)) = groups.first() else { return Err("no group".into()) };
    Ok(String::from_redis_value(fields[1].clone())?)
}
