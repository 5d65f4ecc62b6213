//! The message broker in an [axum] service.
//!
//! | for | there is |
//! |---|---|
//! | a typed stream as server-sent events | [`sse`], [`LastEventId`] |
//! | a typed stream over a WebSocket, and messages back | [`WebSocketForward`] |
//! | a session for each request, of the user who is signed in | [`RequestSession`], [`UserSession`] |
//! | errors of the broker as responses | [`HttpError`] |
//! | liveness and readiness | [`probes`], [`livez`], [`readyz`] |
//! | a shutdown in which nothing waits for itself | [`serve`], [`shutdown_signal`] |
//!
//! ```
//! use axum::{Router, extract::State, response::IntoResponse, routing::get};
//! use broker::{Broker, Channel, Model};
//! use broker_axum::{HttpError, RequestSession, probes, serve, sse};
//!
//! #[derive(serde::Serialize, serde::Deserialize, Model)]
//! struct Said { text: String }
//!
//! const ROOM: Channel<Said> = Channel::new("room");
//!
//! async fn room(RequestSession(session): RequestSession) -> Result<impl IntoResponse, HttpError> {
//!     Ok(sse(session.create_stream(ROOM).await?.owning(session)))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = broker::connect("memory:").await?;
//! let app = Router::new().route("/room", get(room)).merge(probes()).with_state(broker.clone());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let shutdown = std::future::ready(());
//! # /*
//! let shutdown = broker_axum::shutdown_signal();
//! # */
//! serve(listener, app, broker).with_graceful_shutdown(shutdown).await?;
//! # Ok(()) }
//! ```
//!
//! The state of the application has to yield a [`Broker`](broker_core::Broker) by
//! [`FromRef`](axum::extract::FromRef); a `Broker` as the state does. The types of the broker are those of the crate
//! `broker-rs`, which exports them from `broker-core`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod connection;
mod error;
mod items;
mod last_event_id;
mod probes;
mod serve;
mod session;
mod source;
mod sse;
mod ws;

pub use crate::{
    error::HttpError,
    last_event_id::LastEventId,
    probes::{livez, probes, readyz},
    serve::{Serve, serve, shutdown_signal},
    session::{RequestSession, UserRejection, UserSession},
    source::{AnyStream, ItemStream},
    sse::{SseEvents, SseResponse, sse},
    ws::{MessageOutcome, WebSocketForward},
};
