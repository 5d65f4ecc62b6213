//! The contract every backend implements, and everything that backends share.
//!
//! Applications depend on `broker` (the package `broker-rs`), which exports what users need from here and connects by
//! URL. Backends depend on this crate alone; [`driver`] is the page to read before writing one.
//!
//! **A message posted to a channel reaches every listener on every server, in order, or each listener that may have
//! missed something receives a gap.** A revoked [`Identity`] loses its sessions on every server. [`Broker`] is the
//! handle of one node; [`Session`] owns listeners and streams, and ends them with itself; [`Subscription`] is a
//! stream of [`Event`]s, [`MessageStream`] the same as typed values. The documentation of each states what is local
//! or global, what is bounded, and what is reported.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod broker;
mod channel;
mod config;
pub mod driver;
mod error;
mod event;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod hub;
mod loss;
mod message;
mod metrics;
mod request;
mod revocation;
mod runtime;
mod session;
mod subscription;
mod supervisor;
mod trace;
mod wire;

#[doc(inline)]
pub use broker_model::Model;
/// The bytes of a payload.
pub use bytes::Bytes;

pub use broker::{Broker, ChannelHandle, PublishFuture};
pub use channel::{AsChannel, AsChannelFor, AsChannelName, Channel, ChannelName};
pub use config::{BrokerUrl, FailMode, Options};
pub use driver::{Backend, Capabilities, Confirmation, OrderGuarantee, PermissionScope, Reach, Receipt};
pub use error::{Error, ErrorKind, Result};
pub use event::{CloseReason, Event, Gap, GapCause, StreamError};
pub use health::{ConnectionState, Health, HealthChanges};
pub use message::{
    Codec, Headers, IntoTypedPost, Malformed, Message, MessageId, NodeId, Post, Raw, Received, Scope,
    TypedPost,
};
pub use request::{IntoReply, ReplyFn, ReplyStream, RequestError, RequestOptions};
pub use revocation::{AuthenticatedAt, Identity, Revocation, RevocationOutcome, Revoked, Uncertainty};
pub use session::{
    ChannelSet, HookId, Listener, ListenerEnd, ListenerFn, ListenerId, ListenerItem, Session, SetEvent,
};
pub use subscription::{
    EnumStream, MessagePart, MessageStream, Messages, Owning, StreamItem, SubscribeOptions, Subscription,
};
