//! The contract every backend implements, and everything that backends share.
//!
//! Applications depend on the crate `broker`, which re-exports all of this and connects by URL. Backends
//! depend on this crate alone; [`driver`] is the page to read before writing one.
//!
//! **A message posted to a channel reaches every listener in every server, in order, or the listener is told
//! where messages may be missing.** A revoked [`Identity`] loses its sessions on every server. [`Broker`] is the handle of one node; [`Session`] owns listeners and
//! streams, and ends them with itself; [`Subscription`] is a stream of [`Event`]s, [`MessageStream`] the same
//! as typed values. What is local, global, bounded or told is said at each of them.

mod broker;
mod channel;
pub mod driver;
mod error;
mod event;
mod foreign;
mod frame;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod headers;
mod health;
mod hub;
mod link;
mod listener;
mod message;
mod metrics;
mod model;
mod node;
mod options;
mod own_task;
mod post;
mod received;
mod revocation;
mod runtime;
mod scope;
mod session;
mod stream;
mod subscription;
mod sync;
mod url;

pub use broker::Broker;
pub use channel::ChannelName;
pub use driver::Backend;
pub use error::{Error, ErrorKind, Result};
pub use event::{CloseReason, Event, Gap, GapCause, Malformed, StreamError};
pub use headers::Headers;
pub use health::{Health, HealthChanges, State};
pub use listener::{ListenerId, ListenerItem};
pub use message::Message;
pub use model::{Codec, Model};
pub use node::{MessageId, NodeId};
pub use options::{Options, WhenInDoubt};
pub use post::Post;
pub use received::Received;
pub use revocation::{AuthenticatedAt, Doubt, Identity, Revocation, RevocationOutcome, Revoked};
pub use scope::Scope;
pub use session::{HookId, Session};
pub use stream::{Item, MessageStream};
pub use subscription::Subscription;
pub use url::BrokerUrl;
