//! Assembly: puts the pieces of a frame together again.
//!
//! The server hands the notifications of a transaction over as one block, in the order in which they were made, so the
//! pieces of a frame stand together, and at most one frame is open. Whatever does not continue it ends it.

use broker_core::driver::{MAX_FRAME, MAX_NAME};
use bytes::Bytes;

use crate::piece::{Kind, Piece, hash};

/// How much is kept, with the channel's name before it. Core reports to subscribers how long something was that is longer than any
/// frame; the limit is for what has no end.
pub(crate) const LONGEST: usize = 1 + MAX_NAME + 4 * MAX_FRAME;

/// The frame of which some pieces have arrived.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// The server's process of the poster.
    poster: i32,
    hash: u64,
    /// The counter of the piece that is to come.
    next: u32,
    content: Vec<u8>,
}

/// A frame, or what was to be one, with the name of its channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    content: Bytes,
    name: usize,
}

impl Arrived {
    /// `None` if there is no name in it, or one of another hash than its pieces have.
    fn new(content: Vec<u8>, announced: u64) -> Option<Self> {
        let name = usize::from(*content.first()?);
        let arrived = Self { name, content: content.into() };
        let text = std::str::from_utf8(arrived.content.get(1..=name)?).ok()?;
        (hash(text) == announced).then_some(arrived)
    }

    /// The channel's name on the wire.
    pub(crate) fn channel(&self) -> &str {
        std::str::from_utf8(&self.content[1..=self.name]).unwrap_or_default()
    }

    pub(crate) fn frame(&self) -> Bytes {
        self.content.slice(self.name + 1..)
    }
}

/// What a piece brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the piece has ended without completing it: a frame that will never be delivered.
    pub(crate) broken: Option<Arrived>,
    /// What the piece has completed.
    pub(crate) complete: Option<Arrived>,
    /// The piece is none, or continues nothing.
    pub(crate) malformed: bool,
}

impl Assembly {
    /// How much is kept of the frame that is open.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn kept(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.content.len())
    }

    /// Takes the next piece, by whatever poster.
    pub(crate) fn add(&mut self, poster: i32, piece: &Piece<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let continues = |open: &Open| {
            matches!(piece.kind, Kind::Middle | Kind::End)
                && (open.poster, open.hash, open.next) == (poster, piece.hash, piece.counter)
        };
        let mut open = match (self.open.take(), piece.kind) {
            (Some(open), _) if continues(&open) => open,
            (other, kind) => {
                outcome.broken = other.and_then(|open| Arrived::new(open.content, open.hash));
                if matches!(kind, Kind::Middle | Kind::End) {
                    outcome.malformed = true;
                    return outcome;
                }
                Open { poster, hash: piece.hash, next: piece.counter, content: Vec::new() }
            }
        };
        open.next = open.next.wrapping_add(1);
        let decoded = piece.decode_into(&mut open.content);
        if decoded.is_none() || open.content.len() > LONGEST {
            outcome.malformed = true;
            outcome.broken = outcome.broken.or_else(|| Arrived::new(open.content, open.hash));
        } else if matches!(piece.kind, Kind::Whole | Kind::End) {
            outcome.complete = Arrived::new(open.content, open.hash);
            outcome.malformed = outcome.complete.is_none();
        } else {
            self.open = Some(open);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::piece::cut;

    fn cut_of(channel: &str, frame: &[u8]) -> Vec<String> {
        let mut payloads = Vec::new();
        cut(channel, &[frame], &mut 0xffff_fff0, &mut payloads);
        payloads
    }

    /// Everything that comes of some payloads, by one poster.
    fn fed(assembly: &mut Assembly, poster: i32, payloads: &[String]) -> Vec<Outcome> {
        payloads.iter().map(|payload| assembly.add(poster, &Piece::parse(payload).unwrap())).collect()
    }

    fn completed(outcomes: Vec<Outcome>) -> Vec<(String, Bytes)> {
        let all = outcomes.into_iter().filter_map(|outcome| outcome.complete);
        all.map(|arrived| (arrived.channel().to_owned(), arrived.frame())).collect()
    }

    #[test]
    fn a_middle_without_a_beginning_is_malformed_and_leaves_nothing() {
        let payloads = cut_of("news", &[7; 20_000]);
        let mut assembly = Assembly::default();
        for outcome in fed(&mut assembly, 1, &payloads[1..]) {
            assert_eq!(outcome, Outcome { malformed: true, ..Outcome::default() });
        }
        assert!(assembly.open.is_none());
    }

    #[test]
    fn a_frame_that_is_interrupted_is_reported_on_its_channel() {
        let (long, short) = (cut_of("news", &[7; 20_000]), cut_of("sport", b"goal"));
        let mut assembly = Assembly::default();
        fed(&mut assembly, 1, &long[..2]);
        let outcome = fed(&mut assembly, 1, &short).remove(0);
        assert_eq!(outcome.broken.unwrap().channel(), "news");
        assert_eq!(outcome.complete.unwrap().frame(), "goal");
        // Its other pieces continue nothing.
        assert!(fed(&mut assembly, 1, &long[2..]).iter().all(|outcome| outcome.malformed));
    }

    #[test]
    fn only_the_same_poster_channel_and_counter_go_on() {
        let (one, other) = (cut_of("news", &[7; 20_000]), cut_of("sport", &[7; 20_000]));
        for (poster, piece) in [(2, &one[1]), (1, &other[1]), (1, &one[2]), (1, &one[0])] {
            let mut assembly = Assembly::default();
            fed(&mut assembly, 1, &one[..1]);
            let outcome = fed(&mut assembly, poster, std::slice::from_ref(piece)).remove(0);
            assert_eq!(outcome.broken.map(|broken| broken.channel().to_owned()).as_deref(), Some("news"));
            assert!(outcome.complete.is_none());
        }
    }

    #[test]
    fn a_frame_without_end_is_given_up() {
        let endless = cut_of("news", &vec![7; 5 * MAX_FRAME]);
        let mut assembly = Assembly::default();
        let outcomes = fed(&mut assembly, 1, &endless);
        assert!(outcomes.iter().all(|outcome| outcome.complete.is_none()));
        let broken: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.broken.as_ref()).collect();
        assert_eq!(broken.len(), 1);
        assert!(broken[0].content.len() <= LONGEST + 8_000);
        assert!(assembly.open.is_none());
        // And the longest one arrives.
        let longest = cut_of(&"n".repeat(MAX_NAME), &vec![7; MAX_FRAME]);
        assert_eq!(completed(fed(&mut assembly, 1, &longest))[0].1.len(), MAX_FRAME);
    }

    #[test]
    fn a_name_that_its_hash_does_not_fit_is_malformed() {
        let forged = format!("w{:016x}{}", hash("news"), &cut_of("sport", b"goal")[0][17..]);
        for payload in [
            forged.as_str(),
            "we5495bbaa03a6526.00000001.",
            "we5495bbaa03a6526.00000001.BG5l",
            "we5495bbaa03a6526.00000001.!!!!",
        ] {
            let outcome = Assembly::default().add(1, &Piece::parse(payload).unwrap());
            assert_eq!(outcome, Outcome { malformed: true, ..Outcome::default() }, "{payload}");
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were(
            frames in proptest::collection::vec(("[a-z$.]{1,251}", 0_usize..30_000, any::<u8>()), 1..6)
        ) {
            let (mut assembly, mut counter, mut payloads) = (Assembly::default(), 3, Vec::new());
            for (channel, length, byte) in &frames {
                cut(channel, &[&vec![*byte; *length]], &mut counter, &mut payloads);
            }
            let outcomes = fed(&mut assembly, 1, &payloads);
            prop_assert!(outcomes.iter().all(|outcome| !outcome.malformed && outcome.broken.is_none()));
            let expected: Vec<_> = frames
                .iter()
                .map(|(channel, length, byte)| (channel.clone(), Bytes::from(vec![*byte; *length])))
                .collect();
            prop_assert_eq!(completed(outcomes), expected);
        }

        /// Of pieces in any order, some twice and some missing: what comes out was posted so, and little is kept.
        #[test]
        fn whatever_arrives_no_frame_is_invented(
            order in proptest::collection::vec((0_usize..40, 0_i32..2), 0..120)
        ) {
            let (mut counter, mut payloads, mut posted) = (0, Vec::new(), Vec::new());
            for (channel, length) in [("a", 9_000), ("b", 100), ("a", 30_000), ("c", 0), ("b", 18_000)] {
                let frame = vec![length as u8; length];
                cut(channel, &[&frame], &mut counter, &mut payloads);
                posted.push((channel.to_owned(), Bytes::from(frame)));
            }
            let mut assembly = Assembly::default();
            for (index, poster) in order {
                let payload = &payloads[index % payloads.len()];
                let outcome = assembly.add(poster, &Piece::parse(payload).unwrap());
                for arrived in completed(vec![outcome]) {
                    prop_assert!(posted.contains(&arrived));
                }
                prop_assert!(assembly.kept() <= LONGEST);
            }
        }

        #[test]
        fn any_text_is_read(payload in ".{0,60}", poster in any::<i32>()) {
            if let Some(piece) = Piece::parse(&payload) {
                Assembly::default().add(poster, &piece);
            }
        }
    }
}
