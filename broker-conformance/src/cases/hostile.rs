//! Cases about what others put on the wire: it is told where it stands, and disturbs nothing.

use std::hash::{BuildHasher, RandomState};

use broker_core::{
    Event, GapCause, Malformed, Received, StreamError, StreamItem, Subscription, driver::MAX_FRAME,
};
use tokio::sync::mpsc::unbounded_channel;

use crate::steps::{
    Count, called_with, count, listener, next_call, post, quick_detection, receives, receives_again,
    wait_for_disconnect,
};
use crate::{
    case::{Case, Need, Outcome, case},
    harness::{Harness, Node},
    wait::{fence, next_event, next_gap, next_item, next_message, text, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(foreign_text_is_malformed_and_affects_nothing_else, [4, 11]),
    case!(a_value_listener_is_not_called_with_foreign_text, [7]),
    case!(every_truncated_frame_is_malformed, [11]),
    case!(a_broken_bundle_is_reported_once_after_its_readable_part, [4, 11]),
    case!(every_unreadable_frame_names_its_fault, [11]),
    case!(random_bytes_do_no_harm, [11]),
    case!(a_foreign_payload_beyond_every_limit_is_malformed, [11]),
    case!(foreign_text_overflows_a_queue_like_messages, [4, 5]),
    case!(a_payload_that_does_not_match_its_type_is_malformed, [11]),
    case!(foreign_frames_do_not_affect_health, [10]),
    case!(forged_echoes_do_not_hide_a_dead_link, [10]).needs(&[Need::Server]),
    case!(an_empty_payload_is_a_message, [11]),
    case!(foreign_text_without_subscribers_is_ignored, [12]),
];

/// A frame of version 1, as a node elsewhere would send it: type `Count`, one header, this payload.
fn frame(sequence: u64, payload: &str) -> Vec<u8> {
    let mut frame = b"\xB5\x01\x00\x01\x01\x02\x03\x04\x05\x06\x07\x08".to_vec();
    frame.extend(sequence.to_be_bytes());
    frame.extend(1_u32.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend(b"\x05Count\x00\x01\x01k\x00\x01v");
    frame.extend(payload.as_bytes());
    frame
}

async fn next_malformed(subscription: &mut Subscription) -> Result<Malformed, String> {
    match next_event(subscription).await? {
        Event::Malformed(malformed) => Ok(malformed),
        other => Err(format!("expected something malformed, got {other:?}")),
    }
}

async fn foreign_text_is_malformed_and_affects_nothing_else(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    let session = node.session();
    let mut untyped = session.subscribe("counts").await?;
    let mut typed = session.create_stream::<Count>("counts").await?;
    let mut calls = listener(&session, "counts").await?;
    let mut elsewhere = node.subscribe("news").await?;
    count(&other, "counts", 1).await?;
    next_message(&mut untyped).await?;
    h.publish_raw("counts", b"PRIVMSG hello").await?;
    let malformed = next_malformed(&mut untyped).await?;
    assert_eq!(malformed.length(), 13);
    assert!(malformed.reason().contains("something else posts on this channel"), "{malformed}");
    count(&other, "counts", 2).await?;
    next_message(&mut untyped).await?;
    for item in [next_item(&mut typed).await?, next_call(&mut calls).await?] {
        assert_eq!(item?.n, 1);
    }
    for item in [next_item(&mut typed).await?, next_call(&mut calls).await?] {
        assert!(matches!(&item, Err(StreamError::Malformed(found)) if *found == malformed), "{item:?}");
    }
    for item in [next_item(&mut typed).await?, next_call(&mut calls).await?] {
        assert_eq!(item?.n, 2);
    }
    fence(&other, &mut elsewhere).await?;
    let (here, there) = (node.health(), other.health());
    assert_eq!((here.malformed, here.links, here.failures), (1, 1, 0));
    assert_eq!((there.malformed, there.links, there.failures), (0, 1, 0));
    Ok(())
}

async fn a_value_listener_is_not_called_with_foreign_text(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (sender, mut calls) = unbounded_channel();
    let function = move |count: Received<Count>| {
        let _ = sender.send(Ok(count));
        std::future::ready(())
    };
    session.add_listener("counts", function).await?;
    h.publish_raw("counts", b"hello").await?;
    count(&node, "counts", 1).await?;
    called_with(&mut calls, 1).await?;
    Ok(())
}

/// Cut anywhere before its payload it is malformed; whole it is a message.
async fn every_truncated_frame_is_malformed(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("counts").await?;
    let whole = frame(1, "{\"n\":7}");
    let head = whole.len() - "{\"n\":7}".len();
    for length in 0..head {
        h.publish_raw("counts", &whole[..length]).await?;
        let malformed =
            next_malformed(&mut received).await.map_err(|error| format!("{length} bytes: {error}"))?;
        assert_eq!(malformed.length(), length);
    }
    h.publish_raw("counts", &whole).await?;
    let message = next_message(&mut received).await?;
    assert_eq!((message.origin().as_u64(), message.sequence()), (0x0102_0304_0506_0708, Some(1)));
    assert_eq!((message.type_name(), message.headers().get("k")), (Some("Count"), Some("v")));
    assert_eq!(message.decode::<Count>()?.n, 7);
    fence(&node, &mut received).await?;
    assert_eq!((node.health().malformed, node.health().links), (head as u64, 1));
    Ok(())
}

/// What stands behind the break is not received, and missed: it had numbers.
async fn a_broken_bundle_is_reported_once_after_its_readable_part(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("counts").await?;
    let bundle = |frames: &[Vec<u8>]| {
        let with_lengths =
            frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat());
        [b"\xB5\x01\x01\x00".to_vec(), with_lengths.collect()].concat()
    };
    let (foreign, number) = (vec![0xFF; 40], |n| frame(n, &format!("{{\"n\":{n}}}")));
    h.publish_raw("counts", &bundle(&[number(1), foreign, number(2)])).await?;
    assert_eq!(next_message(&mut received).await?.decode::<Count>()?.n, 1);
    assert_eq!(next_malformed(&mut received).await?.length(), 40, "one that does not read, by itself");
    assert_eq!(next_message(&mut received).await?.decode::<Count>()?.n, 2);
    let broken = bundle(&[number(3), b"short".to_vec(), number(4)]);
    h.publish_raw("counts", &broken).await?;
    assert_eq!(next_message(&mut received).await?.decode::<Count>()?.n, 3);
    let malformed = next_malformed(&mut received).await?;
    assert_eq!((malformed.length(), malformed.reason().contains("too short")), (broken.len(), true));
    h.publish_raw("counts", &bundle(&[number(5)])).await?;
    let gap = next_gap(&mut received).await?;
    assert_eq!((gap.missed, gap.cause), (Some(1), GapCause::Skipped));
    assert_eq!(next_message(&mut received).await?.decode::<Count>()?.n, 5);
    h.publish_raw("counts", &bundle(&[])).await?;
    assert!(next_malformed(&mut received).await?.reason().contains("too early"));
    fence(&node, &mut received).await?;
    assert_eq!((node.health().malformed, node.health().links), (3, 1));
    Ok(())
}

async fn every_unreadable_frame_names_its_fault(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("counts").await?;
    let whole = frame(1, "{\"n\":7}");
    for (at, byte, reason) in [
        (0, b'{', "something else"),
        (1, 0, "version"),
        (1, 2, "version"),
        (1, 255, "version"),
        (2, 1, "flags"),
        (3, 200, "codec"),
        (31, 0, "sequence"),
        (32, 255, "too early"),
        (33, 0xFF, "UTF-8"),
        (38, 255, "too many headers"),
        (40, 200, "too early"),
    ] {
        let mut changed = whole.clone();
        changed[at] = byte;
        h.publish_raw("counts", &changed).await?;
        let malformed = next_malformed(&mut received).await.map_err(|error| format!("{reason}: {error}"))?;
        assert!(malformed.reason().contains(reason), "expected `{reason}`: {malformed}");
    }
    fence(&node, &mut received).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

/// Bytes from a seed, which a failure shows.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Noise, or a frame with a few bytes of noise in it.
    fn bytes(&mut self) -> Vec<u8> {
        if self.next() & 1 == 0 {
            return (0..self.next() % 300).map(|_| self.next() as u8).collect();
        }
        let mut bytes = frame(self.next() % 3, "{\"n\":7}");
        for _ in 0..=self.next() % 3 {
            let at = self.next() as usize % bytes.len();
            bytes[at] = self.next() as u8;
        }
        bytes
    }
}

/// Longer than any noise: it tells where that ends.
const END: usize = 999;

async fn random_bytes_do_no_harm(h: &dyn Harness) -> Outcome {
    let seed = RandomState::new().hash_one("seed") | 1;
    survive(h, Random(seed)).await.map_err(|error| format!("with the seed {seed:#x}: {error}"))?;
    Ok(())
}

async fn survive(h: &dyn Harness, mut random: Random) -> Result<(), String> {
    let node = h.node().await?;
    let session = node.session();
    let mut received = session.subscribe("counts").await.map_err(|error| error.to_string())?;
    let mut calls = listener(&session, "counts").await?;
    let mut malformed = 0;
    for _ in 0..500 {
        h.publish_raw("counts", &random.bytes()).await?;
        h.publish_raw("counts", &[b'-'; END]).await?;
        // Whatever it was, it is one event at most, perhaps with a gap before it; and the listener is called as often.
        let mut events = 0;
        while events < 3 {
            match next_event(&mut received).await? {
                Event::Malformed(end) if end.length() == END => break,
                Event::Malformed(_) => malformed += 1,
                Event::Gap(gap) if gap.cause == GapCause::Skipped => {}
                Event::Message(_) => {}
                other => return Err(format!("{other:?}")),
            }
            events += 1;
        }
        malformed += 1;
        assert!(events < 3, "more than a gap and a message");
        for _ in 0..events {
            drop(next_call(&mut calls).await?);
        }
        match next_call(&mut calls).await? {
            Err(StreamError::Malformed(end)) if end.length() == END => {}
            other => return Err(format!("expected the end of what {events} events were, got {other:?}")),
        }
    }
    fence(&node, &mut received).await?;
    let health = node.health();
    if (health.malformed, health.links) == (malformed, 1) { Ok(()) } else { Err(format!("{health:?}")) }
}

async fn a_foreign_payload_beyond_every_limit_is_malformed(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("counts").await?;
    let mut long = frame(1, "");
    long.resize(MAX_FRAME, b' ');
    h.publish_raw("counts", &long).await?;
    next_message(&mut received).await?;
    for length in [MAX_FRAME + 1, 4 * MAX_FRAME] {
        long.resize(length, b' ');
        h.publish_raw("counts", &long).await?;
        let malformed = next_malformed(&mut received).await?;
        assert_eq!(malformed.length(), length);
        assert!(malformed.reason().contains("longer than any frame"), "{malformed}");
    }
    fence(&node, &mut received).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}

/// What was lost is told to the last one, whatever it was.
async fn foreign_text_overflows_a_queue_like_messages(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.queue_capacity = 8).await?;
    let (mut slow, mut quick) = (node.subscribe("news").await?, node.subscribe("news").await?);
    for n in 0..20 {
        h.publish_raw("news", b"noise").await?;
        next_malformed(&mut quick).await?;
        post(&node, "news", n.to_string()).await?;
        receives(&mut quick, &n.to_string()).await?;
    }
    let gap = crate::wait::next_gap(&mut slow).await?;
    assert_eq!(gap.missed, Some(32));
    for n in 16..20 {
        next_malformed(&mut slow).await?;
        receives(&mut slow, &n.to_string()).await?;
    }
    fence(&node, &mut slow).await?;
    Ok(())
}

async fn a_payload_that_does_not_match_its_type_is_malformed(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut untyped = session.subscribe("counts").await?;
    let mut streams =
        [session.create_stream::<Count>("counts").await?, session.create_stream("counts").await?];
    let payloads = ["", "{", "{\"n\":-1}", "{\"m\":1}", "[[[[[[", "null", "{\"n\":1}{\"n\":2}"];
    for (sequence, payload) in (1..).zip(payloads) {
        h.publish_raw("counts", &frame(sequence, payload)).await?;
        // Who takes the bytes can have them.
        assert_eq!(text(&next_message(&mut untyped).await?)?, payload);
        for stream in &mut streams {
            let item: StreamItem<Count> = next_item(stream).await?;
            let Err(StreamError::Malformed(malformed)) = item else {
                return Err(format!("`{payload}` was taken for {item:?}").into());
            };
            assert!(malformed.reason().contains("`Count`"), "{malformed}");
            assert_eq!(malformed.length(), payload.len());
        }
    }
    count(&node, "counts", 5).await?;
    for stream in &mut streams {
        assert_eq!(next_item(stream).await??.n, 5);
    }
    Ok(())
}

/// The channel of a node's own, as [`Harness::publish_raw`] wants it.
async fn node_and_its_channel(
    h: &dyn Harness,
    change: impl FnOnce(&mut broker_core::Options) + Send,
) -> Result<(Node, String), String> {
    let node = h.node_with(change).await?;
    let channel = format!("$node.{}", node.node_id());
    Ok((node, channel))
}

async fn foreign_frames_do_not_affect_health(h: &dyn Harness) -> Outcome {
    let (node, channel) = node_and_its_channel(h, |_| {}).await?;
    let mut received = node.subscribe("news").await?;
    let since = node.health().since;
    for text in ["", "hello", "\u{0}", "{\"n\":1}"] {
        h.publish_raw(&channel, text.as_bytes()).await?;
    }
    until("the malformed ones to be counted", || node.health().malformed == 4).await?;
    for sequence in [0, 1, 2, u64::MAX] {
        h.publish_raw(&channel, &frame(sequence, "")).await?;
    }
    // Those without a possible sequence are malformed too.
    until("the malformed ones to be counted", || node.health().malformed == 6).await?;
    fence(&node, &mut received).await?;
    assert_eq!((node.health().links, node.health().since), (1, since));
    Ok(())
}

/// Frames in the name of the node itself, with numbers that it has not used yet.
async fn forged_echoes_do_not_hide_a_dead_link(h: &dyn Harness) -> Outcome {
    let (node, channel) = node_and_its_channel(h, quick_detection).await?;
    let mut forged = frame(1 << 48, "");
    forged[4..12].copy_from_slice(&node.node_id().as_u64().to_be_bytes());
    // One for each kind of probe.
    for epoch in 0..3_u32 {
        forged[20..24].copy_from_slice(&epoch.to_be_bytes());
        h.publish_raw(&channel, &forged).await?;
    }
    let mut received = node.subscribe("news").await?;
    fence(&node, &mut received).await?;
    node.line.stall();
    within("the dead link to be found", wait_for_disconnect(&node)).await??;
    node.line.heal();
    assert!(receives_again(&node, &mut received).await? >= 1, "no gap");
    Ok(())
}

async fn an_empty_payload_is_a_message(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    let mut received = node.subscribe("news").await?;
    for _ in 0..3 {
        post(&other, "news", "").await?;
        receives(&mut received, "").await?;
    }
    fence(&other, &mut received).await?;
    assert_eq!(node.health().malformed, 0);
    Ok(())
}

/// On channels that nobody wants, or not any more, and with names that are none.
async fn foreign_text_without_subscribers_is_ignored(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    drop(node.subscribe("old").await?);
    let mut received = node.subscribe("news").await?;
    for channel in ["old", "never", "old.", "a b", "*"] {
        h.publish_raw(channel, b"hello").await?;
        h.publish_raw(channel, &frame(1, "")).await?;
    }
    fence(&node, &mut received).await?;
    assert_eq!(node.health().links, 1);
    Ok(())
}
