//! The task of the endpoints' connection.

use std::{future::poll_fn, ops::ControlFlow, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Utf8Bytes, protocol::frame::coding::CloseCode};

use super::{Command, Control, EndpointMessage, Shared, StreamingStatus};
use crate::{
    CallError,
    socket::{PING, Read, SILENCE, Socket},
};

type Commands = mpsc::Receiver<Command>;

/// Runs until nobody can give a command any more, or, without retries, until the connection is gone.
pub(super) async fn run(shared: Arc<Shared>, mut commands: Commands) {
    let mut ends = Ends { shared: Arc::clone(&shared), why: Some(CallError::Stopped) };
    let mut why = None;
    let mut was_connected = false;
    loop {
        shared.publish(StreamingStatus::Connecting, None);
        let Some(connected) = unless_closed(connect(&shared), &mut commands).await else { break };
        match connected {
            Ok((socket, first)) => {
                shared.publish(StreamingStatus::Connected, None);
                if was_connected {
                    shared.feeds.restarted();
                }
                was_connected = true;
                match serve(&shared, socket, &first, &mut commands).await {
                    ControlFlow::Break(()) => break,
                    ControlFlow::Continue(error) => why = Some(error),
                }
            }
            Err(error) => why = Some(error),
        }
        let Some(every) = shared.retry_every else { break };
        if unless_closed(wait(&shared, every, why.as_ref()), &mut commands).await.is_none() {
            break;
        }
    }
    ends.why = why;
}

/// Says that there is no connection when the task goes, also with its runtime.
struct Ends {
    shared: Arc<Shared>,
    why: Option<CallError>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.shared.publish(StreamingStatus::Disconnected, self.why.take());
    }
}

/// Waits, and says every second how long.
async fn wait(shared: &Shared, every: Duration, why: Option<&CallError>) {
    let mut left = every;
    while !left.is_zero() {
        shared.publish(StreamingStatus::WaitingToRetry { retry_in: left }, why.cloned());
        let step = left.min(Duration::from_secs(1));
        sleep(step).await;
        left -= step;
    }
}

/// A future, unless the client is closed. What was to be sent goes: there is no connection.
async fn unless_closed<T>(future: impl Future<Output = T>, commands: &mut Commands) -> Option<T> {
    let mut future = std::pin::pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return Some(output),
            command = commands.recv() => drop(command?),
        }
    }
}

fn control(command: &str, args: impl serde::Serialize) -> String {
    // Text only: serde can write it.
    serde_json::to_string(&Control { command, args }).unwrap_or_default()
}

#[derive(serde::Serialize)]
struct Nothing {}

#[derive(serde::Serialize)]
struct Key<'a> {
    key: &'a str,
}

/// A connection, and the first that the server has said.
async fn connect(shared: &Shared) -> Result<(Socket, Utf8Bytes), CallError> {
    let key = Arc::clone(&shared.provider).ask().await?;
    let route = shared.route(key.as_deref())?;
    let began = Instant::now();
    let mut socket = route.connect().await?;
    socket.push(control("ping", Nothing {}));
    let first = async {
        loop {
            match socket.exchange().await {
                Read::Text(text) => return Ok(text),
                Read::Control => {}
                Read::Ended => return Err(CallError::ConnectFailed("the server closed the socket".into())),
            }
        }
    };
    let left = route.limit.saturating_sub(began.elapsed());
    let text = timeout(left, first).await.map_err(|_| CallError::ConnectTimedOut)??;
    Ok((socket, text))
}

/// Serves a connection. Breaks when the client was closed; goes on with why the connection is gone.
async fn serve(
    shared: &Shared,
    mut socket: Socket,
    first: &str,
    commands: &mut Commands,
) -> ControlFlow<(), CallError> {
    let (mut heard, mut ping_at) = (Instant::now(), Instant::now() + PING);
    let mut warned = false;
    arrived(shared, &mut socket, first, &mut warned);
    loop {
        let has_room = !socket.is_full();
        tokio::select! {
            read = socket.exchange() => {
                heard = Instant::now();
                match read {
                    Read::Text(text) => arrived(shared, &mut socket, &text, &mut warned),
                    Read::Control => {}
                    Read::Ended => return ControlFlow::Continue(CallError::SocketLost),
                }
            }
            command = commands.recv(), if has_room => match command {
                Some(Command::Send(text)) => socket.push(text),
                Some(Command::Authenticate) => authenticate(shared, &mut socket).await,
                None => {
                    socket.close(CloseCode::Normal).await;
                    return ControlFlow::Break(());
                }
            },
            () = sleep_until(ping_at.min(heard + SILENCE)) => {
                let now = Instant::now();
                if heard + SILENCE <= now {
                    return ControlFlow::Continue(CallError::IdleTimeout);
                }
                if ping_at <= now {
                    ping_at = now + PING;
                    socket.push(control("ping", Nothing {}));
                }
            }
        }
    }
}

/// The provider's answer is waited for: nothing is to be sent before with the old credentials.
async fn authenticate(shared: &Shared, socket: &mut Socket) {
    let mut asked = Arc::clone(&shared.provider).ask();
    let key = poll_fn(|cx| {
        // What waits is written meanwhile.
        let _ = socket.poll_write(cx);
        asked.as_mut().poll(cx)
    });
    if let Ok(Some(key)) = key.await {
        socket.push(control("auth", Key { key: &key }));
    }
}

/// A frame, in whatever order its members come.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(borrow, default)]
    object: Option<Object<'a>>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(rename = "className")]
    class_name: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What is no frame is ignored: the connection is shared by all endpoints.
fn arrived(shared: &Shared, socket: &mut Socket, text: &str, warned: &mut bool) {
    match serde_json::from_str::<Incoming<'_>>(text) {
        Ok(Incoming { command: Some(command), .. }) => {
            if command == "ping" {
                socket.answer(|| r#"{"command":"pong"}"#);
            }
        }
        Ok(Incoming { endpoint: Some(endpoint), object: Some(object), .. }) => {
            let message = EndpointMessage::new(&object.class_name, object.data.get());
            shared.feeds.deliver(&endpoint, &message, shared.max_buffered);
        }
        // Once for a connection: the server says how often.
        _ if std::mem::replace(warned, true) => {}
        _ => tracing::warn!("the server has sent what is no frame"),
    }
}
