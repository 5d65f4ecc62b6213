//! Instructions: the hot paths, each run a known number of times on one thread, for callgrind to count.
//!
//! `cargo xtask bench --instructions` runs it below valgrind, and compares with `bench/instructions.toml`. Without an argument
//! it prints the names of the scenarios; with one of them it runs that, and prints how many messages were counted.

mod arriving;
mod echo;
mod local;
mod peers;

use std::{env, error::Error, pin::Pin, time::Duration};

use broker::Options;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

/// Whatever can go wrong here ends the program with a sentence.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many messages are counted, and how many before that let everything grow to its size.
const MESSAGES: usize = 2048;

/// What typed posts carry. Nothing in it is allocated.
#[derive(Clone, Debug, Serialize, Deserialize, broker::Model)]
#[model(name = "tick")]
struct Tick {
    number: u64,
    bid: f64,
    ask: f64,
}

const TICK: Tick = Tick { number: 7, bid: 1.25, ask: 1.5 };

fn payload() -> Bytes {
    Bytes::from_static(&[b'x'; 64])
}

/// A path, and what runs it.
type Scenario = (&'static str, fn(&Runtime) -> Outcome);

const SCENARIOS: [Scenario; 22] = [
    ("local post by name, read by 1", |runtime| local::by_name(runtime, 1)),
    ("local post by name, read by 64", |runtime| local::by_name(runtime, 64)),
    ("local post by handle, read by 1", |runtime| local::by_handle(runtime, 1)),
    ("local post by handle, read by 10", |runtime| local::by_handle(runtime, 10)),
    ("local post by handle, read by 10, beside one that never reads", local::beside_one_that_never_reads),
    ("local post by handle, read by 64", |runtime| local::by_handle(runtime, 64)),
    ("local typed post by handle, read by 1", local::typed),
    ("local typed post by handle, to a listener", |runtime| local::listened(runtime, 1)),
    ("local typed post by handle, 16 at a time, to a listener", |runtime| local::listened(runtime, 16)),
    ("local post to each of 2048 channels, read by 1", local::each_of_many),
    ("local subscribe and drop", local::subscribe_and_drop),
    ("global post on memory, one at a time", |runtime| local::global(runtime, 1)),
    ("global post on memory, 64 at once", |runtime| local::global(runtime, 64)),
    ("global post on memory, 64 callers", |runtime| local::callers(runtime, 64)),
    ("arriving frame, read by 1", |runtime| arriving::raw(runtime, 1)),
    ("arriving frame, read by 64", |runtime| arriving::raw(runtime, 64)),
    ("arriving frame, decoded and read by 1", arriving::typed),
    ("stream echo", echo::run),
    ("peer: tokio broadcast, read by 1", |runtime| peers::broadcast(runtime, 1)),
    ("peer: tokio broadcast, read by 10", |runtime| peers::broadcast(runtime, 10)),
    ("peer: a table of broadcast channels of 1, post to each of 2048", peers::each_of_many),
    ("peer: a table of broadcast channels of 1, subscribe and drop", peers::subscribe_and_drop),
];

fn main() -> Outcome {
    let Some(name) = env::args().nth(1) else {
        SCENARIOS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let found = SCENARIOS.iter().find(|(known, _)| *known == name);
    let (_, run) = found.ok_or_else(|| format!("no scenario is called {name:?}"))?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    run(&runtime)?;
    println!("{MESSAGES}");
    Ok(())
}

/// Runs the work twice: once to grow, once to be counted.
fn measure(runtime: &Runtime, mut work: impl AsyncFnMut() -> Outcome) -> Outcome {
    runtime.block_on(work())?;
    let work = std::pin::pin!(work());
    counted(runtime, work)
}

/// By its name callgrind knows when to count.
#[inline(never)]
fn counted(runtime: &Runtime, work: Pin<&mut dyn Future<Output = Outcome>>) -> Outcome {
    runtime.block_on(work)
}

/// Nothing happens by the clock while something is counted.
fn options() -> Options {
    let mut options = Options::default();
    let long = Duration::from_secs(3600);
    (options.heartbeat, options.heartbeat_timeout) = (long, long);
    options
}
