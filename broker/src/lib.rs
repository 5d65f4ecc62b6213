//! Publish, subscribe and revoke with one meaning on every backend, chosen by one URL.
//!
//! **A message posted to a channel reaches every listener on every server, in order, or each listener that may have
//! missed something receives a gap**, on an in-process bus, Redis, NATS,
//! RabbitMQ or PostgreSQL. The semantics follow
//! Serverpod's server events.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
//! use broker::{Model, Scope, StreamError};
//!
//! #[derive(serde::Serialize, serde::Deserialize, Model)]
//! struct PixelAdded { index: u32, colour: u8 }
//!
//! let broker = broker::connect("memory:").await?; // or redis://127.0.0.1/, and nothing else changes
//! let session = broker.session();
//!
//! let mut pixels = session.create_stream::<PixelAdded>("pixel-added").await?;
//! session.post_message("pixel-added", PixelAdded { index: 17, colour: 3 }, Scope::Global).await?;
//!
//! while let Some(item) = pixels.next().await {
//!     match item {
//!         Ok(pixel) => { println!("{} is now {}", pixel.index, pixel.colour); break }
//!         Err(StreamError::Gap(gap)) => println!("read the board anew: {gap}"), // already subscribed again
//!         Err(other) => println!("not a pixel: {other}"),                       // the stream lives on
//!     }
//! }
//! broker.close().await;
//! # Ok(()) }
//! ```
//!
//! A [`Broker`] is the handle of one node. A [`Session`] owns [streams](MessageStream) and listeners, and ends them
//! with itself; a session of an [`Identity`] also ends when that user is [revoked](Session::revoke_authentication),
//! on whatever server. A [`Gap`] stands in a stream where messages may be missing; when it is received, the channel
//! is subscribed again. Every post names its [`Scope`]. [`Broker::health`] reports the state of the receive path.
//!
//! # Backends
//!
//! | feature | scheme | reaches |
//! |---|---|---|
//! | `memory` (default) | `memory:` | every session of this broker |
//! | `memory` (default) | `memory://name` | every broker of that name in the process |
//! | `nats` | `nats://`, `tls://` (encrypted) | every process on that server or its cluster |
//! | `redis` | `redis://`, `redis+unix://` | every process on that server |
//! | `redis` | `redis+sentinel://` | every process at the master that its Sentinels name |
//! | `redis` | `redis+cluster://` | every process on that cluster |
//! | `redis`, `tls` | `rediss://`, `rediss+sentinel://`, `rediss+cluster://` | the same, encrypted |
//! | `postgres` | `postgres://`, `postgresql://` | every process in that database |
//! | `postgres`, `tls` | the same with `?sslmode=verify-full` | the same, encrypted |
//! | `rabbitmq` | `amqp://` | every process on that virtual host |
//! | `rabbitmq`, `tls` | `amqps://` | the same, encrypted |
//!
//! `msgpack` adds MessagePack beside JSON, `metrics` adds counters; `full` is every feature. Limits and times are
//! [`Options`], and can be given in the URL (`?prefix=shop&heartbeat=2s`) or a configuration file ([`Config`]).
//!
//! The [`prelude`] has what most files need. A backend of your own depends on `broker-core`, whose module `driver` is
//! the contract, and starts with [`Broker::connect`].

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backends;
mod config;
pub mod prelude;

// By list: a name here is a promise to users, and `tests/exports.rs` has the list again. What only drivers need stays
// in `broker_core`: its module `driver`, `Backend`, `BrokerUrl`.
pub use broker_core::{
    AsChannel, AsChannelFor, AsChannelName, AuthenticatedAt, Broker, Bytes, Capabilities, Channel,
    ChannelHandle, ChannelName, ChannelSet, CloseReason, Codec, Confirmation, ConnectionState, EnumStream,
    Error, ErrorKind, Event, FailMode, Gap, GapCause, Headers, Health, HealthChanges, HookId, Identity,
    IntoReply, IntoTypedPost, Listener, ListenerEnd, ListenerFn, ListenerId, ListenerItem, Malformed,
    Message, MessageId, MessagePart, MessageStream, Messages, Model, NodeId, Options, OrderGuarantee, Owning,
    PermissionScope, Post, PublishFuture, Raw, Reach, Receipt, Received, ReplyFn, ReplyStream, RequestError,
    RequestOptions, Result, Revocation, RevocationOutcome, Revoked, Scope, Session, SetEvent, StreamError,
    StreamItem, SubscribeOptions, Subscription, TypedPost, Uncertainty,
    driver::{Inspection, Warning},
};
/// An enum for a channel of several types; see the trait of the same name.
pub use broker_macros::Messages;
/// Gives a type its name on the wire; see the trait of the same name.
pub use broker_macros::Model;
pub use config::Config;

use std::env::{self, VarError};

use broker_core::{BrokerUrl, driver::Driver};

/// Connects to the backend a URL names, with the default options.
///
/// Waits for the first link. From then on the broker keeps itself connected.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a URL that is wrong, naming the part and the remedy;
/// [`ErrorKind::Unsupported`] for a backend this build lacks, naming the feature to turn on; or why the
/// first attempt to connect failed, within `connect_timeout` plus the time to subscribe.
pub async fn connect(url: &str) -> Result<Broker> {
    connect_with(url, Options::default()).await
}

/// Connects with options; those in the URL's query win.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// let mut options = broker::Options::default();
/// options.prefix = "shop".to_owned();
/// let broker = broker::connect_with("memory:?queue_capacity=64", options).await?;
/// assert_eq!(broker.options().queue_capacity, 64);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(url: &str, options: Options) -> Result<Broker> {
    let (driver, options) = prepare(url, options)?;
    Broker::connect(driver, options).await
}

/// Makes a broker that connects in the background, for as long as it takes: for a server that must start
/// while its backend is unavailable. Until then local posts work and global ones are
/// [`Unavailable`](ErrorKind::Unavailable); [`Broker::ready`] waits. Does no I/O itself.
///
/// # Errors
/// As [`connect`], but for the connecting.
pub fn open(url: &str, options: Options) -> Result<Broker> {
    let (driver, options) = prepare(url, options)?;
    Broker::start(driver, options)
}

/// Asks the server behind a URL what an operator may want to know: whether its clock is ours, and whether it keeps
/// revocations on a disk. Opens a link for that alone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// let inspection = broker::inspect("memory:", broker::Options::default()).await?;
/// assert_eq!(inspection.log_on_disk, Some(false));
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`connect`], but nothing is subscribed. What the server does not want to say is `None`.
pub async fn inspect(url: &str, options: Options) -> Result<Inspection> {
    let (driver, options) = prepare(url, options)?;
    Inspection::of(&*driver, &options).await
}

/// Connects to the URL in the environment variable `BROKER_URL`. Without it, or with an empty one, to `memory:`, and
/// the log warns: what is posted then reaches no other process.
///
/// # Errors
/// As [`connect`].
pub async fn from_env() -> Result<Broker> {
    match url_of(env::var(URL_VARIABLE))? {
        Some(url) => connect(&url).await,
        None => {
            tracing::warn!(
                "the environment variable {URL_VARIABLE} is not set; messages stay in this process"
            );
            connect("memory:").await
        }
    }
}

/// Connects to the URL in the environment variable `BROKER_URL`, which has to be there: for production.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] without it, or with an empty one; else as [`connect`].
pub async fn from_env_required() -> Result<Broker> {
    let missing = || {
        let message =
            format!("the environment variable {URL_VARIABLE} is not set; set it to the URL of the backend");
        Error::new(ErrorKind::InvalidInput, message)
    };
    connect(&url_of(env::var(URL_VARIABLE))?.ok_or_else(missing)?).await
}

const URL_VARIABLE: &str = "BROKER_URL";

/// The URL in the variable, if it is set.
fn url_of(variable: std::result::Result<String, VarError>) -> Result<Option<String>> {
    match variable {
        Ok(url) => Ok(Some(url).filter(|url| !url.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            let message = format!("the environment variable {URL_VARIABLE} is not UTF-8");
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
    }
}

/// The backends of this build. For the command of this project, which shows what they are.
#[doc(hidden)]
#[must_use]
pub fn backends() -> &'static [broker_core::Backend] {
    backends::BACKENDS
}

fn prepare(url: &str, options: Options) -> Result<(std::sync::Arc<dyn Driver>, Options)> {
    let url = BrokerUrl::parse(url)?;
    let options = options.with_url(&url)?;
    options.check()?;
    Ok((backends::open(&url)?, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_an_empty_variable_are_no_url() {
        let text = "memory:".to_owned();
        assert_eq!(url_of(Ok(text.clone())), Ok(Some(text)));
        assert_eq!(url_of(Ok(String::new())), Ok(None));
        assert_eq!(url_of(Err(VarError::NotPresent)), Ok(None));
        let error = url_of(Err(VarError::NotUnicode("x".into()))).expect_err("no text");
        assert!(error.message().contains("BROKER_URL"), "{error}");
    }
}
