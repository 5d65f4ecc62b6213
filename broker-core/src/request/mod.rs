//! Request and reply: a message that is answered by responders of its channel, on a channel of the requester's node.
//!
//! A request is a post with a number. Each node has one channel for replies, which is subscribed at its first request
//! through the backend; a reader of that channel hands each reply to the call that waits under its number. A reply to a
//! local request is handed over by the responder.

mod answer;
mod error;
mod options;
mod outcome;
mod reader;
pub(crate) mod replies;
mod reply_fn;
mod stream;
#[cfg(test)]
mod tests;
mod waiting;

pub use self::{
    error::RequestError,
    options::RequestOptions,
    reply_fn::{IntoReply, ReplyFn},
    stream::ReplyStream,
};
pub(crate) use error::refusal;
pub(crate) use reader::ReplyReader;
