//! The swap example on every backend: one program, one line of its configuration changed, the same output.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, process::Stdio, time::Duration};

use broker::{Broker, Options, Reach};
use broker_conformance::{
    Entry, required,
    wait::{collect, fence},
};
use integration_tests::{example, harness::ENTRIES};
use tokio::{process::Command, time::timeout};

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What the program prints when its configuration names `url`.
async fn output(program: &Path, url: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("url = {url:?}\n")).unwrap();
    let mut command = Command::new(program);
    command.arg(file.path()).stdin(Stdio::null()).kill_on_drop(true);
    let run = timeout(LIMIT, command.output()).await.expect("it ends").unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{url}: {}: {errors}", run.status);
    String::from_utf8(run.stdout).unwrap()
}

/// A backend's output; `None` where there is no server and nobody insists on one.
async fn output_on(program: &Path, entry: &Entry) -> Option<String> {
    if let Err(reason) = (entry.available)().await {
        assert!(!required(entry.name()), "{}: {reason}", entry.name());
        eprintln!("{} is left out: {reason}", entry.name());
        return None;
    }
    let cluster = (entry.start)(&[]).await.unwrap();
    let node = broker::connect_with(&cluster.url(), Options::default()).await.unwrap();
    let printed = output_beside(program, &cluster.url(), &node).await;
    node.close().await;
    drop((node, cluster));
    (entry.end)();
    Some(printed)
}

/// The same, while a node of this process listens: it receives the other process, if the driver says that it can.
async fn output_beside(program: &Path, url: &str, node: &Broker) -> String {
    let mut orders = node.subscribe("orders").await.unwrap();
    let printed = output(program, url).await;
    if node.capabilities().unwrap().reach == Reach::Cluster {
        let received = collect(&mut orders, 3).await.unwrap();
        assert!(received[1].contains("pie"), "{received:?}");
    }
    fence(node, &mut orders).await.unwrap();
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_program_prints_the_same_on_every_backend() {
    let program = example::build("swap").unwrap();
    let in_one_process = output(&program, "memory://cafe").await;
    assert!(in_one_process.contains("kitchen: pie for table 7\n"), "{in_one_process}");
    for entry in ENTRIES {
        if let Some(printed) = output_on(&program, entry).await {
            assert_eq!(printed, in_one_process, "on {}", entry.name());
            println!("{}: {} bytes, the same", entry.name(), printed.len());
        }
    }
}
