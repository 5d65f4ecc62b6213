//! No secret of a URL shows: not in an error, a log line or a `Debug`, whatever the URL or the server is like.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::Options;
use broker_core::Backend;
use proptest::prelude::*;

#[path = "../../fuzz/secret_url.rs"]
mod secret_url;

const BACKENDS: &[Backend] = &[
    broker_memory::BACKEND,
    broker_nats::BACKEND,
    broker_postgres::BACKEND,
    broker_rabbitmq::BACKEND,
    broker_redis::BACKEND,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// The same as the fuzz target `url`, with tails that make most of the URLs good ones.
    #[test]
    fn nothing_that_is_shown_depends_on_the_secret(
        (form, scheme) in any::<(u8, u8)>(),
        secret in prop::collection::vec(0..0xff_u8, 0..12),
        tail in prop_oneof![
            Just("host:4222".to_owned()),
            Just("host/2?prefix=x&heartbeat=soon".to_owned()),
            Just("a,b?tmeout=5s".to_owned()),
            Just("/run/redis.sock".to_owned()),
            "[a-z0-9:/?#@,&=%.\\[\\]]{0,12}",
        ],
    ) {
        let bytes = [&[form, scheme], &secret[..], &[0xff], tail.as_bytes()].concat();
        secret_url::check(&bytes, BACKENDS);
    }
}

/// The lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&lines).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A listener that reads what a client says, answers it with all of that, as servers quote what they refuse, and
/// hangs up. What it has read is kept.
fn quoting(answer: &'static str) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&received);
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut said = vec![0; 4096];
            if answer.starts_with("INFO") {
                let _ = socket.write_all(answer.as_bytes());
            }
            let read = socket.read(&mut said).unwrap_or(0);
            keep.lock().unwrap().extend(&said[..read]);
            let quoted = String::from_utf8_lossy(&said[..read]).replace(['\r', '\n'], " ");
            let _ = write!(socket, "-ERR '{quoted}'\r\n");
        }
    });
    (port, received)
}

const INFO: &str = concat!(
    r#"INFO {"server_id":"x","server_name":"x","version":"2.10.0","go":"x","host":"h","port":1,"headers":true,"#,
    r#""auth_required":true,"max_payload":1048576,"proto":1,"client_id":1}"#,
    "\r\n"
);

/// Passwords as hosting services make them, at servers that quote them.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_sent_unchanged_or_refused_and_never_shown() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For every thread: some drivers have threads of their own.
    tracing_subscriber::util::SubscriberInitExt::init(subscriber);
    let words =
        ["abc+def==", "s3kr/t", "s3kr#t", "s3kr?t", "s3kr@t", "s3kr%t", "123/s3kr", "123?s3kr", "123#s3kr"];
    for word in words {
        let mut sent = 0;
        for (before, answer) in [
            ("redis://ada:", ""),
            ("redis://:", ""),
            ("redis://", ""),
            ("nats://ada:", INFO),
            ("nats://", INFO),
            ("amqp://ada:", ""),
        ] {
            let (port, received) = quoting(answer);
            let url = format!("{before}{word}@127.0.0.1:{port}");
            let mut options = Options::default();
            options.connect_timeout = Duration::from_secs(20);
            let error = broker::connect_with(&url, options).await.expect_err("no such server");
            let mut shown = log.take();
            secret_url::add(&mut shown, &error);
            shown.push_str(&secret_url::shown(&url, BACKENDS));
            for piece in ["s3kr", "abc+def", "123/", "123?", "123#"] {
                let line = shown.lines().find(|line| line.contains(piece));
                assert!(line.is_none(), "{url} shows {piece}: {line:?}");
            }
            let received = String::from_utf8_lossy(&received.lock().unwrap()).into_owned();
            let can_hold = !word.contains(['/', '?', '#']);
            if !can_hold {
                assert!(error.message().contains("%2F"), "{url}: {error}");
                assert_eq!(received, "", "{url}");
            }
            sent += usize::from(received.contains(word));
        }
        // AMQP has nothing to send before the server has spoken.
        assert_eq!(sent, if word.contains(['/', '?', '#']) { 0 } else { 5 }, "{word}");
    }
}
