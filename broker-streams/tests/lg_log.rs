//! What is logged of a client's key: nothing. Alone in its program, since what is logged is a matter of the whole program.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use crate::server::{Test, say, sign_in};

#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "lg/server.rs"]
mod server;
#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "support/mod.rs"]
mod support;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_key_is_never_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(move || writer.clone());
    let guard = tracing::subscriber::set_default(subscriber.finish());
    let test = Test::start().await;
    let mut raw = test.connect("zyzzyva-key").await;
    sign_in(&mut raw, Some("zyzzyva-other")).await;
    say(&mut raw, "test", "zyzzyva-message").await;
    say(&mut raw, "test", "fail").await;
    raw.text(r#"{"command":"zyzzyva"}"#).await;
    assert!(raw.closed().await.is_some());
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("it failed"), "{log}");
    assert!(!log.contains("zyzzyva"), "{log}");
}
