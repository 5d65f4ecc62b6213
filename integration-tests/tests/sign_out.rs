//! The example `sign_out_everywhere` on every backend that reaches other processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, process::Stdio, time::Duration};

use broker::Reach;
use broker_conformance::{Entry, required};
use integration_tests::{example, harness::ENTRIES};
use tokio::{process::Command, time::timeout};

/// What has to be printed, in this order; other lines may stand between.
const TIME_LINE: [&str; 9] = [
    "server two    ada is signed in",
    "the wire      of server two is cut",
    "server two    cut off from the backend",
    "server three  ada is signed out everywhere: Logged",
    "the wire      of server two is mended",
    "server two    ada's session is over: revoked: every authentication of the user",
    "server two    a check from before is refused: revoked",
    "server two    ada has signed in again",
    "the end       no revoked sign-in is left",
];

async fn time_line(program: &Path, url: &str) -> String {
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).kill_on_drop(true);
    let run = timeout(Duration::from_secs(90), command.output()).await.expect("it ends").unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    let printed = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{url}: {}: {errors}\n{printed}", run.status);
    printed
}

async fn on(program: &Path, entry: &Entry) {
    if let Err(reason) = (entry.available)().await {
        assert!(!required(entry.name()), "{}: {reason}", entry.name());
        eprintln!("{} is left out: {reason}", entry.name());
        return;
    }
    let cluster = (entry.start)(&[]).await.unwrap();
    let printed = time_line(program, &cluster.url()).await;
    println!("on {}:\n{printed}", entry.name());
    let mut lines = printed.lines();
    for expected in TIME_LINE {
        assert!(
            lines.any(|line| line.ends_with(expected)),
            "`{expected}` is missing, or out of order:\n{printed}"
        );
    }
    let before = printed.split("is mended").next().unwrap();
    assert!(before.contains("server one    ada's session is over"), "the first server waited:\n{printed}");
    drop(cluster);
    (entry.end)();
}

/// What it says when it fails.
async fn refusal(program: &Path, url: &str) -> String {
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).kill_on_drop(true);
    let run = timeout(Duration::from_secs(90), command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success() && run.stdout.is_empty(), "{url}: {}: {said}", run.status);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_it_names_the_remedy() {
    let program = example::build("sign_out_everywhere").unwrap();
    // A port that nobody listens to.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = refusal(&program, &format!("redis://somebody:s3cret@127.0.0.1:{port}")).await;
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("Start one"), "{said}");
    assert!(said.contains("`redis-server`") && said.contains("nats://"), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("Error"), "{said}");
    let said = refusal(&program, "memory:").await;
    assert!(said.contains("give redis://"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_line_is_the_same_on_every_backend() {
    let program = example::build("sign_out_everywhere").unwrap();
    for entry in ENTRIES.iter().filter(|entry| entry.capabilities.reach == Reach::Cluster) {
        on(&program, entry).await;
    }
}
