//! A server with methods of every shape, for tests of clients in other languages: `clients/typescript/test/server`.
//!
//! ```text
//! streams-test-server [ADDRESS] [--no-authenticator]
//! ```
//!
//! It prints its address, and ends when its standard input does, so that it never outlives the test that has started it.

mod calls;
mod control;
mod endpoints;
mod long;
mod tokens;
mod types;

use std::{
    env,
    error::Error,
    io::{Read, Write, stdin, stdout},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::serve::ListenerExt;
use broker_streams::{Failure, Streams};
use tokio::{net::TcpListener, sync::oneshot};

/// What no client may see: a part of the text of every error here.
const MARKER: &str = "the password of the data base";

/// An error that is not for the client.
fn secret() -> Failure {
    Failure::internal(MARKER)
}

/// What has happened, in order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Notes that it was dropped.
struct Noted(Notes, String);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.add(&self.1);
    }
}

/// The server, for the methods that stop it. It is there before the first call.
#[derive(Clone, Default)]
struct Itself(Arc<OnceLock<Streams>>);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let address = arguments.iter().find(|argument| !argument.starts_with("--"));
    let address = address.map_or("127.0.0.1:0", String::as_str);
    let (notes, itself) = (Notes::default(), Itself::default());
    let broker = broker::connect("memory:").await?;
    let mut builder = Streams::builder(broker.clone())
        .state(notes.clone())
        .state(itself.clone())
        .state(broker)
        .endpoint(control::endpoint())
        .endpoint(long::endpoint("long"));
    builder = builder.endpoint(calls::open());
    for endpoint in types::endpoints().into_iter().chain(endpoints::all(&notes)) {
        builder = builder.endpoint(endpoint);
    }
    if !arguments.iter().any(|argument| argument == "--no-authenticator") {
        builder = builder.authenticator(tokens::Tokens(notes));
        // Methods that nobody could call are refused when the server is built.
        for endpoint in calls::of_users() {
            builder = builder.endpoint(endpoint);
        }
    }
    let streams = builder.build()?;
    itself.0.set(streams.clone()).map_err(|_| "there are two servers")?;
    let listener = TcpListener::bind(address).await?;
    writeln!(stdout(), "{}", listener.local_addr()?)?;
    // Without it a small frame may wait for 40 ms.
    let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
    let app = axum::Router::<()>::new()
        .route_service("/v1/websocket", streams.service())
        .route_service("/websocket", streams.endpoints_service());
    let over = input_is_over();
    let stopped = async move {
        let _ = over.await;
        streams.drain(Duration::from_millis(500)).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    Ok(())
}

/// When nobody is left who could write to the standard input.
fn input_is_over() -> oneshot::Receiver<()> {
    let (told, over) = oneshot::channel();
    // A thread, as a runtime waits for its own when it ends.
    std::thread::spawn(move || {
        let _ = stdin().read_to_end(&mut Vec::new());
        let _ = told.send(());
    });
    over
}
