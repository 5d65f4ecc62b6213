//! Core.

mod channel;
pub mod driver;
mod error;
mod headers;
mod link;
mod model;
mod node;
mod options;
mod scope;
mod url;

pub use channel::ChannelName;
pub use error::{Error, ErrorKind, Result};
pub use headers::Headers;
pub use model::{Codec, Model};
pub use node::{MessageId, NodeId};
pub use options::Options;
pub use scope::Scope;
pub use url::BrokerUrl;
