//! Log checks: what holds of every backend's revocation log, over links that are opened by hand.
//!
//! Each begins with a log that nobody has written to. Cases take them from here for every backend; cases about one
//! backend take them for a server that is set up in another way.

use std::{future::Future, time::Duration};

use broker_core::{
    Error, ErrorKind,
    driver::{LogCursor, LogDiscontinuity, MAX_RECORD},
};
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::time::Instant;

use crate::{
    case::Outcome,
    harness::Harness,
    line::Line,
    log_link::Opener,
    wait::{LIMIT, eventually, within},
};

/// How much later than its limit a call may end on a busy machine.
const MARGIN: Duration = Duration::from_secs(20);

/// A log that nobody has written to is there, and empty, as often as one looks.
///
/// # Errors
/// It is not so.
pub async fn a_new_log(o: &Opener) -> Outcome {
    let (one, two) = (o.open().await?, o.open().await?);
    let first = one.page(&LogCursor::START).await?;
    assert!(first.records.is_empty() && !first.more && first.broken.is_none(), "{first:?}");
    one.rest(&first.cursor).await?.is(&[]);
    two.rest(&first.cursor).await?.is(&[]);
    two.append("a").await?;
    one.rest(&first.cursor).await?.is(&["a"]);
    Ok(())
}

/// After the `Ok` of each append, a read through another link returns it.
///
/// # Errors
/// It is not so.
pub async fn read_your_writes(o: &Opener) -> Outcome {
    let (writer, reader) = (o.open().await?, o.open().await?);
    let mut cursor = LogCursor::START;
    for n in 0..10 {
        let record = format!("record {n}");
        writer.append(record.clone()).await?;
        let rest = reader.rest(&cursor).await?;
        rest.is(&[&record]);
        cursor = rest.cursor;
    }
    assert!(!writer.is_lost() && !reader.is_lost());
    Ok(())
}

/// The cursor of a link that is gone is good on the next one.
///
/// # Errors
/// It is not so.
pub async fn a_cursor_of_another_link(o: &Opener) -> Outcome {
    let one = o.open().await?;
    one.append("a").await?;
    let read = one.rest(&LogCursor::START).await?;
    read.is(&["a"]);
    one.append("b").await?;
    one.close().await?;
    let two = o.open().await?;
    two.rest(&read.cursor).await?.is(&["b"]);
    Ok(())
}

/// A cursor that has fallen far behind is good, and stays so.
///
/// # Errors
/// It is not so.
pub async fn an_old_cursor(o: &Opener) -> Outcome {
    let link = o.open().await?;
    let start = link.rest(&LogCursor::START).await?.cursor;
    link.append("0").await?;
    let after_one = link.rest(&start).await?.cursor;
    let records: Vec<String> = (0..=30).map(|n| n.to_string()).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    for record in &records[1..] {
        link.append((*record).to_owned()).await?;
        link.rest(&after_one).await?;
    }
    for _ in 0..2 {
        link.rest(&after_one).await?.is(&records[1..]);
        link.rest(&start).await?.is(&records);
        link.rest(&LogCursor::START).await?.is(&records);
    }
    Ok(())
}

/// Four write 2,400 records at once. A reader beside them, and two who come later, read them all, once, each
/// writer's in its order, and all readers in the same order.
///
/// # Errors
/// It is not so.
pub async fn writers_at_once(o: &Opener) -> Outcome {
    const WRITERS: usize = 4;
    const EACH: usize = 600;
    let write = |writer: usize, o: Opener| async move {
        let link = o.open().await?;
        for n in 0..EACH {
            link.append(format!("{writer}/{n}")).await?;
        }
        Outcome::Ok(())
    };
    // As tasks: where an append never waits, they would else come one after the other.
    let writing: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(writer, o.clone()))).collect();
    let reading = async {
        let link = o.open().await?;
        let (mut records, mut cursor) = (Vec::new(), LogCursor::START);
        while records.len() < WRITERS * EACH {
            let page = link.page(&cursor).await?;
            assert_eq!(page.broken, None, "after {} records", records.len());
            records.extend(page.records);
            cursor = page.cursor;
            // Nor does a read wait everywhere.
            tokio::task::yield_now().await;
        }
        Outcome::Ok(records)
    };
    let beside = within("all records", reading).await??;
    for writer in within("the writers", try_join_all(writing)).await?? {
        writer?;
    }
    assert_eq!(beside.len(), WRITERS * EACH);
    for writer in 0..WRITERS {
        let own = format!("{writer}/");
        let found: Vec<&Bytes> = beside.iter().filter(|record| record.starts_with(own.as_bytes())).collect();
        let expected: Vec<String> = (0..EACH).map(|n| format!("{own}{n}")).collect();
        assert!(found == expected.iter().collect::<Vec<_>>(), "of writer {writer}: {found:?}");
    }
    for _ in 0..2 {
        let later = o.open().await?.rest(&LogCursor::START).await?;
        assert!(later.broken.is_none() && later.records == beside, "another order");
    }
    Ok(())
}

/// A log is read in pages, on whatever links, to the moment of the call, and no record lies between two of them.
/// Its records were appended several at once.
///
/// # Errors
/// It is not so.
pub async fn pages(o: &Opener) -> Outcome {
    let (one, two) = (o.open().await?, o.open().await?);
    let mut expected: Vec<Bytes> = (0..2100).map(|n| Bytes::from(format!("{n:04}"))).collect();
    for chunk in expected.chunks(50) {
        let appended = join_all(chunk.iter().map(|record| one.append(record.clone()))).await;
        appended.into_iter().collect::<Result<(), Error>>()?;
    }
    let (mut records, mut cursor, mut pages) = (Vec::new(), LogCursor::START, 0);
    loop {
        let page = if pages % 2 == 0 { one.page(&cursor).await? } else { two.page(&cursor).await? };
        assert_eq!(page.broken, None, "page {pages}");
        assert!(!page.more || !page.records.is_empty(), "page {pages} is empty and not the last");
        records.extend(page.records);
        (cursor, pages) = (page.cursor, pages + 1);
        if !page.more {
            break;
        }
        // In the middle of the reading: still within the log.
        let record = Bytes::from(format!("late {pages}"));
        two.append(record.clone()).await?;
        expected.push(record);
    }
    assert!(pages > 1, "{} records in one page", records.len());
    assert_eq!(records.len(), expected.len());
    let late = expected.split_off(2100);
    assert_eq!(records.split_off(2100), late);
    records.sort_unstable();
    assert_eq!(records, expected);
    Ok(())
}

/// A record is bytes, up to its limit.
///
/// # Errors
/// It is not so.
pub async fn opaque_records(o: &Opener) -> Outcome {
    let link = o.open().await?;
    let every_byte: Vec<u8> = (0..=255).collect();
    let largest = every_byte.repeat(MAX_RECORD / every_byte.len());
    assert_eq!(largest.len(), MAX_RECORD);
    let records = [b"\0".to_vec(), b"\r\n".to_vec(), every_byte, largest].map(Bytes::from);
    for record in &records {
        link.append(record.clone()).await?;
    }
    let read = link.rest(&LogCursor::START).await?;
    assert!(read.broken.is_none() && read.records == records, "not as they were written");
    Ok(())
}

/// Text that is no cursor of this log is no place in it: all of the log is read, and the reader is told.
///
/// # Errors
/// It is not so.
pub async fn foreign_cursors(o: &Opener) -> Outcome {
    let link = o.open().await?;
    link.append("a").await?;
    let long = "9".repeat(10_000);
    let maximum = u64::MAX.to_string();
    let all_maximum = format!("{maximum}/{maximum}/{maximum}");
    let hostile = [
        "",
        "/",
        "//",
        "///",
        "0",
        "-",
        "+",
        "$",
        "(",
        "*",
        "0/0",
        "0/0/0",
        "-1/-1/-1",
        "a/b/c/d/e",
        "é/ß/🦀",
        "\0/\r\n/ ",
        "epoch-0/0-0/0",
        "epoch-/-/",
        &long,
        &maximum,
        &all_maximum,
    ];
    for place in hostile {
        let read = link.rest(&LogCursor::new(place)).await.map_err(|error| format!("{place:?}: {error}"))?;
        read.is_broken(&["a"]);
        link.rest(&read.cursor).await?.is(&[]);
    }
    // One's own, cut short anywhere, may be a place before this one or none; in any case it is answered.
    let own = link.rest(&LogCursor::START).await?.cursor;
    let own = own.place().ok_or("the end of a log is not its start")?;
    for cut in (0..own.len()).filter(|cut| own.is_char_boundary(*cut)) {
        link.rest(&LogCursor::new(&own[..cut])).await?;
    }
    assert!(!link.is_lost());
    Ok(())
}

/// A log that is deleted with a record in it that somebody has not read: that one is told, and once.
///
/// # Errors
/// It is not so.
pub async fn wiped(o: &Opener, wipe: impl Future<Output = Result<(), String>> + Send) -> Outcome {
    let (one, two) = (o.open().await?, o.open().await?);
    one.append("a").await?;
    let read = two.rest(&LogCursor::START).await?;
    one.append("unread").await?;
    wipe.await?;
    let rest = two.rest(&read.cursor).await?;
    rest.is_broken(&[]);
    two.rest(&rest.cursor).await?.is(&[]);
    one.append("b").await?;
    two.rest(&rest.cursor).await?.is(&["b"]);
    // Another one who had read as far is told as well.
    o.open().await?.rest(&read.cursor).await?.is_broken(&["b"]);
    Ok(())
}

/// A log that is deleted, and has grown since beyond where somebody had read: that one is told, with all of it.
///
/// # Errors
/// It is not so.
pub async fn wiped_and_grown(o: &Opener, wipe: impl Future<Output = Result<(), String>> + Send) -> Outcome {
    let (one, two) = (o.open().await?, o.open().await?);
    for record in ["a", "b", "c"] {
        one.append(record).await?;
    }
    let read = two.rest(&LogCursor::START).await?;
    read.is(&["a", "b", "c"]);
    wipe.await?;
    let anew = ["d", "e", "f", "g", "h"];
    for record in anew {
        one.append(record).await?;
    }
    let rest = two.rest(&read.cursor).await?;
    rest.is_broken(&anew);
    two.rest(&rest.cursor).await?.is(&[]);
    Ok(())
}

/// Whoever finds no log, where there was one, is told with the next page that it is new, and once; also if it was an
/// append that has found none. Who finds one is not.
///
/// # Errors
/// It is not so.
pub async fn created(o: &Opener, h: &dyn Harness) -> Outcome {
    let (one, two) = (o.open().await?, o.open().await?);
    one.append("a").await?;
    one.rest(&LogCursor::START).await?.is(&["a"]);
    assert!(!one.page(&LogCursor::START).await?.created && !two.page(&LogCursor::START).await?.created);
    h.wipe_log().await?;
    let page = two.page(&LogCursor::START).await?;
    assert!(page.created && page.records.is_empty() && page.broken.is_none(), "{page:?}");
    assert!(!two.page(&LogCursor::START).await?.created && !one.page(&LogCursor::START).await?.created);
    h.wipe_log().await?;
    let late = o.open().await?;
    late.append("b").await?;
    let page = late.page(&LogCursor::START).await?;
    assert!(page.created && page.records == ["b"], "{page:?}");
    assert!(!two.page(&LogCursor::START).await?.created);
    Ok(())
}

/// A log whose records are dropped before somebody has read them: that one is told why, and what comes later is
/// read as ever.
///
/// # Errors
/// It is not so.
pub async fn trimmed(o: &Opener, trim: impl Future<Output = Result<(), String>> + Send) -> Outcome {
    let (one, two) = (o.open().await?, o.open().await?);
    one.append("a").await?;
    let read = two.rest(&LogCursor::START).await?;
    one.append("unread").await?;
    one.append("unread too").await?;
    trim.await?;
    let rest = two.rest(&read.cursor).await?;
    rest.is_broken(&[]);
    assert_eq!(rest.broken, Some(LogDiscontinuity::Trimmed));
    one.append("b").await?;
    two.rest(&rest.cursor).await?.is(&["b"]);
    two.rest(&LogCursor::START).await?.is(&["b"]);
    Ok(())
}

/// A log on a line that swallows everything: both calls end by themselves, in time.
///
/// # Errors
/// It is not so.
pub async fn no_answer(o: &Opener, line: &dyn Line) -> Outcome {
    // To make a log may take long.
    o.open().await?.append("a").await?;
    let mut opener = o.clone();
    opener.log.limit = Duration::from_secs(1);
    let link = opener.open().await?;
    eventually("an answer within the limit", LIMIT, || async {
        link.page(&LogCursor::START).await.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    line.stall();
    let since = Instant::now();
    let calls = async { tokio::join!(link.append("b"), link.page(&LogCursor::START)) };
    let (appended, read) = within("both calls to end", calls).await?;
    let took = since.elapsed();
    assert!(took >= opener.log.limit && took < opener.log.limit + MARGIN, "{took:?}");
    for error in [appended.err(), read.err()] {
        let error = error.ok_or("an answer through a stalled line")?;
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    line.heal();
    drop(link);
    let read = o.open().await?.rest(&LogCursor::START).await?;
    assert!(read.records.first().is_some_and(|first| first == "a"), "{read:?}");
    Ok(())
}
