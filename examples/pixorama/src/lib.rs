//! Pixorama: a board of 64 × 64 pixels, shared by everyone on every server, and a chat beside it.
//!
//! `board` is what is painted, and how two boards become one. `cluster` keeps this server's board equal to those of
//! the others over the broker. `pixels` and `chat` are the streaming methods that a browser calls, within `limits`;
//! `sign_in` says who calls, and `status` is the line under the board. `files` serves the browser's side, which is in
//! `assets`.

mod board;
mod chat;
mod cluster;
mod files;
mod limits;
mod pixels;
mod sign_in;
mod status;

use std::{future::Future, io, time::Duration};

use broker::Broker;
use broker_streams::Streams;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::limits::Limits;

use crate::{cluster::Cluster, sign_in::Tokens};

/// How long requests have to end when the server stops, and then the calls of browsers.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves the board until `stopped` is done; then drains the streams, and after them the broker.
///
/// # Errors
/// The listener fails, or a limit is one with which nothing could work.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    limits: Limits,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stop = CancellationToken::new();
    let cluster = Cluster::join(broker.clone(), stop.clone());
    let tokens = Tokens::new(broker.clone());
    let streams = Streams::builder(broker.clone())
        .authenticator(tokens.clone())
        .state(pixels::Board::new(cluster, &limits))
        .endpoint(pixels::endpoint())
        .endpoint(chat::endpoint())
        .limits(limits.streams)
        .build()
        .map_err(io::Error::other)?;
    let router = files::routes().merge(tokens.routes()).route_service("/v1/websocket", streams.service());
    let ending = CancellationToken::new();
    let ended = ending.clone();
    let graceful = async move {
        stopped.await;
        ending.cancel();
    };
    let serving = async { axum::serve(listener, router).with_graceful_shutdown(graceful).await };
    let served = tokio::select! {
        served = serving => served,
        () = async { ended.cancelled().await; tokio::time::sleep(GOODBYE).await } => Ok(()),
    };
    streams.drain(GOODBYE).await;
    stop.cancel();
    broker.drain().await;
    served
}
