//! Frame v1: the bytes of a message on the wire. Specified byte by byte in docs/wire-format.md.

use std::num::NonZero;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    Codec, Headers, Malformed, MessageId, NodeId, Post,
    message::{Head, Wire, exchange::Exchange, sender::Sender},
    wire::limits::MAX_FRAME,
};

/// No UTF-8 text begins with it, so the first byte distinguishes foreign text from a frame.
pub(crate) const MAGIC: u8 = 0xB5;
pub(crate) const VERSION: u8 = 1;
/// Reserved: the first byte of a frame that a driver has marked with a place.
const PLACED: u8 = 0xB6;
/// Magic, version, flags, codec, origin, number, epoch, sequence.
const FIXED: usize = 4 + 8 + 8 + 4 + 8;
/// No frame is shorter: no type, no headers, no payload.
pub(crate) const SHORTEST: usize = FIXED + 1 + 2;

/// The flag of a frame that names the session which posted it.
const HAS_SENDER: u8 = 0x08;

/// The flag of a request, and of a reply: the request's number follows.
const HAS_EXCHANGE: u8 = 0x10;

/// The flag of a frame without numbers, by a poster that is no node. No other flag goes with it.
const UNNUMBERED: u8 = 0x04;

/// No sequence number is ever higher. A frame that says otherwise is not ours.
pub(crate) const MAX_SEQUENCE: u64 = 1 << 48;

/// What is known only at the moment of sending: patched into an encoded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceHeader {
    /// The message's number at its node.
    pub(crate) number: u64,
    /// Rises whenever the node forgets its counters and begins again at 1.
    pub(crate) epoch: u32,
    /// The message's number in (origin, channel, epoch), from 1; 0 in a frame without numbers.
    pub(crate) sequence: u64,
}

impl SequenceHeader {
    /// Whether the poster is no node: it counts nothing, and is not counted.
    #[inline]
    pub(crate) fn is_unnumbered(self) -> bool {
        self.sequence == 0
    }
}

/// Whether bytes are a frame, of whatever version: no plain program begins a text so.
#[inline]
pub(crate) fn is_frame(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(MAGIC | PLACED)))
}

/// Encodes a post that has passed [`Post::check`]. The stamp is still blank.
pub(crate) fn encode(post: &Post, origin: NodeId) -> BytesMut {
    let mut frame = encode_head(post, origin, post.payload.len());
    frame.put_slice(&post.payload);
    frame
}

/// All but the payload, with room for so many bytes more.
pub(super) fn encode_head(post: &Post, origin: NodeId, room: usize) -> BytesMut {
    let type_name = post.type_name.as_deref().unwrap_or_default();
    let headers: usize = post.headers.iter().map(|(name, value)| 3 + name.len() + value.len()).sum();
    let sender = post.sender.to_wire();
    let exchange = post.exchange.to_wire();
    let flag = |there, flag| if there { flag } else { 0 };
    let flags = flag(sender.is_some(), HAS_SENDER) | flag(exchange.is_some(), HAS_EXCHANGE);
    let numbers = 8 * (usize::from(sender.is_some()) + usize::from(exchange.is_some()));
    // Exact: then to freeze it allocates nothing.
    let length = SHORTEST + numbers + type_name.len() + headers + room;
    let mut frame = BytesMut::with_capacity(length);
    frame.put_slice(&[MAGIC, VERSION, flags, post.codec.to_wire()]);
    frame.put_u64(origin.as_u64());
    frame.put_bytes(0, FIXED - 12);
    sender.into_iter().chain(exchange).for_each(|number| frame.put_u64(number));
    frame.put_u8(type_name.len() as u8);
    frame.put_slice(type_name.as_bytes());
    frame.put_u16(post.headers.len() as u16);
    for (name, value) in post.headers.iter() {
        frame.put_u8(name.len() as u8);
        frame.put_slice(name.as_bytes());
        frame.put_u16(value.len() as u16);
        frame.put_slice(value.as_bytes());
    }
    frame
}

/// Writes the stamp into a frame made by [`encode`], or into its head.
pub(crate) fn write_header(frame: &mut BytesMut, header: SequenceHeader) {
    frame[12..20].copy_from_slice(&header.number.to_be_bytes());
    frame[20..24].copy_from_slice(&header.epoch.to_be_bytes());
    frame[24..32].copy_from_slice(&header.sequence.to_be_bytes());
}

/// The frame of a post by whoever is no node, with an id of its own choice. Nobody's session posts it, and it is no request
/// and no reply.
pub(crate) fn encode_unnumbered(mut post: Post, id: MessageId) -> Bytes {
    (post.sender, post.exchange) = Default::default();
    let mut frame = encode(&post, id.origin);
    frame[2] = UNNUMBERED;
    write_header(&mut frame, SequenceHeader { number: id.number, epoch: 0, sequence: 0 });
    frame.freeze()
}

/// Decodes whatever arrived. The payload is a slice of the frame, not a copy.
pub(crate) fn decode(frame: &Bytes) -> Result<(Wire, SequenceHeader), Malformed> {
    read(frame, |payload| frame.slice_ref(payload)).map_err(|reason| Malformed::new(reason, frame.len()))
}

/// The same with a copy of the payload, which keeps nothing else alive.
pub(crate) fn decode_copied(frame: &[u8]) -> Result<(Wire, SequenceHeader), Malformed> {
    read(frame, Bytes::copy_from_slice).map_err(|reason| Malformed::new(reason, frame.len()))
}

#[inline]
fn read(frame: &[u8], keep: impl FnOnce(&[u8]) -> Bytes) -> Result<(Wire, SequenceHeader), &'static str> {
    if frame.len() > MAX_FRAME {
        return Err("longer than any frame");
    }
    let mut reader = Reader(frame);
    match reader.array::<2>() {
        Ok([MAGIC, VERSION]) => {}
        Ok([MAGIC | PLACED, _]) => return Err("a frame of another version; upgrade this node"),
        _ => return Err("not a frame: something else posts on this channel"),
    }
    let [flags, codec] = reader.array()?;
    if flags & !(HAS_SENDER | HAS_EXCHANGE) != 0 && flags != UNNUMBERED {
        return Err("a frame with unknown flags; upgrade this node");
    }
    let codec = Codec::from_wire(codec).ok_or("a frame with an unknown codec; upgrade this node")?;
    let origin = NodeId::from_u64(u64::from_be_bytes(reader.array()?));
    let header = SequenceHeader {
        number: u64::from_be_bytes(reader.array()?),
        epoch: u32::from_be_bytes(reader.array()?),
        sequence: u64::from_be_bytes(reader.array()?),
    };
    if flags == UNNUMBERED {
        if (header.epoch, header.sequence) != (0, 0) {
            return Err("a frame without numbers that has an epoch or a sequence number");
        }
    } else if header.sequence == 0 || header.sequence > MAX_SEQUENCE {
        return Err("a frame with an invalid sequence number");
    }
    let sender = reader.number_if(flags & HAS_SENDER != 0)?.map(Sender::from_wire);
    let exchange = reader.number_if(flags & HAS_EXCHANGE != 0)?.map(Exchange::from_wire);
    let type_name = reader.short_text()?;
    let headers = reader.headers()?;
    let payload = keep(reader.0);
    let (id, sender) = (MessageId { origin, number: header.number }, sender.unwrap_or_default());
    let mut head = Head::global(id, NonZero::new(header.sequence), headers, sender);
    head.exchange = exchange.unwrap_or_default();
    let type_name = Some(type_name).filter(|name| !name.is_empty()).map(Box::from);
    Ok((Wire::new(head, type_name, codec, payload), header))
}

/// Takes parts from the front of untrusted bytes.
struct Reader<'a>(&'a [u8]);

const CUT: &str = "a frame that ends too early";

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, tail) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = tail;
        Ok(*head)
    }

    fn number_if(&mut self, there: bool) -> Result<Option<u64>, &'static str> {
        if there { self.array().map(|bytes| Some(u64::from_be_bytes(bytes))) } else { Ok(None) }
    }

    fn text(&mut self, length: usize) -> Result<&'a str, &'static str> {
        let (text, tail) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = tail;
        std::str::from_utf8(text).map_err(|_| "a frame whose type name or headers are not UTF-8")
    }

    fn short_text(&mut self) -> Result<&'a str, &'static str> {
        let [length] = self.array()?;
        self.text(length.into())
    }

    fn headers(&mut self) -> Result<Headers, &'static str> {
        let count = usize::from(u16::from_be_bytes(self.array()?));
        if count > Headers::MAX_COUNT {
            return Err("a frame with too many headers");
        }
        let mut headers = Headers::new();
        let before = self.0.len();
        for _ in 0..count {
            let name = self.short_text()?;
            let length = u16::from_be_bytes(self.array()?);
            headers.insert(name, self.text(length.into())?);
        }
        if before - self.0.len() > Headers::MAX_BYTES + 3 * Headers::MAX_COUNT {
            return Err("a frame with too many bytes of headers");
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;
    use proptest::prelude::*;

    const HEADER: SequenceHeader = SequenceHeader { number: 9, epoch: 2, sequence: 5 };

    fn framed(post: &Post) -> Bytes {
        let mut frame = encode(post, NodeId::from_u64(0x0102_0304_0506_0708));
        write_header(&mut frame, HEADER);
        frame.freeze()
    }

    #[test]
    fn reserved_bits_are_read_as_a_later_version() {
        let mut frame = encode(&Post::new("x"), NodeId::from_u64(1));
        write_header(&mut frame, HEADER);
        let read = |at: usize, byte: u8| {
            let mut frame = frame.to_vec();
            frame[at] = byte;
            decode(&frame.into()).err().unwrap().reason().to_owned()
        };
        assert_eq!(read(0, 0xB6), "a frame of another version; upgrade this node");
        for flags in [2, 6, 32, 10, 12, 20, 28, 255] {
            assert_eq!(read(2, flags), "a frame with unknown flags; upgrade this node");
        }
        assert!(read(0, 0xB7).starts_with("not a frame"));
    }

    /// The worked example of docs/wire-format.md.
    #[test]
    fn the_specified_bytes() {
        let mut post = Post::new("hi").with_header("k", "v");
        post.codec = Codec::Json;
        post.type_name = Some("Chat".into());
        let expected = b"\xB5\x01\x00\x01\
            \x01\x02\x03\x04\x05\x06\x07\x08\
            \x00\x00\x00\x00\x00\x00\x00\x09\
            \x00\x00\x00\x02\
            \x00\x00\x00\x00\x00\x00\x00\x05\
            \x04Chat\
            \x00\x01\x01k\x00\x01v\
            hi";
        assert_eq!(&framed(&post)[..], expected);
    }

    /// The other one.
    #[test]
    fn the_specified_bytes_without_numbers() {
        let post = Post::encoded("Chat", Codec::Json, "{}");
        let expected = b"\xB5\x01\x04\x01\
            \x00\x00\x00\x00\x00\x00\x00\x00\
            \x11\x22\x33\x44\x55\x66\x77\x88\
            \x00\x00\x00\x00\
            \x00\x00\x00\x00\x00\x00\x00\x00\
            \x04Chat\
            \x00\x00\
            {}";
        let id = MessageId { origin: NodeId::from_u64(0), number: 0x1122_3344_5566_7788 };
        let frame = encode_unnumbered(post, id);
        assert_eq!(&frame[..], expected);
        let (wire, header) = decode(&frame).unwrap();
        assert!(header.is_unnumbered());
        let message = Message::from_wire(wire);
        assert_eq!((message.id(), message.sequence(), message.is_local()), (id, None, false));
    }

    #[test]
    fn a_frame_without_numbers_has_none() {
        let read = |at: usize, byte: u8| {
            let mut frame =
                encode_unnumbered(Post::new("x"), MessageId { origin: NodeId::from_u64(0), number: 0 })
                    .to_vec();
            frame[at] = byte;
            decode(&frame.into()).map_err(|error| error.reason().to_owned())
        };
        for number in [20, 23, 24, 31] {
            assert!(read(number, 1).err().unwrap().contains("has an epoch or a sequence"), "{number}");
        }
        let id = Message::from_wire(read(19, 0).unwrap().0).id();
        assert_eq!(id.number(), 0, "the poster's choice, whatever it is");
        let (excluded, request) = (Post::new("x").excluding_me(), Exchange::of(7));
        let mut post = Post { exchange: request, ..excluded };
        post.sender = post.sender.with_session(7);
        let frame = encode_unnumbered(post, MessageId { origin: NodeId::from_u64(1), number: 1 });
        let (wire, _) = decode(&frame).unwrap();
        assert_eq!((wire.head.sender.to_wire(), wire.head.exchange.to_wire()), (None, None));
    }

    #[test]
    fn a_frame_has_exactly_the_room_that_it_takes() {
        let mut post = Post::new("payload").with_header("name", "value");
        for exchange in [Exchange::default(), Exchange::of(7)] {
            for sender in [Sender::default(), Sender::default().with_session(7)] {
                (post.exchange, post.sender) = (exchange, sender);
                let frame = encode(&post, NodeId::from_u64(1));
                assert_eq!(frame.capacity(), frame.len());
            }
        }
    }

    #[test]
    fn every_truncated_frame_is_malformed_or_a_shorter_payload() {
        let mut post = Post::new("payload").with_header("name", "value");
        post.type_name = Some("Type".into());
        let frame = framed(&post);
        for cut in 0..frame.len() - "payload".len() {
            assert!(decode(&frame.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn each_malformed_header_has_its_own_reason() {
        let reason = |bytes: &[u8]| {
            decode(&Bytes::copy_from_slice(bytes)).map(|_| ()).unwrap_err().reason().to_owned()
        };
        let frame = framed(&Post::new("x"));
        assert!(reason(b"hello").contains("something else"));
        assert!(reason(b"").contains("something else"));
        for (at, value, word) in
            [(1, 9, "version"), (2, 1, "flags"), (3, 77, "codec"), (31, 0, "sequence"), (24, 1, "sequence")]
        {
            let mut changed = frame.to_vec();
            changed[at] = value;
            assert!(reason(&changed).contains(word), "{}", reason(&changed));
        }
    }

    proptest! {
        #[test]
        fn a_round_trip_keeps_every_byte(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            type_name in proptest::option::of("[a-zA-Z.]{1,255}"),
            pairs in proptest::collection::vec(("[a-z]{1,20}", ".{0,40}"), 0..8),
            (session, excluded) in (prop::sample::select(vec![0, 1, 7, u64::MAX >> 1]), any::<bool>()),
            (request, refused) in (prop::sample::select(vec![0, 1, 7, u64::MAX >> 1]), any::<bool>()),
        ) {
            let mut post = Post::new(payload.clone()).with_headers(pairs.into_iter().collect());
            post.type_name = type_name.map(Into::into);
            post.sender = post.sender.with_session(session);
            if excluded {
                post = post.excluding_me();
            }
            post.exchange = Exchange::of(request);
            if refused {
                post.exchange = post.exchange.refused();
            }
            let (wire, header) = decode(&framed(&post)).unwrap();
            prop_assert_eq!(header, HEADER);
            // Excluded is only who is named.
            prop_assert_eq!(wire.head.sender.excludes(session), excluded && session != 0);
            prop_assert!(wire.head.sender.is(session));
            prop_assert_eq!(wire.head.exchange.number().unwrap_or(0), request);
            prop_assert_eq!(wire.head.exchange.is_refused(), refused && request != 0);
            let message = Message::from_wire(wire);
            prop_assert_eq!(&message.payload().unwrap()[..], &payload[..]);
            prop_assert_eq!(message.headers(), &post.headers);
            prop_assert_eq!(message.type_name(), post.type_name.as_deref());
        }

        #[test]
        fn hostile_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
            flags in prop::sample::select(vec![None, Some(0), Some(UNNUMBERED), Some(HAS_SENDER | HAS_EXCHANGE)]),
        ) {
            if let (Some(flags), [_, _, _, _, ..]) = (flags, &*bytes) {
                bytes[..4].copy_from_slice(&[MAGIC, VERSION, flags, 1]);
            }
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
