//! Pieces: how a frame travels in the payloads of NOTIFY. Part of the protocol: all nodes of an application, and whatever
//! posts by SQL, agree on it.
//!
//! A payload is text of at most 7,999 bytes: a letter, the hash of the channel's name in 16 hexadecimal digits, a dot, a
//! counter in 8, a dot, and base64 without padding. The bytes behind that are the length of the name in one byte, the name, and
//! the frame, cut where a payload is full. `w` is a whole frame; of several pieces the first is `b`, the last `e`, and those
//! between are `m`. Each counter is one more than that of the piece before: it keeps two pieces of the same bytes apart, of
//! which the server would deliver one.

use base64_simd::STANDARD_NO_PAD;

/// The channels of NOTIFY, over which those of an application are spread by their hash.
pub(crate) const BUCKETS: u8 = 64;

/// The longest payload that the server takes.
const LONGEST: usize = 7_999;
/// Letter, hash, dot, counter, dot.
const HEAD: usize = 1 + 16 + 1 + 8 + 1;
/// How many bytes go into one payload.
const ROOM: usize = (LONGEST - HEAD) / 4 * 3;

/// FNV-1a of a channel's name, in 64 bits.
pub(crate) fn hash(channel: &str) -> u64 {
    channel.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Which of the channels of NOTIFY carries a channel of this hash.
pub(crate) fn bucket(hash: u64) -> u8 {
    (hash % u64::from(BUCKETS)) as u8
}

/// The name of a channel of NOTIFY.
pub(crate) fn bucket_name(bucket: u8) -> String {
    format!("broker_{bucket}")
}

/// Cuts a frame for a channel, in as many parts as it has, into payloads, in the order in which they have to be sent, and adds them to `payloads`. The
/// `counter` is that of the next piece; it goes on with each.
pub(crate) fn cut(channel: &str, frame: &[&[u8]], counter: &mut u32, payloads: &mut Vec<String>) {
    let hash = hash(channel);
    // No name on the wire is longer than 251 bytes.
    let length = channel.len().min(usize::from(u8::MAX));
    let mut content = Vec::with_capacity(1 + length + frame.iter().map(|part| part.len()).sum::<usize>());
    content.push(length as u8);
    content.extend_from_slice(&channel.as_bytes()[..length]);
    frame.iter().for_each(|part| content.extend_from_slice(part));
    let last = content.len().div_ceil(ROOM) - 1;
    for (index, part) in content.chunks(ROOM).enumerate() {
        let kind = match index {
            0 if last == 0 => Kind::Whole,
            0 => Kind::Begin,
            _ if index == last => Kind::End,
            _ => Kind::Middle,
        };
        let mut payload = String::with_capacity(HEAD + part.len().div_ceil(3) * 4);
        payload.push(kind.letter());
        payload.push_str(&format!("{hash:016x}.{counter:08x}."));
        STANDARD_NO_PAD.encode_append(part, &mut payload);
        payloads.push(payload);
        *counter = counter.wrapping_add(1);
    }
}

/// A frame is cut into so many pieces, or fewer.
pub(crate) fn most_pieces(frame: &[u8]) -> u32 {
    // No frame is longer than a megabyte, and a name takes a part of one piece.
    (frame.len() / ROOM + 2) as u32
}

/// Where a piece stands in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole,
    Begin,
    Middle,
    End,
}

impl Kind {
    const fn letter(self) -> char {
        match self {
            Self::Whole => 'w',
            Self::Begin => 'b',
            Self::Middle => 'm',
            Self::End => 'e',
        }
    }
}

/// A payload that arrived, as far as its head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) kind: Kind,
    pub(crate) hash: u64,
    pub(crate) counter: u32,
    base64: &'a str,
}

impl<'a> Piece<'a> {
    /// Reads the head of a payload: `None` if that is no piece.
    pub(crate) fn parse(payload: &'a str) -> Option<Self> {
        let (head, base64) = payload.split_at_checked(HEAD).filter(|_| payload.len() <= LONGEST)?;
        let kind = match head.as_bytes()[0] {
            b'w' => Kind::Whole,
            b'b' => Kind::Begin,
            b'm' => Kind::Middle,
            b'e' => Kind::End,
            _ => return None,
        };
        let (hash, counter) = head.get(1..)?.strip_suffix('.')?.split_once('.')?;
        let hash = u64::from_str_radix(digits(hash, 16)?, 16).ok()?;
        let counter = u32::from_str_radix(digits(counter, 8)?, 16).ok()?;
        Some(Self { kind, hash, counter, base64 })
    }

    /// Adds the bytes of the piece to `content`; `None` if they are no base64.
    pub(crate) fn decode_into(&self, content: &mut Vec<u8>) -> Option<()> {
        STANDARD_NO_PAD.decode_append(self.base64, content).ok()
    }
}

/// A number as we write it: there is one way only.
fn digits(text: &str, length: usize) -> Option<&str> {
    let fits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == length && text.bytes().all(fits)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_of(channel: &str, frame: &[u8]) -> Vec<String> {
        let mut payloads = Vec::new();
        cut(channel, &[frame], &mut 0xffff_fffe, &mut payloads);
        payloads
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        for (name, expected) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(hash(name), expected, "{name}");
        }
        assert_eq!(bucket_name(bucket(hash("foobar"))), "broker_40");
    }

    #[test]
    fn a_small_frame_is_one_payload() {
        assert_eq!(cut_of("news", b"hello"), ["we5495bbaa03a6526.fffffffe.BG5ld3NoZWxsbw"]);
        assert_eq!(cut_of("a", b""), ["waf63dc4c8601ec8c.fffffffe.AWE"]);
    }

    #[test]
    fn the_longest_frame_is_168_payloads_that_the_server_takes() {
        let payloads = cut_of("news", &vec![0; 1_000_000]);
        assert_eq!(payloads.len(), 168);
        assert!(payloads.iter().all(|payload| payload.len() <= LONGEST), "a payload is too long");
        assert_eq!(payloads[0].len(), LONGEST);
        let kinds: String = payloads.iter().map(|payload| &payload[..1]).collect();
        assert_eq!(kinds, format!("b{}e", "m".repeat(166)));
        let mut distinct = payloads.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 168, "two pieces are equal, of which the server would deliver one");
    }

    #[test]
    fn a_frame_that_fills_a_payload_is_whole() {
        for (length, pieces) in [(ROOM - 5, 1), (ROOM - 4, 2), (2 * ROOM - 5, 2), (2 * ROOM - 4, 3)] {
            assert_eq!(cut_of("news", &vec![1; length]).len(), pieces, "{length}");
        }
    }

    #[test]
    fn what_is_no_piece_is_none() {
        let good = "we5495bbaa03a6526.0000000a.BG5ld3M";
        let piece = Piece::parse(good).unwrap();
        assert_eq!((piece.kind, piece.hash, piece.counter), (Kind::Whole, hash("news"), 10));
        for bad in [
            "",
            "w",
            "hello",
            "xe5495bbaa03a6526.0000000a.BG5ld3M",
            "We5495bbaa03a6526.0000000a.BG5ld3M",
            "wE5495bbaa03a6526.0000000a.BG5ld3M",
            "w+5495bbaa03a6526.0000000a.BG5ld3M",
            "we5495bbaa03a6526.+000000a.BG5ld3M",
            "we5495bbaa03a6526:0000000a.BG5ld3M",
            "we5495bbaa03a652.00000000a.BG5ld3M",
            "we5495bbaa03a6526.0000000a:BG5ld3M",
            "we5495bbaa03a6526.0000000é.BG5ld3M",
            &format!("{good}{}", "A".repeat(LONGEST)),
        ] {
            assert_eq!(Piece::parse(bad), None, "{bad:.60}");
        }
    }

    #[test]
    fn the_bytes_of_a_piece_are_written_in_one_way_only() {
        let content_of = |base64: &str| {
            let mut content = b"x".to_vec();
            let payload = format!("we5495bbaa03a6526.0000000a.{base64}");
            Piece::parse(&payload).unwrap().decode_into(&mut content).map(|()| content)
        };
        assert_eq!(content_of("BG5ld3NoZWxsbw").as_deref(), Some(&b"x\x04newshello"[..]));
        assert_eq!(content_of("").as_deref(), Some(&b"x"[..]));
        // Of one character, padded, with bits that are lost, and with what is no base64, near the front and far behind it.
        let far = "QUJD".repeat(40);
        for bad in ["B", "BG5", "BG5ld3NoZWxsbw==", "BH", "BG5ld3 oZWxs", "BG5l\n", "BG5ld3-_", "BGé5"] {
            for bad in [bad.to_owned(), format!("{far}{bad}")] {
                assert_eq!(content_of(&bad), None, "{bad}");
            }
        }
    }
}
