//! Pair: two processes over one Redis, of which one posts and the other hears; beside pairs of other programs that do the same.
//!
//! Every program says `ready`. The one that posts begins with a line of its input, and the one that hears says `done` at the
//! last message. `cargo xtask bench --peers` installs what `bench/peers` needs.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use broker::{Broker, Event, Options, Scope};
use bytes::Bytes;
use futures_util::{StreamExt, future::try_join_all};
use redis::AsyncConnectionConfig;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    Outcome,
    report::{Report, Row},
    rounds::{Round, Scale, alternate},
    servers::started,
};

/// The first argument of the processes that are ours, and that are the raw client.
pub(crate) const PAIR: &str = "pair-for-the-benchmark";
/// How long a round may take.
const LIMIT: Duration = Duration::from_secs(120);
const CHANNEL: &str = "pair";
/// How many of ours, or of the raw client, post at once. The others have as many under way.
const CALLERS: usize = 256;

/// A program that ours is held beside.
struct Peer {
    /// As in the name of the scenario.
    name: &'static str,
    /// The program, what it runs, and the variable that it needs.
    program: PathBuf,
    script: Option<PathBuf>,
    variable: Option<(&'static str, PathBuf)>,
    /// What it takes when it is the benchmark itself.
    words: &'static [&'static str],
    messages: usize,
}

fn peers() -> Outcome<Vec<Peer>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let (installed, scripts) = (root.join("target/peers"), root.join("bench/peers"));
    let modules = installed.join("node/node_modules");
    Ok(vec![
        Peer { name: "the raw client", words: &[PAIR, "raw"], ..ours(200_000)? },
        Peer {
            name: "Socket.IO's Redis adapter",
            program: "node".into(),
            script: Some(scripts.join("socketio.js")),
            variable: Some(("NODE_PATH", modules)),
            words: &[],
            messages: 100_000,
        },
        Peer {
            name: "channels_redis",
            program: installed.join("python/bin/python"),
            script: Some(scripts.join("channels.py")),
            variable: None,
            words: &[],
            messages: 20_000,
        },
    ])
}

fn ours(messages: usize) -> Outcome<Peer> {
    let program = env::current_exe()?;
    Ok(Peer { name: "ours", program, script: None, variable: None, words: &[PAIR, "ours"], messages })
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let mut server = None;
    for peer in peers()? {
        let name = format!("two processes over redis, 64 B, beside {}", peer.name);
        if !report.starts(&name) {
            continue;
        }
        if let Some(reason) = peer.missing().await {
            eprintln!("{name} is left out: {reason}; `cargo xtask bench --peers` installs it");
            continue;
        }
        if server.is_none() {
            server = started("redis", &[]).await?;
        }
        let Some(server) = &server else { return Ok(()) };
        let url = server.url();
        let url = url.split('?').next().unwrap_or_default();
        let ours = ours(scale.of(200_000, CALLERS))?;
        let peer = Peer { messages: scale.of(peer.messages, CALLERS), ..peer };
        let pairs = alternate(scale, async || ours.round(url).await, async || peer.round(url).await).await?;
        let notes = format!("{} / {} messages a round", ours.messages, peer.messages);
        report.add(Row::rates(name, "messages/s", peer.name, &pairs).notes(notes));
    }
    Ok(())
}

impl Peer {
    /// Why it cannot run, if it cannot.
    async fn missing(&self) -> Option<String> {
        let absent = |path: &PathBuf| !path.exists();
        if let Some(path) = self.variable.as_ref().map(|(_, path)| path).filter(|path| absent(path)) {
            return Some(format!("there is no {}", path.display()));
        }
        let tried = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output().await;
        tried.err().map(|error| format!("{}: {error}", self.program.display()))
    }

    /// From the signal to begin until the last message is received.
    async fn round(&self, url: &str) -> Outcome<Round> {
        let mut hearing = self.start("hear", url)?;
        hearing.says("ready").await?;
        let mut posting = self.start("post", url)?;
        posting.says("ready").await?;
        let work = async {
            posting.input.write_all(b"go\n").await?;
            hearing.says("done").await
        };
        Round::time(self.messages, work).await
    }

    fn start(&self, role: &str, url: &str) -> Outcome<Process> {
        let mut command = Command::new(&self.program);
        command.args(self.words).args(&self.script).args([role, url, &self.messages.to_string()]);
        command.envs(self.variable.iter().map(|(name, path)| (name, path)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Process { name: self.name, input, output, _child: child })
    }
}

/// One of two. It ends with this.
struct Process {
    name: &'static str,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Process {
    async fn says(&mut self, word: &str) -> Outcome {
        let line = timeout(LIMIT, self.output.next_line()).await;
        match line.map_err(|_| format!("{}: no `{word}` within {LIMIT:?}", self.name))?? {
            Some(said) if said == word => Ok(()),
            said => Err(format!("{}: {said:?} instead of `{word}`", self.name).into()),
        }
    }
}

/// One of the two processes, as its arguments say.
pub(crate) async fn process(words: &[String]) -> Outcome {
    let [kind, role, url, count] = words else { return Err("for the benchmark alone".into()) };
    let count: usize = count.parse()?;
    match (&**kind, &**role) {
        ("ours", "hear") => hear(url, count).await?,
        ("ours", _) => post(url, count).await?,
        (_, "hear") => hear_raw(url, count).await?,
        _ => post_raw(url, count).await?,
    }
    // Until nobody needs it any more.
    stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

fn say(word: &str) {
    println!("{word}");
}

async fn begin() -> Outcome {
    say("ready");
    BufReader::with_capacity(1, stdin()).read_line(&mut String::new()).await?;
    Ok(())
}

async fn hear(url: &str, count: usize) -> Outcome {
    let mut options = Options::default();
    // As in the scenarios within one process: nothing may be lost.
    (options.queue_capacity, options.queue_bytes) = (1 << 19, 0);
    let node = broker::connect_with(url, options).await?;
    let mut subscription = node.subscribe(CHANNEL).await?;
    say("ready");
    for _ in 0..count {
        match subscription.next().await {
            Some(Event::Message(_)) => {}
            other => return Err(format!("instead of a message: {other:?}").into()),
        }
    }
    say("done");
    Ok(())
}

async fn post(url: &str, count: usize) -> Outcome {
    let node: Broker = broker::connect(url).await?;
    begin().await?;
    callers(count, move || {
        let node = node.clone();
        async move {
            node.publish(CHANNEL, Bytes::from_static(&[b'x'; 64]), Scope::Global).await?;
            Ok(())
        }
    })
    .await
}

async fn hear_raw(url: &str, count: usize) -> Outcome {
    let mut listener = redis::Client::open(url)?.get_async_pubsub().await?;
    listener.subscribe(CHANNEL).await?;
    say("ready");
    let mut messages = listener.on_message();
    for _ in 0..count {
        messages.next().await.ok_or("the connection has ended")?;
    }
    say("done");
    Ok(())
}

async fn post_raw(url: &str, count: usize) -> Outcome {
    let settings = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(url)?;
    let connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
    begin().await?;
    callers(count, move || {
        let mut connection = connection.clone();
        async move {
            let mut command = redis::cmd("PUBLISH");
            command.arg(CHANNEL).arg(&[b'x'; 64][..]);
            Ok(command.query_async(&mut connection).await?)
        }
    })
    .await
}

/// So many callers share the posts.
async fn callers<F: Future<Output = Outcome> + Send + 'static>(
    count: usize,
    post: impl Fn() -> F + Clone + Send + 'static,
) -> Outcome {
    let posting = (0..CALLERS).map(|_| {
        let post = post.clone();
        tokio::spawn(async move {
            for _ in 0..count / CALLERS {
                post().await?;
            }
            Outcome::Ok(())
        })
    });
    try_join_all(posting).await?.into_iter().collect()
}
