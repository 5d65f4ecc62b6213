//! Outgoing: one frame, and the channel it goes to.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ChannelName;

/// One frame on its way out: opaque bytes, never empty, at most [`MAX_FRAME`](crate::driver::MAX_FRAME) long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// The channel's name on the wire: the prefix is already in it.
    pub channel: ChannelName,
    head: Bytes,
    /// What follows the head: a long payload, as its caller gave it. Empty for most.
    tail: Bytes,
}

impl Outgoing {
    pub(crate) fn new(channel: ChannelName, frame: Bytes) -> Self {
        Self { channel, head: frame, tail: Bytes::new() }
    }

    pub(super) fn in_two(channel: ChannelName, head: Bytes, tail: Bytes) -> Self {
        Self { channel, head, tail }
    }

    /// The frame. That of a long payload is copied for this: a client that can write two parts, one after the other, takes
    /// [`parts`](Self::parts).
    #[must_use]
    pub fn frame(&self) -> Bytes {
        if self.tail.is_empty() {
            return self.head.clone();
        }
        let mut frame = BytesMut::with_capacity(self.size());
        self.parts().into_iter().for_each(|part| frame.put_slice(part));
        frame.freeze()
    }

    /// The two parts that make up the frame. The second one is empty for most.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head, &self.tail]
    }

    /// How many bytes the frame has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// The first part, which says what the whole is.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use super::super::{encoded::Encoded, frame, frame::SequenceHeader};
    use super::*;
    use crate::{NodeId, Post};

    #[test]
    fn a_frame_in_two_parts_is_the_frame_and_its_long_payload_is_not_copied() {
        for length in [1, 4095, 4096, 4097, 100_000] {
            let (post, origin) = (Post::new(vec![7; length]).with_header("a", "b"), NodeId::from_u64(1));
            let header = SequenceHeader { number: 1, epoch: 2, sequence: 3 };
            let mut whole = frame::encode(&post, origin);
            frame::write_header(&mut whole, header);
            let encoded = Encoded::of(&post, origin);
            assert_eq!(encoded.size(), whole.len());
            let outgoing = encoded.numbered(header, ChannelName::internal("news"));
            assert_eq!(outgoing.frame(), whole, "{length}");
            assert_eq!(outgoing.parts().concat(), whole, "{length}");
            assert_eq!(outgoing.size(), whole.len());
            let is_shared = outgoing.parts()[1].as_ptr() == post.payload.as_ptr();
            assert_eq!(is_shared, length >= 4096, "{length}");
        }
    }
}
