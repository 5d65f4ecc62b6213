//! `broker pub … | broker sub …` on every backend: the same output, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{process::Stdio, time::Duration};

use broker::Reach;
use broker_cli::{Cli, Console, run};
use broker_conformance::{Entry, required};
use clap::Parser;
use integration_tests::harness::ENTRIES;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, duplex},
    process::Command,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(60);
/// What is piped in, a message each, and what can be wrong with a line on the way.
const LINES: &str = "plain\n{\"number\":7}\n\nümlaut and 日本\na\x1b[2Jb\n";

fn sub(url: &str) -> Vec<String> {
    ["sub", url, "news", "--headers", "--count", "5"].map(str::to_owned).to_vec()
}

fn publish(url: &str) -> Vec<String> {
    ["pub", url, "news", "--header", "trace=7"].map(str::to_owned).to_vec()
}

/// Two processes.
async fn piped(url: &str) -> String {
    let program = env!("CARGO_BIN_EXE_broker");
    let mut command = Command::new(program);
    command.args(sub(url)).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut listening = command.spawn().unwrap();
    let mut notes = BufReader::new(listening.stderr.take().unwrap()).lines();
    let note = notes.next_line().await.unwrap().unwrap();
    assert!(note.starts_with("subscribed to news on "), "{note}");
    let mut command = Command::new(program);
    command.args(publish(url)).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut posting = command.spawn().unwrap();
    posting.stdin.take().unwrap().write_all(LINES.as_bytes()).await.unwrap();
    let posted = posting.wait_with_output().await.unwrap();
    let said = String::from_utf8(posted.stderr).unwrap();
    assert!(posted.status.success() && said.contains("5 messages published"), "{said}");
    let received = listening.wait_with_output().await.unwrap();
    assert!(received.status.success());
    String::from_utf8(received.stdout).unwrap()
}

/// Two commands in this process, which is as far as `memory:` reaches.
async fn in_one_process(url: &str) -> String {
    let parse = |arguments: Vec<String>| {
        Cli::try_parse_from([vec!["broker".to_owned()], arguments].concat()).unwrap()
    };
    let ((output, mut printed), (notes, noted)) = (duplex(1 << 16), duplex(1 << 16));
    let listening = tokio::spawn(run(parse(sub(url)), Console::new(tokio::io::empty(), output, notes)));
    let note = BufReader::new(noted).lines().next_line().await.unwrap().unwrap();
    assert!(note.starts_with("subscribed to news on "), "{note}");
    let console = Console::new(LINES.as_bytes(), tokio::io::sink(), tokio::io::sink());
    run(parse(publish(url)), console).await.unwrap();
    listening.await.unwrap().unwrap();
    let mut text = String::new();
    printed.read_to_string(&mut text).await.unwrap();
    text
}

async fn output_on(entry: &Entry) -> Option<String> {
    if let Err(reason) = (entry.available)().await {
        assert!(!required(entry.name()), "{}: {reason}", entry.name());
        eprintln!("{} is left out: {reason}", entry.name());
        return None;
    }
    let cluster = (entry.start)(&[]).await.unwrap();
    let url = cluster.url();
    let printed = if entry.capabilities.reach == Reach::Cluster {
        timeout(LIMIT, piped(&url)).await
    } else {
        timeout(LIMIT, in_one_process(&url)).await
    };
    drop(cluster);
    (entry.end)();
    Some(printed.expect("it ends"))
}

#[tokio::test(flavor = "multi_thread")]
async fn published_lines_are_printed_unchanged_on_every_backend() {
    let expected = "news  trace=7  plain\nnews  trace=7  {\"number\":7}\nnews  trace=7  \n\
                    news  trace=7  ümlaut and 日本\nnews  trace=7  a\\u{1b}[2Jb\n";
    for entry in ENTRIES {
        if let Some(printed) = output_on(entry).await {
            assert_eq!(printed, expected, "on {}", entry.name());
        }
    }
    integration_tests::servers::end();
}

async fn failure(arguments: &[&str], input: &'static [u8]) -> String {
    let cli = Cli::try_parse_from(["broker"].iter().chain(arguments)).unwrap();
    run(cli, Console::new(input, tokio::io::sink(), tokio::io::sink())).await.unwrap_err().to_string()
}

#[tokio::test]
async fn bad_input_is_named_with_its_line() {
    let typed = ["pub", "memory:", "news", "--type", "tick"];
    let error = failure(&typed, b"{}\n{\n").await;
    assert!(error.starts_with("line 2: not valid JSON"), "{error}");
    let error = failure(&["pub", "memory:?max_payload=8", "news"], b"short\nlonger than that\n").await;
    assert!(error.starts_with("line 2:") && error.contains("max_payload"), "{error}");
    let error = failure(&["pub", "memory:", "no space"], b"x\n").await;
    assert!(error.contains("white space"), "{error}");
    let error = failure(&["sub", "gopher://localhost", "news"], b"").await;
    assert!(error.contains("gopher"), "{error}");
    let error = Cli::try_parse_from(["broker", "pub", "memory:", "news", "--header", "trace"]).unwrap_err();
    assert!(error.to_string().contains("NAME=VALUE"), "{error}");
}

#[tokio::test]
async fn a_closed_output_ends_the_command_without_an_error() {
    let ((output, printed), (notes, noted)) = (duplex(16), duplex(1 << 16));
    let cli = Cli::try_parse_from(["broker", "sub", "memory://closing", "news"]).unwrap();
    let listening = tokio::spawn(run(cli, Console::new(tokio::io::empty(), output, notes)));
    BufReader::new(noted).lines().next_line().await.unwrap().unwrap();
    drop(printed);
    let cli = Cli::try_parse_from(["broker", "pub", "memory://closing", "news", "x"]).unwrap();
    run(cli, Console::new(tokio::io::empty(), tokio::io::sink(), tokio::io::sink())).await.unwrap();
    timeout(LIMIT, listening).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn completions_and_manual_pages_are_generated() {
    for (arguments, part) in [
        (&["completions", "bash"][..], "_broker"),
        (&["completions", "fish"], "complete -c broker"),
        (&["man"], ".TH broker 1"),
        (&["man", "doctor"], "broker\\-doctor"),
    ] {
        let (output, mut printed) = duplex(1 << 20);
        let cli = Cli::try_parse_from(["broker"].iter().chain(arguments)).unwrap();
        run(cli, Console::new(tokio::io::empty(), output, tokio::io::sink())).await.unwrap();
        let mut text = String::new();
        printed.read_to_string(&mut text).await.unwrap();
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
    assert!(failure(&["man", "nothing"], b"").await.contains("nothing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_load_draws_the_latencies() {
    let (output, mut printed) = duplex(1 << 20);
    let cli =
        Cli::try_parse_from(["broker", "bench", "memory:", "--seconds", "1", "--callers", "4"]).unwrap();
    run(cli, Console::new(tokio::io::empty(), output, tokio::io::sink())).await.unwrap();
    let mut text = String::new();
    printed.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("messages/s of 64 bytes, 4 callers") && text.contains('█'), "{text}");
    // In one second a thousand and more are received, and not all in the same.
    assert!(!text.contains(" 0 µs longest"), "{text}");
}
