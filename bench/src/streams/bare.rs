//! Bare: WebSockets of axum, as its users would write what ours are compared with.

use std::sync::Arc;

use axum::{
    Router,
    extract::{State, WebSocketUpgrade, ws::Message},
    response::Response,
    routing::get,
};
use futures_util::{SinkExt, StreamExt};

use super::fan_out::Peers;

/// As axum's documentation shows it.
async fn as_it_comes(upgrade: WebSocketUpgrade) -> Response {
    echo_texts(upgrade)
}

/// With buffers of the size that ours have.
async fn tuned(upgrade: WebSocketUpgrade) -> Response {
    echo_texts(upgrade.read_buffer_size(4 << 10))
}

fn echo_texts(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.next().await {
            if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// A queue for each socket, which is drained into one flush.
async fn queue(State(peers): State<Arc<Peers>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(4 << 10).on_upgrade(async move |mut socket| {
        let mut queue = peers.join();
        while let Some(text) = queue.recv().await {
            let mut next = Some(text);
            while let Some(text) = next {
                if socket.feed(Message::Text(text)).await.is_err() {
                    return;
                }
                next = queue.try_recv().ok();
            }
            if socket.flush().await.is_err() {
                return;
            }
        }
    })
}

pub(crate) fn routes(peers: Arc<Peers>) -> Router {
    Router::new()
        .route("/default", get(as_it_comes))
        .route("/tuned", get(tuned))
        .route("/queue", get(queue))
        .with_state(peers)
}
