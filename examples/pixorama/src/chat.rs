//! Chat: the streaming method `chat.room`, in which people who are signed in talk, on whatever servers.

use std::{
    fmt,
    time::{Duration, Instant},
};

use broker::{Model, Scope};
use broker_streams::{Args, Call, Endpoint, Failure, Fault, Incoming, InputError, Out, Who, method};
use serde::{Deserialize, Serialize};

use crate::limits::Budget;

/// The longest text, in characters.
const TEXT: usize = 200;
/// Texts of one call, a second and at once. More of them wait in the client.
const RATE: (f64, f64) = (2.0, 10.0);
const PAUSE: Duration = Duration::from_millis(250);

/// For users who are signed in. When one signs out everywhere, exactly that user's calls end.
pub(crate) fn endpoint() -> Endpoint {
    Endpoint::new("chat").requires_login().method("room", method(room).inputs(["outgoing"]).resumable())
}

#[derive(Debug, Deserialize)]
struct Room {
    room: String,
}

/// What a client says.
#[derive(Clone, Debug, Serialize, Deserialize, Model)]
struct Say {
    text: String,
}

/// What everybody in the room hears, who has said it included.
#[derive(Clone, Debug, Serialize, Deserialize, Model)]
struct Said {
    name: String,
    text: String,
}

/// Why the call ends.
#[derive(Debug, Serialize, Deserialize, Fault)]
enum ChatFault {
    NoSuchRoom {},
    NotSaid { why: String },
}

impl ChatFault {
    fn not_said(why: &str) -> Self {
        Self::NotSaid { why: why.to_owned() }
    }
}

impl fmt::Display for ChatFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchRoom {} => f.write_str("there is no such room"),
            Self::NotSaid { why } => write!(f, "not said: {why}"),
        }
    }
}

impl std::error::Error for ChatFault {}

async fn room(
    call: Call,
    Who(who): Who,
    Args(Room { room }): Args<Room>,
    outgoing: Incoming<Say>,
    out: Out<Said>,
) -> Result<(), Failure> {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if room.is_empty() || room.len() > 32 || !room.chars().all(known) {
        return Err(ChatFault::NoSuchRoom {}.into());
    }
    let channel = format!("pixorama.chat.{room}");
    let heard = call.session().create_stream::<Said>(&channel).await?;
    // When the client says no more, it still hears.
    tokio::try_join!(out.relay(heard), speak(&call, who.user(), &channel, outgoing))?;
    Ok(())
}

/// Posts what the client says. A client that says too much waits: nothing is taken from its stream meanwhile.
async fn speak(call: &Call, name: &str, channel: &str, mut outgoing: Incoming<Say>) -> Result<(), Failure> {
    let mut budget = Budget::new(RATE.0, RATE.1, Instant::now());
    while let Some(say) = outgoing.next().await {
        let text = match say {
            Ok(Say { text }) => text.trim().to_owned(),
            Err(InputError::Unreadable(_)) => return Err(ChatFault::not_said("it is not understood").into()),
            Err(_) => return Ok(()),
        };
        if text.is_empty() || text.chars().count() > TEXT || text.chars().any(char::is_control) {
            return Err(ChatFault::not_said("a text has 1 to 200 characters").into());
        }
        while !budget.take(Instant::now()) {
            tokio::time::sleep(PAUSE).await;
        }
        let said = Said { name: name.to_owned(), text };
        if let Err(error) = call.session().post_message(channel, said, Scope::Global).await {
            return Err(ChatFault::not_said(error.public_message()).into());
        }
    }
    Ok(())
}
