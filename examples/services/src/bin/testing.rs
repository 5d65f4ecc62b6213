//! How a program of your own is tested: on `memory:`, which behaves as a backend does, with several servers in one process,
//! and with a link that is lost.
//!
//! The program shows the score of a game: it follows a channel, and reads the score anew where something may be missing.

use std::error::Error;

use broker::{Channel, MessageStream, Model, StreamError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

#[derive(Debug, PartialEq, Serialize, Deserialize, Model)]
struct Score {
    points: u32,
}

const SCORES: Channel<Score> = Channel::new("scores");

/// Shows the score as long as the stream lives. Takes a stream, and not a broker: a test makes one as it likes.
async fn show(
    mut scores: MessageStream<Score>,
    read_anew: impl Fn() -> u32 + Send,
    shown: watch::Sender<u32>,
) {
    while let Some(item) = scores.next().await {
        match item {
            Ok(score) => drop(shown.send_replace(score.points)),
            Err(StreamError::Gap(_)) => drop(shown.send_replace(read_anew())),
            Err(other) => eprintln!("no score: {other}"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = broker::from_env().await?;
    let (shown, mut score) = watch::channel(0);
    // It would ask the table that has the score.
    tokio::spawn(show(broker.create_stream(SCORES).await?, || 0, shown));
    while score.changed().await.is_ok() {
        println!("{}", *score.borrow_and_update());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use broker::{Broker, Scope};
    use broker_memory::Bus;
    use services::within_a_minute;

    use super::*;

    /// A server that shows the score, and what it shows.
    async fn server(url: &str, in_the_table: u32) -> (Broker, watch::Receiver<u32>) {
        let broker = broker::connect(url).await.unwrap();
        let (shown, score) = watch::channel(0);
        tokio::spawn(show(broker.create_stream(SCORES).await.unwrap(), move || in_the_table, shown));
        (broker, score)
    }

    async fn post(broker: &Broker, points: u32) {
        broker.post_message(SCORES, Score { points }, Scope::Global).await.unwrap();
    }

    /// Waits for a condition, never for a time.
    async fn shows(score: &mut watch::Receiver<u32>, points: u32) {
        score.wait_for(|shown| *shown == points).await.unwrap();
    }

    #[tokio::test]
    async fn a_score_is_shown() {
        within_a_minute(async {
            let (broker, mut score) = server("memory:", 0).await;
            post(&broker, 7).await;
            shows(&mut score, 7).await;
        })
        .await;
    }

    /// Brokers of one name are servers of one backend. Each test has a name of its own.
    #[tokio::test]
    async fn a_score_is_shown_on_every_server() {
        within_a_minute(async {
            let (one, _) = server("memory://scores", 0).await;
            let (_other, mut score) = server("memory://scores", 0).await;
            post(&one, 7).await;
            shows(&mut score, 7).await;
        })
        .await;
    }

    /// The line of one server is cut: it misses a score, and is told so when the line is back.
    #[tokio::test]
    async fn a_score_that_was_missed_is_read_anew() {
        within_a_minute(async {
            let (one, _) = server("memory://missed", 0).await;
            let (other, mut score) = server("memory://missed?line=other", 8).await;
            let line = Bus::named("missed").line("other");
            line.cut();
            while other.health().is_connected() {
                tokio::task::yield_now().await;
            }
            post(&one, 8).await;
            line.heal();
            shows(&mut score, 8).await;
            post(&one, 9).await;
            shows(&mut score, 9).await;
        })
        .await;
    }

    /// A stream that nobody reads for a while has a gap, of exactly what is missing.
    #[tokio::test]
    async fn a_program_that_was_too_slow_reads_anew() {
        within_a_minute(async {
            let broker = broker::connect("memory:?queue_capacity=16").await.unwrap();
            let scores = broker.create_stream(SCORES).await.unwrap();
            for points in 0..40 {
                post(&broker, points).await;
            }
            broker.post_message(SCORES, Score { points: 7 }, Scope::Local).await.unwrap();
            let (shown, mut score) = watch::channel(0);
            let (read, mut reads) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(show(scores, move || read.send(()).map_or(0, |()| 0), shown));
            shows(&mut score, 7).await;
            reads.recv().await.unwrap();
        })
        .await;
    }
}
