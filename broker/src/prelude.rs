//! What a file that posts and receives typed messages needs: `use broker::prelude::*;`.
//!
//! Short, and without names that other crates use for something else (`Error`, `Result`, `Event`, `Message`,
//! `Options`): import those by name, or write `broker::Error`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
//! use broker::prelude::*;
//!
//! #[derive(serde::Serialize, serde::Deserialize, Model)]
//! struct PixelAdded { index: u32 }
//!
//! async fn draw(session: &Session) -> Result<MessageStream<PixelAdded>, broker::Error> {
//!     let pixels = session.create_stream("pixel-added").await?;
//!     session.post_message("pixel-added", PixelAdded { index: 17 }, Scope::Global).await?;
//!     Ok(pixels)
//! }
//!
//! let broker: Broker = broker::connect("memory:").await?;
//! let item: Option<StreamItem<PixelAdded>> = draw(&broker.session()).await?.next().await;
//! # assert!(item.is_some() || item.is_none());
//! # Ok(()) }
//! ```

pub use crate::{Broker, Channel, MessageStream, Model, Received, Scope, Session, StreamError, StreamItem};
