//! The chat example as a user runs it: as processes that meet on the in-process bus, or on a real Redis or PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::LazyLock,
    time::Duration,
};

use broker_conformance::required;
use integration_tests::{
    example,
    servers::{
        Server,
        postgres::{self, config::PostgresConfig, process::PostgresServer},
        redis::{
            config::RedisConfig,
            process::{RedisServer, available},
        },
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(60);

static CHAT: LazyLock<PathBuf> = LazyLock::new(|| example::build("chat").unwrap());

/// A server, or `None` where there is no program and nobody insists on one.
async fn redis(config: RedisConfig) -> Option<RedisServer> {
    if let Err(reason) = available() {
        assert!(!required("redis"), "{reason}");
        eprintln!("ignored: {reason}");
        return None;
    }
    Some(RedisServer::start(config).await.unwrap())
}

/// A server of each backend on which the chat is tested, as far as there are any.
async fn servers() -> Vec<Box<dyn Server>> {
    let mut servers: Vec<Box<dyn Server>> = Vec::new();
    if let Some(server) = redis(RedisConfig::default()).await {
        servers.push(Box::new(server));
    }
    match postgres::process::available() {
        Ok(()) => servers
            .push(Box::new(PostgresServer::start(PostgresConfig::default().keeps_port()).await.unwrap())),
        Err(reason) => assert!(!required("postgres"), "{reason}"),
    }
    servers
}

/// A chat process. Dropping it kills the process.
struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    output: UnboundedReceiver<String>,
    errors: UnboundedReceiver<String>,
    /// What it printed so far.
    received: Vec<String>,
    /// What it wrote to standard error so far.
    notes: Vec<String>,
}

impl Chat {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(&*CHAT);
        command.args(args).env_remove("RUST_LOG").kill_on_drop(true);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), lines(child.stdout.take().unwrap()));
        let errors = lines(child.stderr.take().unwrap());
        Self { child, input, output, errors, received: Vec::new(), notes: Vec::new() }
    }

    async fn say(&mut self, text: impl AsRef<[u8]>) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(text.as_ref()).await.unwrap();
        input.write_all(b"\n").await.unwrap();
    }

    /// Waits until it prints such a line, or has.
    async fn receives(&mut self, what: &str, such: impl Fn(&str) -> bool + Sync + Send) {
        let found = await_line(&mut self.output, &mut self.received, &such).await;
        assert!(found, "not received: {what}; the last: {:?}; {:?}", self.received.last(), self.notes);
    }

    async fn prints_line(&mut self, line: &str) {
        self.receives(line, |received| received == line).await;
    }

    async fn prints_gap(&mut self) {
        self.receives("a gap", |received| received.starts_with('!')).await;
    }

    /// Waits until it writes such a line to standard error, or has.
    async fn notes(&mut self, part: &str) {
        let found = await_line(&mut self.errors, &mut self.notes, &|note: &str| note.contains(part)).await;
        assert!(found, "not noted: {part}; but: {:?}", self.notes);
    }

    /// Ends the input, waits for the end of the program, and reads the rest.
    async fn leave(&mut self) -> ExitStatus {
        self.input = None;
        self.ended().await
    }

    async fn ended(&mut self) -> ExitStatus {
        let status = timeout(LIMIT, self.child.wait()).await.expect("it ends").unwrap();
        await_line(&mut self.output, &mut self.received, &|_: &str| false).await;
        await_line(&mut self.errors, &mut self.notes, &|_: &str| false).await;
        status
    }

    /// The numbers that somebody said, as they were received.
    fn numbers_of(&self, name: &str) -> Vec<u32> {
        let of = |line: &String| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok();
        self.received.iter().filter_map(of).collect()
    }

    /// In order, none twice; and where some are missing, there stands a gap.
    fn assert_that_holes_are_reported(&self) {
        let mut last: HashMap<&str, u32> = HashMap::new();
        let mut reported: Vec<&str> = Vec::new();
        for line in &self.received {
            if line.starts_with('!') {
                reported = last.keys().copied().collect();
            }
            let Some((name, Ok(number))) = line.split_once(": ").map(|(name, text)| (name, text.parse()))
            else {
                continue;
            };
            let before = last.insert(name, number).unwrap_or_default();
            assert!(number > before, "{line} after {before}");
            assert!(number == before + 1 || reported.contains(&name), "{line} after {before}, and no gap");
            reported.retain(|other| *other != name);
        }
    }
}

fn lines(from: impl AsyncRead + Send + Unpin + 'static) -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Whether such a line is among those seen, or comes within the limit and before the end.
async fn await_line(
    from: &mut UnboundedReceiver<String>,
    seen: &mut Vec<String>,
    such: &(impl Fn(&str) -> bool + Sync),
) -> bool {
    let search = async {
        if seen.iter().any(|line| such(line)) {
            return true;
        }
        while let Some(line) = from.recv().await {
            let found = such(&line);
            seen.push(line);
            if found {
                return true;
            }
        }
        false
    };
    timeout(LIMIT, search).await.unwrap_or(false)
}

/// Two who know that both are in the room.
async fn two_in_a_room(url: &str) -> (Chat, Chat) {
    let mut ada = Chat::start(&[url, "--name", "ada"]);
    let mut bob = Chat::start(&[url, "--name", "bob"]);
    // Whoever receives an own line is in the room; what is said from then on, both receive.
    for (chat, own) in [(&mut ada, "ada: hello"), (&mut bob, "bob: hello")] {
        chat.say("hello").await;
        chat.prints_line(own).await;
    }
    for (chat, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
        chat.say("again").await;
        chat.prints_line(&format!("{name}: again")).await;
    }
    ada.prints_line("bob: again").await;
    bob.prints_line("ada: again").await;
    (ada, bob)
}

#[tokio::test]
async fn without_arguments_each_line_reaches_two_sessions() {
    let mut chat = Chat::start(&[]);
    chat.say("a").await;
    chat.say("b").await;
    assert!(chat.leave().await.success(), "{:?}", chat.notes);
    chat.received.sort(); // order holds within each of the two
    assert_eq!(chat.received, ["guest: a", "guest: a", "guest: b", "guest: b"]);
}

#[tokio::test]
async fn invalid_bytes_are_escaped_and_an_oversized_line_is_reported() {
    let mut chat = Chat::start(&["memory:", "--room", "attic", "--name", "Zoë"]);
    chat.say(b"\xFF\x1B[2Jab\tc\r").await;
    chat.say(vec![b'x'; 600_000]).await;
    chat.say("").await;
    assert!(chat.leave().await.success(), "{:?}", chat.notes);
    chat.received.sort();
    chat.received.dedup();
    assert_eq!(chat.received, ["Zoë: ", "Zoë: \u{fffd}\u{fffd}[2Jab\tc"]);
    assert!(chat.notes.iter().any(|note| note.contains("too large")), "{:?}", chat.notes);
}

#[tokio::test]
async fn a_thousand_lines_each_way_arrive_in_order() {
    for server in servers().await {
        let (mut ada, mut bob) = two_in_a_room(&server.url_at(server.addr())).await;
        for number in 1..=1000 {
            ada.say(number.to_string()).await;
            bob.say(number.to_string()).await;
        }
        for chat in [&mut ada, &mut bob] {
            chat.prints_line("ada: 1000").await;
            chat.prints_line("bob: 1000").await;
            assert!(chat.leave().await.success(), "{:?}", chat.notes);
            for name in ["ada", "bob"] {
                assert!(chat.numbers_of(name).into_iter().eq(1..=1000), "{name} was not received in order");
            }
        }
        // These servers have one order for all.
        let after_hello = |chat: &Chat| chat.received.iter().rev().take(2000).cloned().collect::<Vec<_>>();
        assert_eq!(after_hello(&ada), after_hello(&bob), "{server:?}");
    }
}

#[tokio::test]
async fn a_restarted_server_is_a_gap_and_the_chat_goes_on() {
    for server in servers().await {
        let (mut ada, mut bob) = two_in_a_room(&server.url_at(server.addr())).await;
        for number in 1..=1000 {
            ada.say(number.to_string()).await;
            bob.say(number.to_string()).await;
        }
        ada.prints_line("bob: 200").await;
        bob.prints_line("ada: 200").await;
        server.kill().await.unwrap();
        server.start_again().await.unwrap();

        for chat in [&mut ada, &mut bob] {
            chat.prints_gap().await;
        }
        ada.say("after").await;
        bob.say("after").await;
        for chat in [&mut ada, &mut bob] {
            chat.prints_line("ada: after").await;
            chat.prints_line("bob: after").await;
            assert!(chat.leave().await.success(), "{:?}", chat.notes);
            chat.assert_that_holes_are_reported();
        }
    }
}

#[tokio::test]
async fn a_line_said_while_the_server_is_away_waits_for_it() {
    let Some(server) = redis(RedisConfig::default()).await else { return };
    let mut ada = Chat::start(&[&server.url_at(server.addr()), "--name", "ada"]);
    ada.say("hello").await;
    ada.prints_line("ada: hello").await;
    server.kill().await.unwrap();
    ada.notes("the link is down").await;
    ada.say("meanwhile").await;
    ada.notes("waits to be sent: `meanwhile`").await;
    server.start_again().await.unwrap();
    assert!(ada.leave().await.success(), "{:?}", ada.notes);
    let [hello, gap, meanwhile] = &ada.received[..] else { panic!("{:?}", ada.received) };
    assert!(
        hello == "ada: hello" && gap.starts_with('!') && meanwhile == "ada: meanwhile",
        "{:?}",
        ada.received
    );
}

#[tokio::test]
async fn with_stay_it_runs_until_its_output_closes() {
    let Some(server) = redis(RedisConfig::default()).await else { return };
    let url = server.url_at(server.addr());
    let mut ada = Chat::start(&[&url, "--name", "ada", "--stay"]);
    ada.say("hello").await;
    ada.prints_line("ada: hello").await;
    ada.input = None;

    let mut bob = Chat::start(&[&url, "--name", "bob"]);
    bob.say("are you there?").await;
    ada.prints_line("bob: are you there?").await;
    // Its reading task, and the pipe with it, goes with the next line; then ada prints in vain.
    ada.output.close();
    let gone = async {
        while ada.child.try_wait().unwrap().is_none() {
            bob.say("and now?").await;
            bob.output.recv().await;
        }
    };
    timeout(LIMIT, gone).await.expect("ada ends");
    assert!(ada.ended().await.success(), "{:?}", ada.notes);
    assert!(bob.leave().await.success(), "{:?}", bob.notes);
}

#[tokio::test]
async fn an_unusable_url_exits_with_status_1() {
    let fails = async |args: &[&str], why: &str| {
        let mut chat = Chat::start(args);
        assert_eq!(chat.ended().await.code(), Some(1), "{args:?}");
        let notes = chat.notes.join("\n");
        assert!(notes.contains(why) && !notes.contains("s3cret"), "{args:?}: {notes}");
        assert_eq!(chat.received, [""; 0], "{args:?}");
    };
    fails(&["redis"], "no scheme").await;
    fails(&["gopher://:s3cret@localhost"], "`gopher` is unknown").await;
    fails(&["memory:", "--room", "two words"], "white space").await;
    let Some(server) = redis(RedisConfig::default().password("other")).await else { return };
    fails(&[&format!("redis://:s3cret@{}", server.addr())], "wrong password").await;
    server.kill().await.unwrap();
    fails(&[&format!("redis://:s3cret@{}", server.addr())], "unavailable").await;
}
