//! Digest: what a node says it has posted, so that others notice what is missing where no later message shows it; and
//! the question for one. The bytes are specified in docs/wire-format.md; [`digest_sender`](crate::loss::digest_sender) sends
//! a digest, [`digest_receiver`](crate::loss::digest_receiver) receives it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The messages that a node says it has posted on a channel between two of its digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) channel: ChannelName,
    pub(crate) epoch: u32,
    /// The sequence number of the first.
    pub(crate) first: u64,
    /// The sequence number of the last.
    pub(crate) last: u64,
}

use crate::{
    ChannelName, Malformed, NodeId, Post,
    wire::{
        frame::{self, MAX_SEQUENCE, SequenceHeader},
        names::is_reply_channel,
    },
};

/// How long the payload of one digest gets; more spans go into a further one.
pub(crate) const MAX_BYTES: usize = 32 << 10;
/// How many questions one round answers; who gets no answer asks again.
pub(crate) const MAX_ANSWERS: usize = 64;
/// After, begin, next, the number of answers.
const HEAD: usize = 8 + 8 + 4 + 1;
/// Epoch, first, last, length of the name.
const FIXED: usize = 4 + 8 + 8 + 1;

/// One digest of a round, as it is on the wire. Its number is in the frame's stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    /// The number of the last digest that the backend has confirmed before this round: whoever has not received it
    /// has missed something.
    pub(crate) after: u64,
    /// The number of the first digest of this round.
    pub(crate) begin: u64,
    /// Within how many milliseconds the next round follows, if there is something to report; 0: none, the node closes.
    pub(crate) next: u32,
    /// The questions that arrived before this round was made. Only in its first digest.
    pub(crate) answers: Vec<u64>,
    pub(crate) spans: Vec<Span>,
}

/// The epoch in the frame of a question; that of a digest is 0.
pub(crate) const ASK: u32 = 1;

/// The frame that asks every node for a digest. `ask` is a random number, by which the answers name it.
pub(crate) fn encode_ask(origin: NodeId, ask: u64) -> BytesMut {
    let mut frame = frame::encode(&Post::new(Vec::new()), origin);
    frame::write_header(&mut frame, SequenceHeader { number: ask, epoch: ASK, sequence: 1 });
    frame
}

/// Splits spans so that each part fits into a digest, the first one with so many answers. There is at least one, if need be
/// an empty one.
pub(crate) fn split(mut spans: Vec<Span>, answers: usize) -> Vec<Vec<Span>> {
    let mut parts = Vec::new();
    loop {
        let mut bytes = HEAD + if parts.is_empty() { 8 * answers } else { 0 };
        let mut fits = |span: &Span| {
            bytes += FIXED + span.channel.as_str().len();
            bytes <= MAX_BYTES
        };
        let count = spans.iter().take_while(|span| fits(span)).count();
        let rest = spans.split_off(count);
        parts.push(spans);
        if rest.is_empty() {
            return parts;
        }
        spans = rest;
    }
}

impl Digest {
    pub(crate) fn encode(&self) -> Bytes {
        let names: usize = self.spans.iter().map(|span| FIXED + span.channel.as_str().len()).sum();
        let mut bytes = BytesMut::with_capacity(HEAD + 8 * self.answers.len() + names);
        bytes.put_u64(self.after);
        bytes.put_u64(self.begin);
        bytes.put_u32(self.next);
        bytes.put_u8(self.answers.len() as u8); // at most MAX_ANSWERS
        self.answers.iter().for_each(|ask| bytes.put_u64(*ask));
        for span in &self.spans {
            bytes.put_u32(span.epoch);
            bytes.put_u64(span.first);
            bytes.put_u64(span.last);
            bytes.put_u8(span.channel.as_str().len() as u8); // a legal name fits
            bytes.put_slice(span.channel.as_str().as_bytes());
        }
        bytes.freeze()
    }

    /// Reads untrusted bytes.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let length = bytes.len();
        let bad = |reason| Malformed::new(reason, length);
        if !(HEAD..=MAX_BYTES).contains(&length) {
            return Err(bad("a digest of an impossible length"));
        }
        let (after, begin, next) = (bytes.get_u64(), bytes.get_u64(), bytes.get_u32());
        let count = usize::from(bytes.get_u8());
        if count > MAX_ANSWERS || bytes.len() < 8 * count {
            return Err(bad("a digest with an impossible number of answers"));
        }
        let answers = (0..count).map(|_| bytes.get_u64()).collect();
        let mut spans = Vec::new();
        while !bytes.is_empty() {
            if bytes.len() < FIXED {
                return Err(bad("a digest that ends too early"));
            }
            let (epoch, first, last) = (bytes.get_u32(), bytes.get_u64(), bytes.get_u64());
            let name = usize::from(bytes.get_u8());
            let (name, rest) =
                bytes.split_at_checked(name).ok_or_else(|| bad("a digest that ends too early"))?;
            bytes = rest;
            if first == 0 || first > last || last > MAX_SEQUENCE {
                return Err(bad("a digest with impossible numbers"));
            }
            let name = std::str::from_utf8(name).ok().and_then(channel);
            let channel = name.ok_or_else(|| bad("a digest with an illegal channel name"))?;
            spans.push(Span { channel, epoch, first, last });
        }
        Ok(Self { after, begin, next, answers, spans })
    }
}

/// A channel whose messages are numbered: one of users, or a node's for replies.
fn channel(name: &str) -> Option<ChannelName> {
    if is_reply_channel(name) { Some(ChannelName::internal(name)) } else { ChannelName::new(name).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(name: &str, first: u64, last: u64) -> Span {
        Span { channel: ChannelName::new(name).unwrap(), epoch: 3, first, last }
    }

    fn digest(after: u64, begin: u64, answers: Vec<u64>, spans: Vec<Span>) -> Digest {
        Digest { after, begin, next: 5000, answers, spans }
    }

    #[test]
    fn a_question_is_read_by_its_epoch_and_its_number() {
        let (wire, header) = frame::decode(&encode_ask(NodeId::from_u64(7), 99).freeze()).unwrap();
        assert_eq!((wire.head.origin, header.epoch, header.number), (NodeId::from_u64(7), ASK, 99));
        assert!(wire.payload.is_empty());
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn the_specified_bytes() {
        let digest = digest(4, 5, vec![0x1122_3344_5566_7788], vec![span("news", 2, 9)]);
        let expected = b"\x00\x00\x00\x00\x00\x00\x00\x04\
            \x00\x00\x00\x00\x00\x00\x00\x05\
            \x00\x00\x13\x88\
            \x01\
            \x11\x22\x33\x44\x55\x66\x77\x88\
            \x00\x00\x00\x03\
            \x00\x00\x00\x00\x00\x00\x00\x02\
            \x00\x00\x00\x00\x00\x00\x00\x09\
            \x04news";
        assert_eq!(&digest.encode()[..], expected);
    }

    #[test]
    fn invalid_digests_are_refused() {
        let good = digest(0, 1, vec![7], vec![span("news", 2, 9)]).encode();
        assert!(Digest::decode(&good).is_ok());
        for cut in (0..good.len()).filter(|cut| *cut != HEAD + 8) {
            assert!(Digest::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        for (first, last) in [(0, 1), (3, 2), (1, MAX_SEQUENCE + 1), (1, u64::MAX)] {
            let bad = digest(0, 1, Vec::new(), vec![span("news", first, last)]);
            assert!(Digest::decode(&bad.encode()).is_err(), "{first} to {last}");
        }
        let mut name = good.to_vec();
        *name.last_mut().unwrap() = b' ';
        assert!(Digest::decode(&name).is_err());
        assert!(Digest::decode(&vec![0; MAX_BYTES + 1]).is_err());
        let answers = |count| digest(0, 1, vec![7; count], Vec::new()).encode();
        assert!(Digest::decode(&answers(MAX_ANSWERS)).is_ok());
        assert!(Digest::decode(&answers(MAX_ANSWERS + 1)).is_err());
    }

    #[test]
    fn many_spans_are_split_and_none_is_lost() {
        let long = "n".repeat(ChannelName::MAX);
        let spans: Vec<_> = (1..1000).map(|number| span(&long, number, number)).collect();
        let parts = split(spans.clone(), MAX_ANSWERS);
        assert!(parts.len() > 1);
        for (n, part) in parts.iter().enumerate() {
            let answers = if n == 0 { vec![7; MAX_ANSWERS] } else { Vec::new() };
            let digest = digest(0, 1, answers, part.clone());
            assert!(digest.encode().len() <= MAX_BYTES);
            assert_eq!(Digest::decode(&digest.encode()).unwrap(), digest);
        }
        assert_eq!(parts.concat(), spans);
        assert_eq!(split(Vec::new(), 0), [Vec::new()]);
    }

    proptest! {
        #[test]
        fn writing_and_reading_round_trips(
            after: u64,
            begin: u64,
            next: u32,
            answers in proptest::collection::vec(any::<u64>(), 0..MAX_ANSWERS),
            spans in proptest::collection::vec(("[a-z]{1,20}(\\.[a-z]{1,20})?", any::<u32>(), 1..1_000_u64, 0..1_000_u64), 0..20),
        ) {
            let spans = spans.into_iter().map(|(name, epoch, first, more)| {
                Span { channel: ChannelName::new(name).unwrap(), epoch, first, last: first + more }
            });
            let digest = Digest { after, begin, next, answers, spans: spans.collect() };
            prop_assert_eq!(Digest::decode(&digest.encode()).unwrap(), digest);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Digest::decode(&bytes);
        }
    }
}
