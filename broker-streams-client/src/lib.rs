//! The Rust client of `broker-streams`: calls with typed streams in both directions over one WebSocket.
//!
//! ```no_run
//! # use broker_streams_client::{Client, CallError, Event};
//! # async fn paint(_: Vec<u8>) {}
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("ws://localhost:8080/v1/websocket")
//!     .credentials(|| async { Some("Bearer a-token".to_owned()) })
//!     .build()?;
//! let mut numbers = client.call("counter", "numbers").resume().open::<i64>().await?.events();
//! while let Some(event) = numbers.next().await {
//!     match event? {
//!         Event::Value(number) => println!("{number}"),
//!         Event::Restarted => println!("what was in between is missing"),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! It works with servers of Serverpod, too. What they do not know is agreed on in the first frames: windows,
//! so that a slow reader holds up its own stream alone; the reason why a call ended; resumption.
//!
//! # Connection
//!
//! All calls of a client share one socket. It is opened by the first call, and closed a second after the last
//! has ended. The client says every 20 seconds that it is there, and gives a socket up on which nothing has
//! arrived for 40. A call without [`resume`](CallBuilder::resume) ends with its socket. For the others the
//! client connects again, after a random time of at most 0.25 seconds, which doubles with each attempt up to
//! 15.
//!
//! # What a server can make it hold
//!
//! | what | limit | then |
//! |---|---|---|
//! | values of a stream that the application does not read | the window of 64, and 1 MiB ([`max_buffered`](ClientBuilder::max_buffered)) | [`CallError::Overflow`] |
//! | a frame | 4 MiB ([`max_frame`](ClientBuilder::max_frame)) | the socket is closed |
//! | calls | 256 ([`max_calls`](ClientBuilder::max_calls)) | [`CallError::TooManyCalls`] |
//! | frames that are not written, because the server does not read | 64 KiB | inputs and new calls wait |
//! | an answer to an opening | 30 seconds | [`CallError::OpenTimedOut`] |

#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod builder;
mod call;
mod calls;
mod client;
mod connection;
mod connector;
mod credentials;
mod dispatch;
#[cfg(feature = "endpoints")]
mod endpoints;
mod error;
mod foreign;
mod inbox;
mod inputs;
mod mailbox;
mod resume;
mod serve;
mod socket;
mod status;
mod stream;
mod timers;
mod window;

/// What travels is written as on the server:
///
/// ```
/// use broker_streams_client::{Choice, Fault, Model};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, Model)]
/// struct Said { text: String }
///
/// #[derive(Choice)]
/// #[choice(crate = "broker_streams_client")] // only where `broker-streams` is among the dependencies, too
/// enum Item { Said(Said), Count(i64) }
///
/// #[derive(Debug, Serialize, Deserialize, Fault)]
/// #[fault(crate = "broker_streams_client")]
/// struct RoomIsFull { seats: u32 }
/// # impl std::fmt::Display for RoomIsFull {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("full") }
/// # }
/// # impl std::error::Error for RoomIsFull {}
/// ```
pub use broker_macros::{Choice, Fault, Model};
pub use broker_model::{
    BigInt, ByteData, DateTime, Failure, Fault, Milliseconds, Model, Unreadable, Uri, UuidValue, Value, Wire,
};
pub use broker_streams_wire::{Again, Cause, OpenResult};

/// What the code of derived implementations calls. Not for use by hand; it changes without notice.
#[doc(hidden)]
pub use broker_model::derived;

#[cfg(feature = "endpoints")]
#[cfg_attr(docsrs, doc(cfg(feature = "endpoints")))]
pub use crate::endpoints::{EndpointMessage, EndpointStream, Endpoints, EndpointsBuilder, StreamingStatus};
pub use crate::{
    builder::{BuildError, ClientBuilder},
    call::CallBuilder,
    client::Client,
    credentials::{Credentials, ProviderError},
    error::{CallError, StreamFault},
    status::{Status, StatusChanges},
    stream::{CallEvents, CallStream, Event, Resumption},
};
