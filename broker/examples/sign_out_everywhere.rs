//! Sign out everywhere: a user is signed in on two servers, and signed out by a third while the second is cut off.
//! Prints who knew what, and when: `cargo run --features full --example sign_out_everywhere -- --help`.

use std::{
    error::Error,
    fmt::Display,
    io::{self, Write},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use broker::{Broker, Identity, Options, Revocation};
use broker_core::BrokerUrl;
use clap::{Parser, Subcommand};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

/// Ada is signed in on two servers. A third process signs her out everywhere, while the wire of the second server is
/// cut. The first closes her session at once; the second as soon as its wire is mended, from the backend's log.
///
/// Each server is a process of its own, started by this one. The wire is a relay that this one can cut.
#[derive(Parser)]
struct Args {
    /// The backend, unencrypted and without a second host: redis://…, nats://… (with JetStream), amqp://…
    #[arg(default_value = "redis://127.0.0.1:6379")]
    url: String,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a process that this one starts is to be.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    /// A server: keeps ada's session
    Serve,
    /// Signs ada out
    SignOut,
}

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Outcome {
    match args.role {
        None => {
            // Before three processes each say the same.
            reach(&args.url).await?;
            direct(&args.url).await
        }
        Some(Role::Serve) => serve(&connect(&args.url).await?).await,
        Some(Role::SignOut) => sign_out(&connect(&args.url).await?).await,
    }
}

/// Whether the backend is there.
async fn reach(url: &str) -> Outcome {
    match connect(url).await {
        Ok(broker) => {
            broker.close().await;
            Ok(())
        }
        Err(error) => Err(format!(
            "{error}\n\nThe processes of this example meet at a server. Start one, for instance with `redis-server`, \
             and run the example again; or give the URL of another: nats://… (with JetStream) or amqp://…"
        )
        .into()),
    }
}

async fn connect(url: &str) -> broker::Result<Broker> {
    let mut options = Options::default();
    options.heartbeat = Duration::from_millis(500);
    options.backoff_max = Duration::from_millis(200);
    broker::connect_with(url, options).await
}

/// One of the servers: says what happens to ada, until its input ends.
async fn serve(broker: &Broker) -> Outcome {
    let until_stopped = async {
        let _ = tokio::io::stdin().read(&mut [0]).await;
    };
    tokio::select! {
        ended = keep_ada(broker) => ended?,
        () = watch_the_link(broker) => {}
        () = until_stopped => {}
    }
    broker.close().await;
    Ok(())
}

async fn keep_ada(broker: &Broker) -> Outcome {
    // Before her token is looked at; a real server would look at it now.
    let began = Instant::now();
    let session = broker.session_for(Identity::new("ada", began)).await?;
    say("ada is signed in");
    let why = session.closed().await;
    say(format!("ada's session is over: {why}"));
    // Somebody else of her devices was just being let in, when it happened.
    match broker.session_for(Identity::new("ada", began)).await {
        Ok(_) => say("a check from before was let in"),
        Err(error) => say(format!("a check from before is refused: {}", error.kind())),
    }
    let _again = broker.session_for(Identity::new("ada", Instant::now())).await?;
    say("ada has signed in again");
    std::future::pending().await
}

async fn watch_the_link(broker: &Broker) {
    let mut connected = true;
    loop {
        sleep(Duration::from_millis(5)).await;
        if broker.health().is_connected() != connected {
            connected = !connected;
            say(if connected { "connected again" } else { "cut off from the backend" });
        }
    }
}

async fn sign_out(broker: &Broker) -> Outcome {
    let outcome = broker.revoke(Revocation::user("ada")).await?;
    say(format!("ada is signed out everywhere: {outcome:?}"));
    broker.close().await;
    Ok(())
}

fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    // Nobody reads any more when the director is gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Starts the processes, cuts and mends the wire, and prints the time line.
async fn direct(url: &str) -> Outcome {
    let parsed = BrokerUrl::parse(url)?;
    let host = parsed.host().ok_or(
        "the url names no host: processes cannot meet at `memory:`; give redis://…, nats://… or amqp://…",
    )?;
    let port = parsed.port().ok_or("the url names no port: write it, as in redis://127.0.0.1:6379")?;
    let address = format!("{host}:{port}");
    let wire = Wire::start(address.clone()).await?;
    let mut line = TimeLine::new();

    let _one = line.start("server one", &["serve"], url)?;
    let _two = line.start("server two", &["serve"], &url.replacen(&address, &wire.address, 1))?;
    line.until("server one", "ada is signed in").await?;
    line.until("server two", "ada is signed in").await?;

    line.note("the wire", "of server two is cut");
    wire.cut.send_replace(true);
    line.until("server two", "cut off").await?;

    let _three = line.start("server three", &["sign-out"], url)?;
    line.until("server three", "everywhere").await?;
    line.until("server one", "signed in again").await?;

    line.note("the wire", "of server two is mended");
    wire.cut.send_replace(false);
    line.until("server two", "signed in again").await?;
    line.note("the end", "no revoked sign-in is left");
    Ok(())
}

/// What the processes say, in the order in which it is received.
struct TimeLine {
    began: Instant,
    say: mpsc::UnboundedSender<(&'static str, String)>,
    said: mpsc::UnboundedReceiver<(&'static str, String)>,
    /// What was printed already, to be looked for.
    printed: Vec<(&'static str, String)>,
}

impl TimeLine {
    fn new() -> Self {
        let (say, said) = mpsc::unbounded_channel();
        Self { began: Instant::now(), say, said, printed: Vec::new() }
    }

    /// Starts a process; it ends when it is dropped.
    fn start(&self, name: &'static str, role: &[&str], url: &str) -> Outcome<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(url).args(role).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("a process without output")?;
        tokio::spawn(listen(name, out, self.say.clone()));
        Ok(child)
    }

    fn note(&mut self, who: &'static str, what: &str) {
        println!("{:>7.3} s  {who:<12}  {what}", self.began.elapsed().as_secs_f64());
        self.printed.push((who, what.to_owned()));
    }

    /// Prints what is said until one of them has said this.
    async fn until(&mut self, who: &str, what: &str) -> Outcome {
        let wanted = |(name, text): &(&str, String)| *name == who && text.contains(what);
        while !self.printed.iter().any(wanted) {
            let said = timeout(Duration::from_secs(30), self.said.recv()).await;
            let said = said.map_err(|_| format!("{who} has not said `{what}` within 30 s"))?;
            let (name, text) = said.ok_or("nobody is left to say anything")?;
            self.note(name, &text);
        }
        self.printed.retain(|said| !wanted(said));
        Ok(())
    }
}

async fn listen(name: &'static str, out: ChildStdout, say: mpsc::UnboundedSender<(&'static str, String)>) {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let _ = say.send((name, text));
    }
}

/// A relay before the backend, for one server.
struct Wire {
    address: String,
    cut: watch::Sender<bool>,
}

impl Wire {
    async fn start(backend: String) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (cut, watching) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(relay(near, backend.clone(), watching.clone()));
            }
        });
        Ok(Self { address, cut })
    }
}

/// Carries one connection until an end closes it, or the wire is cut.
async fn relay(mut near: TcpStream, backend: String, mut cut: watch::Receiver<bool>) {
    if let Ok(mut far) = TcpStream::connect(backend).await {
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            _ = cut.wait_for(|cut| *cut) => {}
        }
    }
}
