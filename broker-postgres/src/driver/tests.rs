//! What connecting to a server that is none, or says no, ends with.

use broker_core::{BrokerUrl, Error, ErrorKind, Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

async fn failure(url: &str) -> Error {
    let driver = PostgresDriver::new(Address::parse(&BrokerUrl::parse(url).unwrap()).unwrap());
    assert!(!format!("{driver:?}").contains("s3cret"));
    let error = driver.reach(Inbox::discard()).await.err().expect("an error");
    assert!(!format!("{error} {error:?} {error:#?}").contains("s3cret"), "{error:?}");
    error
}

/// What connecting to a server that answers `answer` to the first thing it reads, and hangs up, ends with.
async fn answered(answer: Vec<u8>, query: &str) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        // Both sessions of a link, and whoever looks what this is.
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(&answer).await;
            });
        }
    });
    let error = failure(&format!("postgres://ada:s3cret@{address}/shop{query}")).await;
    server.abort();
    assert!(error.message().contains(&address.to_string()), "{error}");
    error
}

/// An error as the server sends it, with words of its own.
fn refusal(code: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mno: s3cret\0Ds3cret\0\0");
    let mut message = vec![b'E'];
    message.extend_from_slice(&(fields.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(fields.as_bytes());
    message
}

#[tokio::test]
async fn each_refusal_has_its_kind_and_its_code_and_no_words_of_the_server() {
    for (code, kind, part) in [
        ("28P01", ErrorKind::Forbidden, "refused the user \"ada\" in database \"shop\": wrong password"),
        ("28000", ErrorKind::Forbidden, "pg_hba.conf"),
        ("3D000", ErrorKind::Misconfigured, "no such database"),
        ("53300", ErrorKind::Unavailable, "`max_connections`"),
        ("57P03", ErrorKind::Unavailable, "starts up"),
        ("XX000", ErrorKind::Other, "refused the statement"),
    ] {
        let error = answered(refusal(code), "").await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(part) && error.message().contains(code), "{error}");
    }
}

#[tokio::test]
async fn a_way_to_sign_in_that_is_unknown_is_forbidden() {
    // GSSAPI, and a mechanism of SASL that nobody has.
    for answer in [&b"R\0\0\0\x08\0\0\0\x07"[..], b"R\0\0\0\x0d\0\0\0\x0aX-Y\0\0"] {
        let error = answered(answer.to_vec(), "").await;
        assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
        assert!(error.message().contains("\"ada\""), "{error}");
    }
}

#[tokio::test]
async fn a_foreign_server_is_a_protocol_error() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"+PONG\r\n",
        b"INFO {}\r\n",
        b"R\0\0\0\0",
    ] {
        let error = answered(garbage.to_vec(), "").await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{garbage:?}: {error}");
    }
    let error = answered(b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), "").await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_server_without_tls_is_named() {
    let error = answered(b"N".to_vec(), "?sslmode=verify-full").await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.message().contains("speaks no TLS"), "{error}");
    let error = answered(b"Snonsense".to_vec(), "?sslmode=verify-full").await;
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    let error = answered(b"+PONG\r\n".to_vec(), "?sslmode=verify-full").await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = failure(&format!("postgres://ada:s3cret@{address}")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains(&address.to_string()), "{error}");

    let error = failure("postgres://host.invalid/").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("host.invalid:5432"), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_up_is_unavailable() {
    let error = answered(Vec::new(), "").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("pooler"), "{error}");
}

#[tokio::test]
async fn a_dropped_attempt_leaves_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = BrokerUrl::parse(&format!("postgres://{}", listener.local_addr().unwrap())).unwrap();
    let mut options = Options::default();
    options.connect_timeout = std::time::Duration::from_millis(100);
    let connecting = broker_core::Broker::connect((crate::BACKEND.open)(&url).unwrap(), options);
    let (error, (mut peer, _)) = tokio::join!(connecting, async { listener.accept().await.unwrap() });
    assert_eq!(error.err().map(|error| error.kind()), Some(ErrorKind::Timeout));
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.unwrap();
    assert!(
        said.windows(10).any(|part| part == b"broker rec")
            || said.windows(10).any(|part| part == b"broker pos")
    );
}
