//! `broker pub`: publishes an argument, or every line of the input.

use std::process::ExitCode;

use broker::{Broker, Codec, Post, Scope};
use clap::{Args, ValueEnum};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::{Console, Outcome, place::Place};

/// Publish a message, or every line of standard input
///
/// It ends when the backend has taken all of them; the first that fails ends it, and is named.
#[derive(Args, Debug)]
pub(crate) struct Pub {
    /// The backend, as in redis://localhost
    url: Place,
    /// The channel
    channel: String,
    /// The payload; without it every line of standard input is one
    message: Option<String>,
    /// The name of the messages' type
    #[arg(long = "type", value_name = "T")]
    type_name: Option<String>,
    /// How the payloads are encoded already; with a type it is json unless said otherwise
    #[arg(long)]
    codec: Option<Encoded>,
    /// A header, any number of times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encoded {
    Raw,
    Json,
    Msgpack,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is NAME=VALUE, as in trace=7")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Pub {
    pub(crate) async fn run(mut self, console: &mut Console) -> Outcome {
        let broker = broker::connect(&self.url).await?;
        let posted = match self.message.take() {
            Some(message) => self.post(&broker, message.into_bytes()).await.map(|()| 1),
            None => self.lines(&broker, console).await,
        };
        broker.close().await;
        let posted = posted?;
        let s = if posted == 1 { "" } else { "s" };
        console.note(format!("{posted} message{s} published")).await;
        Ok(ExitCode::SUCCESS)
    }

    async fn lines(&self, broker: &Broker, console: &mut Console) -> Outcome<u64> {
        // One byte more than is allowed, and the line ends: what is too long is refused, not collected.
        let most = broker.options().max_payload as u64 + 2;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if (&mut console.input).take(most).read_until(b'\n', &mut line).await? == 0 {
                return Ok(number - 1);
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            self.post(broker, line.clone()).await.map_err(|error| format!("line {number}: {error}"))?;
        }
        unreachable!("more lines than can be counted")
    }

    async fn post(&self, broker: &Broker, payload: Vec<u8>) -> Outcome<()> {
        let codec = match (self.codec, &self.type_name) {
            (Some(Encoded::Json), _) | (None, Some(_)) => Codec::Json,
            (Some(Encoded::Msgpack), _) => Codec::MsgPack,
            (Some(Encoded::Raw), _) | (None, None) => Codec::Raw,
        };
        if codec == Codec::Json {
            let wrong = serde_json::from_slice::<serde_json::Value>(&payload).err();
            if let Some(error) = wrong {
                return Err(format!("not JSON: {error}; say --codec raw if it is not meant to be").into());
            }
        }
        let mut post = match &self.type_name {
            Some(name) => Post::encoded(name.as_str(), codec, payload),
            None => Post::new(payload),
        };
        for (name, value) in &self.headers {
            post = post.with_header(name, value);
        }
        broker.publish(&self.channel, post, Scope::Global).await?;
        Ok(())
    }
}
