//! Typed streams from a server to browsers, apps and other servers, and back, over one WebSocket.
//!
//! A streaming method is a plain async function. Its parameters say what it needs, and what it returns is sent to the
//! client. Every call is a [session](broker_core::Session) of the message broker: what it subscribes ends with it, and
//! when the user signs out, on whatever server, exactly the calls of that user end.
//!
//! ```
//! use broker::Scope;
//! use broker_streams::{Args, Call, Endpoint, Failure, Model, Out, Streams};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize, Model)]
//! struct Said { text: String }
//!
//! #[derive(Deserialize)]
//! struct Room { room: String }
//!
//! async fn listen(call: Call, Args(Room { room }): Args<Room>, out: Out<Said>) -> Result<(), Failure> {
//!     let said = call.session().create_stream::<Said>(&format!("room.{room}")).await?;
//!     out.relay(said).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = broker::connect("memory:").await?;
//! let streams = Streams::builder(broker).endpoint(Endpoint::new("chat").method("listen", listen)).build()?;
//! let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
//! # drop(app);
//! # Ok(()) }
//! ```
//!
//! The protocol is that of Serverpod's streaming methods, byte for byte, so that its clients can call these methods;
//! this project's own clients agree on an extension of it, and have windows, gaps and reasons besides.
//!
//! # Features
//!
//! All are off by default.
//!
//! - `endpoints`: Serverpod's older kind of streams, one connection for all endpoints: `StreamingEndpoint`.
//! - `opentelemetry`: the span of a call continues the trace of its client, if that says which by the extension.
//! - `typescript`: the types of methods and values, written for the TypeScript client: `typescript::Api`.
//! - `metrics`: through the crate of that name, for the recorder that is installed when the server is built:
//!
//! | name | labels | what is counted |
//! |---|---|---|
//! | `broker_streams_sockets` | | sockets that are open |
//! | `broker_streams_calls` | `endpoint`, `method` | calls that are open |
//! | `broker_streams_opens_total` | `res` | opens, by their outcome; `overloaded` and `draining` for those refused untried |
//! | `broker_streams_frames_total` | `dir`, `type` | frames of the sockets; those of streaming endpoints are `message` and `command` |
//! | `broker_streams_bytes_total` | `dir` | their bytes |
//! | `broker_streams_closed_total` | `why` | calls that have ended |
//! | `broker_streams_gaps_total` | | gaps reported to clients |
//! | `broker_streams_parked` | | calls that wait for their clients |
//! | `broker_streams_resumes_total` | `kind` | calls that were resumed exactly (`exact`), not found (`refused`), or opened anew with a position (`cursor`) |
//! | `broker_streams_bad_frames_total` | | texts that were no frames |
//! | `broker_streams_window_wait_seconds` | | a histogram: how long a value has waited because its client was a window behind; values that did not wait are not in it |
//!
//! Labels have nothing that a client has sent: endpoints and methods are those of the server.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod addresses;
mod auth;
mod builder;
mod call;
mod endpoint;
#[cfg(feature = "endpoints")]
mod endpoints;
mod limits;
mod meter;
mod method;
mod origin;
mod park;
mod server;
mod service;
mod socket;
mod streams;
mod trace;
#[cfg(feature = "typescript")]
#[cfg_attr(docsrs, doc(cfg(feature = "typescript")))]
pub mod typescript;
mod upgrade;

pub use broker_macros::{Choice, Fault, Model};
pub use broker_model::{
    BigInt, ByteData, DateTime, Failure, Fault, Milliseconds, Model, Unreadable, Uri, UuidValue, Value, Wire,
};

pub use crate::{
    auth::{Authenticated, Authenticator, Credentials, Scheme},
    builder::{BuildError, StreamsBuilder},
    call::{
        Call,
        incoming::{Incoming, InputError, InputFault},
        out::{Out, SendError},
    },
    endpoint::Endpoint,
    limits::Limits,
    method::{
        IntoMethod, Method,
        extract::{Args, Cursor, FromCall, State, Who},
        handler::Handler,
        method,
        reply::Reply,
    },
    service::StreamsService,
    streams::Streams,
};

#[cfg(feature = "endpoints")]
#[cfg_attr(docsrs, doc(cfg(feature = "endpoints")))]
pub use crate::endpoints::{Any, EndpointsService, Peer, StreamingEndpoint};

/// What the code of derived implementations calls. Not for use by hand; it changes without notice.
#[doc(hidden)]
pub use broker_model::derived;
