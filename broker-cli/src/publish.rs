//! `broker pub`: publishes an argument, or every line of the input.

use std::process::ExitCode;

use broker::{Broker, Codec, Post, Scope};
use clap::{Args, ValueEnum};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::{Console, Outcome, hidden::Hidden};

/// Publish a message, or every line of standard input
///
/// The command ends when the backend has accepted all messages, or at the first that fails, whose line it names.
#[derive(Args, Debug)]
pub(crate) struct Pub {
    /// The backend, as in redis://localhost
    url: Hidden,
    /// The channel
    channel: String,
    /// The payload; without it, each line of standard input is a message
    message: Option<String>,
    /// The type name of the messages
    #[arg(long = "type", value_name = "T")]
    type_name: Option<String>,
    /// The encoding of the given payloads; with --type the default is json
    #[arg(long)]
    codec: Option<Encoded>,
    /// A header; can be repeated
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
        unreachable!("the line numbers are infinite")
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
                return Err(format!("not valid JSON: {error}; give --codec raw for raw bytes").into());
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
