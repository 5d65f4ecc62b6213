//! The frame of a post by whoever is no node.

use bytes::Bytes;

use crate::{MessageId, NodeId, Options, Post, Result, wire::frame};

/// A frame without numbers, with a random id: for a program that is no node and puts a message on a channel by its own
/// means, such as a connection to the server, or a transaction of a database. `docs/wire-format.md` says how nodes take it: it
/// is delivered like any other, and no loss of it is detected. On a channel that begins with `$` nobody takes it.
///
/// The name on the wire begins with the [prefix](Options::prefix) of those who are to receive it.
///
/// # Errors
/// [`TooLarge`](crate::ErrorKind::TooLarge) and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a post beyond the limits
/// of these options.
pub fn unnumbered_frame(post: Post, options: &Options) -> Result<Bytes> {
    post.check(options)?;
    let id = MessageId { origin: NodeId::random(), number: NodeId::random().as_u64() };
    Ok(frame::encode_unnumbered(post, id))
}
