//! Tests of the log against servers that answer as none that we have would.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use broker_core::{
    BrokerUrl, ErrorKind,
    driver::{ConnectContext, Inbox, Link},
};
use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

/// What a server answers to a command; `None`: nothing, ever.
type Answer = fn(&[String], usize) -> Option<String>;

/// A link to a server that answers like this to the commands about the log, of which each kind is counted.
async fn linked(answer: Answer) -> (Box<dyn Link>, Inbox) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, answer, Arc::clone(&count)));
        }
    });
    let url = BrokerUrl::parse(&format!("redis://{address}")).unwrap();
    let inbox = Inbox::discard();
    let link =
        (crate::BACKEND.open)(&url).unwrap().connect(ConnectContext::new(inbox.clone())).await.unwrap();
    (link, inbox)
}

async fn serve(socket: TcpStream, answer: Answer, count: Arc<AtomicUsize>) -> Option<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let command = command(&mut socket).await?;
        let reply = match command[0].as_str() {
            "HELLO" => Some("%1\r\n+proto\r\n:3\r\n".to_owned()),
            "CONFIG" => Some("-NOPERM no permission\r\n".to_owned()),
            "CLIENT" => Some("+OK\r\n".to_owned()),
            _ => answer(&command, count.fetch_add(1, Ordering::SeqCst)),
        };
        socket.write_all(reply.unwrap_or_default().as_bytes()).await.ok()?;
    }
}

async fn command(socket: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    let parts: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..parts {
        line.clear();
        socket.read_line(&mut line).await.ok()?;
        let mut word = vec![0; line.trim_end().strip_prefix('$')?.parse::<usize>().ok()? + 2];
        socket.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words)
}

const GROUPS: &str = "*1\r\n%1\r\n+name\r\n+epoch-1\r\n";
const STREAM: &str = "%3\r\n+length\r\n:0\r\n+last-generated-id\r\n+0-0\r\n+entries-added\r\n:0\r\n";

/// A new log that has its identity.
fn well(command: &[String]) -> String {
    match (command[0].as_str(), command[1].as_str()) {
        ("XINFO", "GROUPS") => GROUPS,
        ("XINFO", _) => STREAM,
        ("XRANGE", _) => "*0\r\n",
        ("XADD", _) => "+1-0\r\n",
        _ => "+OK\r\n",
    }
    .to_owned()
}

fn log() -> LogSpec {
    LogSpec::of("", Duration::from_secs(60), Duration::from_secs(20))
}

/// Both calls end with this kind of error, in these words; the link lives on.
async fn both_fail(answer: Answer, kind: ErrorKind, words: &str) {
    let (link, inbox) = linked(answer).await;
    let read = link.log().unwrap().read(&log(), &LogCursor::START).await.map(drop);
    let appended = link.log().unwrap().append(&log(), Bytes::from_static(b"a")).await;
    for error in [read, appended].map(Result::unwrap_err) {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(words) && error.message().contains("127.0.0.1"), "{error}");
    }
    assert!(!inbox.is_lost());
}

#[tokio::test]
async fn a_server_before_7_0_keeps_no_log() {
    let without = |command: &[String], _| {
        let stream = "%2\r\n+length\r\n:0\r\n+last-generated-id\r\n+0-0\r\n".to_owned();
        Some(if command[1] == "STREAM" { stream } else { well(command) })
    };
    both_fail(without, ErrorKind::Unsupported, "7.0").await;
    let unknown =
        |_: &[String], _| Some("-ERR Unknown subcommand or wrong number of arguments\r\n".to_owned());
    both_fail(unknown, ErrorKind::Unsupported, "7.0").await;
}

#[tokio::test]
async fn a_cluster_node_without_the_log_is_reported() {
    let moved = |_: &[String], _| Some("-MOVED 866 10.0.0.1:6379\r\n".to_owned());
    both_fail(moved, ErrorKind::Misconfigured, "cluster").await;
}

#[tokio::test]
async fn a_log_that_changes_during_every_read_is_an_error() {
    let moving = |command: &[String], n: usize| {
        Some(well(command).replace("entries-added\r\n:0", &format!("entries-added\r\n:{n}")))
    };
    both_fail(moving, ErrorKind::Other, "faster").await;
    let gone = |command: &[String], _| {
        let missing = "-ERR no such key\r\n".to_owned();
        Some(if command[0] == "XINFO" { missing } else { well(command) })
    };
    both_fail(gone, ErrorKind::Other, "faster").await;
}

#[tokio::test]
async fn a_read_during_a_change_is_discarded() {
    // Added to between the first question what the stream is and the second one; then it stands still.
    let once = |command: &[String], n: usize| {
        let added = format!("entries-added\r\n:{}", usize::from(n > 2));
        Some(well(command).replace("entries-added\r\n:0", &added))
    };
    let (link, _) = linked(once).await;
    let page = link.log().unwrap().read(&log(), &LogCursor::START).await.unwrap();
    assert_eq!(page.cursor.place(), Some("epoch-1/0-0/1"));
    // Another stream stood there by then, and its numbers are the same.
    let other = |command: &[String], n: usize| {
        Some(well(command).replace("epoch-1", if n > 2 { "epoch-2" } else { "epoch-1" }))
    };
    let (link, _) = linked(other).await;
    let page = link.log().unwrap().read(&log(), &LogCursor::START).await.unwrap();
    assert_eq!(page.cursor.place(), Some("epoch-2/0-0/0"));
}

#[tokio::test]
async fn answers_to_other_questions_are_a_protocol_error() {
    for answer in [
        (|_: &[String], _| Some("+OK\r\n".to_owned())) as Answer,
        |_, _| Some("_\r\n".to_owned()),
        |command, _| Some(if command[0] == "XRANGE" { GROUPS.to_owned() } else { well(command) }),
        |command, _| Some(well(command).replace(":0", ":-1")),
        |command, _| Some(well(command).replace("0-0", "zero")),
    ] {
        let (link, inbox) = linked(answer).await;
        let error = link.log().unwrap().read(&log(), &LogCursor::START).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(!inbox.is_lost());
    }
    let (link, _) = linked(|command, _| Some(well(command).replace("1-0", "QUEUED"))).await;
    let error = link.log().unwrap().append(&log(), Bytes::from_static(b"a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn unanswered_calls_end_at_the_limit() {
    let (link, inbox) = linked(|_, _| None).await;
    let log = LogSpec::of("", Duration::from_secs(60), Duration::from_millis(50));
    for _ in 0..3 {
        let calls = tokio::join!(
            link.log().unwrap().append(&log, Bytes::from_static(b"a")),
            link.log().unwrap().append(&log, Bytes::from_static(b"b")),
            link.log().unwrap().read(&log, &LogCursor::START),
        );
        for error in [calls.0, calls.1, calls.2.map(drop)].map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.message().contains("50ms"), "{error}");
        }
    }
    assert!(!inbox.is_lost());
}

#[test]
fn a_record_expires_by_both_clocks() {
    let hour = Duration::from_secs(3600);
    assert_eq!(floor(10_000_000, 10_000_000, hour), 6_400_000);
    assert_eq!(floor(10_000_000, 90_000_000, hour), 6_400_000, "ours is ahead");
    assert_eq!(floor(90_000_000, 10_000_000, hour), 6_400_000, "the server's was ahead");
    // Nothing is known of the server's; a clock before 1970; a retention without end.
    assert_eq!(floor(0, 10_000_000, hour), 0);
    assert_eq!(floor(10_000_000, 0, hour), 0);
    assert_eq!(floor(10_000_000, 10_000_000, Duration::MAX), 0);
}
