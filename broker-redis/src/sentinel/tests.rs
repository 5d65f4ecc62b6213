//! Tests of the URL of Sentinels, and of what an answer that does not fit becomes.

use broker_core::{BrokerUrl, Error, ErrorKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

fn parse(url: &str) -> Result<SentinelDriver> {
    SentinelDriver::parse(&BrokerUrl::parse(url).unwrap())
}

#[test]
fn every_host_is_a_sentinel_with_the_ports_of_sentinels() {
    let driver = parse("redis+sentinel://ada:s3cret@a,b:7,[::1]/3?master=main&heartbeat=1s").unwrap();
    let servers: Vec<String> = driver
        .sentinels
        .addresses
        .iter()
        .map(|address| address.server.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(servers, ["a:26379", "b:7", "[::1]:26379"]);
    assert_eq!(driver.sentinels.master, "main");
}

#[test]
fn what_does_not_fit_is_named() {
    for (url, part) in [
        ("redis+sentinel://a", "the key `master`"),
        ("redis+sentinel://a/?master=", "the key `master`"),
        ("redis+sentinel://a/?master=a%20b", "the key `master`"),
        ("redis+sentinel:?master=main", "names no host"),
        ("redis+sentinel://a/shop?master=main", "database number"),
        ("redis+sentinel://a,b,a:26379/?master=main", "a:26379 twice"),
        ("redis+sentinel://a/?master=main&ca=/ca.pem", "only for rediss+sentinel://"),
        ("redis+sentinel://a/?master=main&sentinel_pass=s3cret", "sentinel_password"),
    ] {
        let error = parse(url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.message().contains(part) && !error.message().contains("s3cret"), "{error}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_without_its_feature_names_the_feature() {
    let error = parse("rediss+sentinel://a/?master=main").unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("feature `tls`"), "{error}");
}

#[test]
fn debug_shows_no_password() {
    for url in [
        "redis+sentinel://ada:s3cret@a,b/?master=main&sentinel_password=s3cret",
        "redis+sentinel://s3cret@a/?master=main&sentinel_user=eve&sentinel_password=s3cret",
    ] {
        let shown = format!("{0:?} {0:#?}", parse(url).unwrap());
        assert!(shown.contains("Redis Sentinel") && !shown.contains("s3cret"), "{shown}");
    }
}

/// What connecting ends with where a Sentinel answers this to the question for the master.
async fn answered(answer: &'static str) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sentinel = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let replies = ["%1\r\n+server\r\n+redis\r\n", ">3\r\n+subscribe\r\n+switch\r\n:1\r\n", answer];
        for reply in replies {
            let read = socket.read(&mut [0; 1024]).await.unwrap();
            assert!(read > 0, "hung up");
            socket.write_all(reply.as_bytes()).await.unwrap();
        }
        // Until the other side has read it.
        let _ = socket.read(&mut [0; 1024]).await;
    });
    let url = format!("redis+sentinel://{address}/?master=main&sentinel_password=s3cret");
    let error = parse(&url).unwrap().connect(ConnectContext::new(Inbox::discard())).await.err().unwrap();
    sentinel.await.unwrap();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains(&address.to_string()) && !shown.contains("s3cret"), "{shown}");
    error
}

#[tokio::test]
async fn an_answer_that_names_no_server_is_refused() {
    for (answer, kind, part) in [
        ("_\r\n", ErrorKind::Misconfigured, "watches no master `main`"),
        ("*-1\r\n", ErrorKind::Misconfigured, "watches no master `main`"),
        ("*2\r\n$0\r\n\r\n$1\r\n7\r\n", ErrorKind::Misconfigured, "cannot be one"),
        ("*2\r\n$3\r\na b\r\n$1\r\n7\r\n", ErrorKind::Misconfigured, "cannot be one"),
        ("*2\r\n$1\r\na\r\n$1\r\n0\r\n", ErrorKind::Misconfigured, "cannot be one"),
        ("*2\r\n$1\r\na\r\n$5\r\n70000\r\n", ErrorKind::Protocol, "check host, port"),
        ("*1\r\n$1\r\na\r\n", ErrorKind::Protocol, "check host, port"),
        ("+OK\r\n", ErrorKind::Protocol, "check host, port"),
        ("-ERR unknown command `SENTINEL`, with args s3cret\r\n", ErrorKind::Misconfigured, "is no Sentinel"),
        ("-ERR unknown command 'SENTINEL', with args s3cret\r\n", ErrorKind::Misconfigured, "is no Sentinel"),
        ("-ERR unknown s3cret\r\n", ErrorKind::Other, "refused the command"),
        ("-NOPERM s3cret\r\n", ErrorKind::Forbidden, "+sentinel|get-master-addr-by-name"),
    ] {
        let error = answered(answer).await;
        assert_eq!(error.kind(), kind, "{answer}: {error}");
        assert!(error.message().contains(part), "{answer}: {error}");
    }
}
