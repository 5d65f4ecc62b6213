//! `broker sub`: prints what arrives on channels, until it is stopped.

use std::process::ExitCode;

use broker::Event;
use clap::Args;
use futures_util::{StreamExt, future::try_join_all, stream::select_all};

use crate::{Console, Outcome, hidden::Hidden, show};

/// Print the messages of channels, one per line, until Ctrl-C
///
/// A gap is printed where messages are missing. A note on standard error confirms the subscription.
#[derive(Args, Debug)]
pub(crate) struct Sub {
    /// The backend, as in redis://localhost
    url: Hidden,
    /// The channels
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
    /// Print each message as a JSON object with all its metadata
    #[arg(long)]
    json: bool,
    /// Show the headers too
    #[arg(long)]
    headers: bool,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

impl Sub {
    pub(crate) async fn run(self, console: &mut Console) -> Outcome {
        let broker = broker::connect(&self.url).await?;
        let open = try_join_all(self.channels.iter().map(|channel| broker.subscribe(channel))).await?;
        let named = open.into_iter().map(|subscription| {
            let channel = subscription.channel().clone();
            subscription.map(move |event| (channel.clone(), event)).boxed()
        });
        let mut events = select_all(named);
        let backend = broker.backend().unwrap_or("no backend");
        console.note(format!("subscribed to {} on {backend}", self.channels.join(", "))).await;
        let mut left = self.count;
        while left != Some(0) {
            let next = tokio::select! {
                next = events.next() => next,
                _ = tokio::signal::ctrl_c() => break,
            };
            let Some((channel, event)) = next else { return Err("the broker is closed".into()) };
            if matches!(event, Event::Message(_)) {
                left = left.map(|left| left - 1);
            }
            let line = if self.json {
                show::json(channel.as_str(), &event)
            } else {
                show::pretty(channel.as_str(), &event, self.headers)
            };
            console.say(line).await?;
        }
        drop(events);
        broker.close().await;
        Ok(ExitCode::SUCCESS)
    }
}
