//! A chat room on one channel. Its help says how to use it: `cargo run --example chat -- --help`.

use std::{
    error::Error,
    fmt::Display,
    io::{self, BufRead, ErrorKind::BrokenPipe, Write},
    thread,
    time::Duration,
};

use broker::{CloseReason, ErrorKind, MessageStream, Model, Options, Reach, Scope, Session, StreamError};
use clap::Parser;
use tokio::{io::AsyncWriteExt, sync::mpsc, task::JoinSet, time::sleep};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Chat with everyone who is in the same room.
///
/// Each line read is posted to the room. Each line received, your own included, is printed as `name: text`. A
/// line that begins with `!` stands where lines may be missing. All else goes to standard error.
///
/// A line typed while the backend is unavailable waits until it is back. One that was under way when the link broke
/// may have arrived: it is named on standard error and not sent again, so nobody sees a line twice.
///
/// RUST_LOG=info tells more of what the broker does.
#[derive(Parser)]
struct Args {
    /// Where to meet. On `memory:` nobody else can come, so two sessions of this process meet. Others need
    /// their feature: cargo run --features full --example chat -- redis://127.0.0.1:6379 --name ada
    #[arg(default_value = "memory:")]
    url: String,
    /// The name that others see
    #[arg(long, default_value = "guest")]
    name: String,
    /// The room: the channel to post to and to listen to
    #[arg(long, default_value = "chat")]
    room: String,
    /// Go on listening after the end of input, until ctrl-c or until nobody reads standard output any more
    #[arg(long)]
    stay: bool,
}

/// What travels: as JSON, under this name.
#[derive(Clone, Model, serde::Serialize, serde::Deserialize)]
#[model(name = "ChatLine")]
struct Line {
    name: String,
    text: String,
}

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let args = Args::parse();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();

    let mut options = Options::default();
    options.queue_capacity = 16_384; // how many lines a terminal may fall behind before it misses some
    let broker = broker::connect_with(&args.url, options).await?;

    let mut sessions = vec![broker.session()];
    if broker.capabilities().is_some_and(|backend| backend.reach == Reach::Process) {
        note("two sessions in this process: each line arrives once in each, so you see it twice");
        sessions.push(broker.session());
    }
    let mut listening = JoinSet::new();
    for session in &sessions {
        listening.spawn(listen(session.create_stream(&args.room).await?));
    }
    let outcome = tokio::select! {
        spoken = speak(&sessions[0], &args) => spoken,
        // Nobody reads what is printed, or the room was closed to us.
        Some(ended) = listening.join_next() => ended?,
    };
    broker.drain().await; // until everything posted has come back, and is printed
    while let Some(ended) = listening.join_next().await {
        ended??;
    }
    outcome
}

/// Prints what is said in the room, until it is left.
async fn listen(mut room: MessageStream<Line>) -> Outcome {
    let mut output = tokio::io::stdout();
    while let Some(item) = room.next().await {
        let line = match item {
            Ok(line) => format!("{}: {}", line.name, line.text),
            Err(StreamError::Gap(gap)) => format!("! {gap}"), // subscribed again already
            Err(other) => {
                note(other); // no line of a chat; the stream lives on
                continue;
            }
        };
        // One message is one line, and none of them steers the terminal.
        let line = line.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}") + "\n";
        match print(&mut output, &line).await {
            Err(error) if error.kind() == BrokenPipe => return Ok(()),
            printed => printed?,
        }
    }
    match room.close_reason() {
        Some(CloseReason::Refused(error)) => Err(error.clone().into()),
        _ => Ok(()),
    }
}

async fn print(output: &mut tokio::io::Stdout, line: &str) -> io::Result<()> {
    output.write_all(line.as_bytes()).await?;
    output.flush().await
}

/// Posts every line of the input, one after the other, so that they keep their order.
async fn speak(session: &Session, args: &Args) -> Outcome {
    let mut lines = lines_of_input();
    while let Some(line) = lines.recv().await {
        let text = String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned();
        post(session, &args.room, &Line { name: args.name.clone(), text }).await;
    }
    if args.stay { std::future::pending().await } else { Ok(()) }
}

async fn post(session: &Session, room: &str, line: &Line) {
    loop {
        match session.post_message(room, line.clone(), Scope::Global).await {
            Ok(_) => return,
            // Nothing was sent: the same line again, once there is a link.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                note(format_args!("waits to be sent: `{:.40}`: {error}", line.text));
                sleep(Duration::from_millis(100)).await;
                let _ = session.broker().ready().await;
            }
            // Refused for good; or, if interrupted, perhaps sent.
            Err(error) => return note(format_args!("not sent again: `{:.40}`: {error}", line.text)),
        }
    }
}

/// A thread of its own, for nobody can end a read: the program does not wait for it.
fn lines_of_input() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, lines) = mpsc::channel(64);
    thread::spawn(move || io::stdin().lock().split(b'\n').try_for_each(|line| sender.blocking_send(line)));
    lines
}

/// Tells the person at the terminal; standard output is for the chat.
fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "chat: {text}"); // nobody may be reading
}
