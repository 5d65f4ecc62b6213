//! Encoded: the frame of a post that has no numbers yet.

use bytes::{Bytes, BytesMut};

use super::{
    frame::{self, SequenceHeader},
    outgoing::Outgoing,
};
use crate::{ChannelName, NodeId, Post};

/// From so many bytes on a payload stays where it is, and is sent from there. To copy less costs less than to write it apart.
const LONG: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Encoded {
    head: BytesMut,
    /// The payload, if that is long; empty where the head has it.
    payload: Bytes,
}

impl Encoded {
    /// Encodes a post that has passed [`Post::check`].
    pub(crate) fn of(post: &Post, origin: NodeId) -> Self {
        if post.payload.len() < LONG {
            return Self { head: frame::encode(post, origin), payload: Bytes::new() };
        }
        Self { head: frame::encode_head(post, origin, 0), payload: post.payload.clone() }
    }

    /// How many bytes the frame has.
    pub(crate) fn size(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// Writes the numbers; then it may be sent.
    pub(crate) fn numbered(mut self, header: SequenceHeader, wire_name: ChannelName) -> Outgoing {
        frame::write_header(&mut self.head, header);
        Outgoing::in_two(wire_name, self.head.freeze(), self.payload)
    }
}
