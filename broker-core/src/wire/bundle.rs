//! Bundle: frames to one channel that follow each other, sent as one. What a backend does for a frame, it then does
//! once for all of them. Specified byte by byte in docs/wire-format.md.
//!
//! Only neighbours are bundled, so nothing overtakes anything; and only what waits anyway, so nothing waits for it.

use std::iter;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    Malformed, Result,
    message::Wire,
    wire::frame::{self, MAGIC, SHORTEST, SequenceHeader, VERSION, is_frame},
    wire::limits::MAX_FRAME,
    wire::outgoing::Outgoing,
};

/// Magic, version, the flag that tells it from a frame, and a blank.
const HEAD: [u8; 4] = [MAGIC, VERSION, 1, 0];
/// The length before each frame.
const LENGTH: usize = 4;
/// The longest bundle. Beyond this the bytes cost more than their number.
const MOST: usize = 64 << 10;

/// What a batch became.
#[derive(Debug)]
pub(crate) struct Bundles {
    pub(crate) frames: Vec<Outgoing>,
    /// How many frames of the batch each of them is. `None` when each goes by itself.
    counts: Option<Vec<usize>>,
}

impl Bundles {
    /// Bundles what can be, for a server that takes no frame longer than `longest`.
    pub(crate) fn of(batch: Vec<Outgoing>, longest: usize) -> Self {
        // What is posted bare is for programs that know no bundles.
        let together =
            |a: &Outgoing, b: &Outgoing| a.channel == b.channel && is_frame(a.head()) && is_frame(b.head());
        if !batch.windows(2).any(|pair| together(&pair[0], &pair[1])) {
            return Self { frames: batch, counts: None };
        }
        let (mut frames, mut counts) = (Vec::new(), Vec::new());
        for mut run in batch.chunk_by(together) {
            while let [first, ..] = run {
                let (bundle, rest) = run.split_at(fitting(run, longest.min(MOST)));
                counts.push(bundle.len());
                frames.push(if bundle.len() == 1 { first.clone() } else { bundled(bundle) });
                run = rest;
            }
        }
        Self { frames, counts: Some(counts) }
    }

    /// The outcome of each frame of the batch: that of the one it was sent with. `None` if there are too few or too many.
    pub(crate) fn outcomes<T: Clone>(self, outcomes: Vec<Result<T>>) -> Option<Vec<Result<T>>> {
        if outcomes.len() != self.frames.len() {
            return None;
        }
        let Some(counts) = self.counts else { return Some(outcomes) };
        let each = outcomes.into_iter().zip(counts);
        Some(each.flat_map(|(outcome, count)| iter::repeat_n(outcome, count)).collect())
    }
}

/// How many frames of a run go into one bundle: one at least, for it is sent as it is.
fn fitting(run: &[Outgoing], most: usize) -> usize {
    let mut length = HEAD.len();
    let fit = run.iter().take_while(|outgoing| {
        length += LENGTH + outgoing.size();
        length <= most
    });
    fit.count().max(1)
}

fn bundled(run: &[Outgoing]) -> Outgoing {
    let length: usize = run.iter().map(|outgoing| LENGTH + outgoing.size()).sum();
    let mut bundle = BytesMut::with_capacity(HEAD.len() + length);
    bundle.put_slice(&HEAD);
    for outgoing in run {
        bundle.put_u32(outgoing.size() as u32); // a frame has at most MAX_FRAME
        outgoing.parts().into_iter().for_each(|part| bundle.put_slice(part));
    }
    Outgoing::new(run[0].channel.clone(), bundle.freeze())
}

/// Decodes what arrived, a frame or each frame of a bundle, and hands it on.
pub(crate) fn decode(arrived: &Bytes, mut each: impl FnMut(Result<(Wire, SequenceHeader), Malformed>)) {
    if is_bundle(arrived) {
        // Messages live long: as a slice, each payload would keep all of them alive.
        frames(arrived).for_each(|frame| each(frame.and_then(frame::decode_copied)));
    } else {
        each(frame::decode(arrived));
    }
}

fn is_bundle(arrived: &[u8]) -> bool {
    arrived.starts_with(&HEAD) && arrived.len() <= MAX_FRAME
}

/// The frames in what arrived: the thing itself, if it is no bundle. A bundle that does not read ends with an error.
pub(crate) fn frames(arrived: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let is_bundle = is_bundle(arrived);
    let mut rest = Some(if is_bundle { &arrived[HEAD.len()..] } else { arrived });
    iter::from_fn(move || {
        let mut bytes = rest.take()?;
        if !is_bundle {
            return Some(Ok(bytes));
        }
        let frame = take_frame(&mut bytes);
        if frame.is_ok() && !bytes.is_empty() {
            rest = Some(bytes);
        }
        Some(frame.map_err(|reason| Malformed::new(reason, arrived.len())))
    })
}

fn take_frame<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (length, tail) = bytes.split_first_chunk().ok_or("a bundle that ends too early")?;
    let length = u32::from_be_bytes(*length) as usize;
    // Without a least length a hostile bundle would be worth a quarter of a million complaints.
    if length < SHORTEST {
        return Err("a bundle with an entry that is too short for a frame");
    }
    let (frame, tail) = tail.split_at_checked(length).ok_or("a bundle that ends too early")?;
    *bytes = tail;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelName, Error, ErrorKind, NodeId, Post};

    fn outgoing(channel: &str, length: usize, fill: u8) -> Outgoing {
        let mut frame = vec![fill; length];
        frame[0] = MAGIC;
        Outgoing::new(ChannelName::internal(channel), frame.into())
    }

    fn counts(batch: &[Outgoing], longest: usize) -> Vec<usize> {
        let Bundles { frames, counts } = Bundles::of(batch.to_vec(), longest);
        counts.unwrap_or_else(|| vec![1; frames.len()])
    }

    /// What a list of channels becomes: each with how many frames are in it.
    fn shape(batch: &[Outgoing], longest: usize) -> Vec<(String, usize)> {
        let bundles = Bundles::of(batch.to_vec(), longest);
        let count = |outgoing: &Outgoing| frames(&outgoing.frame()).count();
        assert!(bundles.frames.iter().map(count).eq(counts(batch, longest)));
        bundles.frames.iter().map(|one| (one.channel.to_string(), count(one))).collect()
    }

    #[test]
    fn neighbours_are_bundled_in_order() {
        let batch: Vec<_> = "aabaccc".chars().map(|c| outgoing(&c.to_string(), 40, 1)).collect();
        let expected = [("a", 2), ("b", 1), ("a", 1), ("c", 3)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(shape(&batch, MAX_FRAME), expected);
        let single = Bundles::of(batch[2..4].to_vec(), MAX_FRAME);
        assert_eq!(single.frames[0].frame(), batch[2].frame(), "one alone is sent as it is");
    }

    #[test]
    fn what_is_no_frame_is_sent_by_itself() {
        let mut batch: Vec<_> = "aaaa".chars().map(|c| outgoing(&c.to_string(), 40, 1)).collect();
        batch[2] = Outgoing::new(batch[2].channel.clone(), Bytes::from_static(b"{}"));
        assert_eq!(counts(&batch, MAX_FRAME), [2, 1, 1]);
        assert_eq!(Bundles::of(batch, MAX_FRAME).frames[1].frame(), "{}");
    }

    #[test]
    fn a_bundle_stays_within_the_servers_limit() {
        let batch: Vec<_> = (0..10).map(|n| outgoing("a", 100, n)).collect();
        let room_for_three = HEAD.len() + 3 * (LENGTH + 100);
        for (longest, expected) in [
            (MAX_FRAME, vec![10]),
            (room_for_three, vec![3, 3, 3, 1]),
            (room_for_three - 1, vec![2; 5]),
            (0, vec![1; 10]),
        ] {
            assert_eq!(counts(&batch, longest), expected, "{longest}");
            let bundles: Vec<Bytes> =
                Bundles::of(batch.clone(), longest).frames.iter().map(Outgoing::frame).collect();
            let sent = bundles.iter().flat_map(|bundle| frames(bundle));
            assert!(sent.map(Result::unwrap).eq(batch.iter().map(|one| one.head())), "{longest}");
        }
        let large = vec![outgoing("a", MOST / 2, 1); 4];
        assert_eq!(counts(&large, MAX_FRAME), [1; 4], "two would be longer than the longest");
    }

    #[test]
    fn every_frame_has_the_outcome_of_its_bundle() {
        let refused = || Err(Error::new(ErrorKind::Forbidden, "no"));
        let batch: Vec<_> = "aabccc".chars().map(|c| outgoing(&c.to_string(), 40, 1)).collect();
        let outcomes =
            Bundles::of(batch.clone(), MAX_FRAME).outcomes(vec![Ok(()), refused(), Ok(())]).unwrap();
        let refused_ones: Vec<_> = outcomes.iter().map(Result::is_err).collect();
        assert_eq!(refused_ones, [false, false, true, false, false, false]);
        for count in [2, 4] {
            assert!(Bundles::of(batch.clone(), MAX_FRAME).outcomes(vec![Ok(()); count]).is_none());
            assert!(Bundles::of(batch[1..4].to_vec(), MAX_FRAME).outcomes(vec![Ok(()); count]).is_none());
        }
    }

    #[test]
    fn a_broken_bundle_yields_its_readable_part_and_one_error() {
        let bundle = bundled(&[outgoing("a", 40, 1), outgoing("a", 50, 2)]).frame();
        for cut in HEAD.len()..bundle.len() {
            let read: Vec<_> = frames(&bundle[..cut]).collect();
            let whole = usize::from(cut >= HEAD.len() + LENGTH + 40);
            // Cut between two of them it is a shorter bundle.
            let broken = usize::from(cut != HEAD.len() + LENGTH + 40);
            assert_eq!(read.iter().filter(|frame| frame.is_ok()).count(), whole, "cut at {cut}");
            assert_eq!(read.len(), whole + broken, "cut at {cut}");
        }
        let short = [&HEAD[..], &[0, 0, 0, 0].repeat(1000)].concat();
        let read: Vec<_> = frames(&short).collect();
        assert!(matches!(&read[..], [Err(error)] if error.reason().contains("too short")), "{read:?}");
    }

    #[test]
    fn a_message_of_a_bundle_keeps_only_its_own_payload_alive() {
        let framed = |text: &'static str, number| {
            let mut frame = frame::encode(&Post::new(text), NodeId::from_u64(1));
            frame::write_header(&mut frame, SequenceHeader { number, epoch: 1, sequence: number });
            Outgoing::new(ChannelName::internal("a"), frame.freeze())
        };
        let bundle = bundled(&[framed("one", 1), framed("two", 2)]).frame();
        let mut payloads = Vec::new();
        decode(&bundle, |decoded| payloads.push(decoded.unwrap().0.payload));
        assert_eq!(payloads, ["one", "two"]);
        assert!(payloads.iter().all(Bytes::is_unique), "a slice of the bundle");
    }

    #[test]
    fn a_frame_outside_a_bundle_is_passed_on_unchanged() {
        for plain in [&b""[..], b"hello", b"\xB5", b"\xB5\x01\x00\x01", b"\xB5\x01\x02\x00"] {
            assert!(frames(plain).map(Result::unwrap).eq([plain]));
        }
        let endless = [&HEAD[..], &vec![0; MAX_FRAME]].concat();
        assert_eq!(frames(&endless).map(Result::unwrap).next(), Some(&endless[..]));
    }
}
