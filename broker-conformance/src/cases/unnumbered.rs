//! Cases about messages of programs that are no nodes: frames without numbers.

use std::time::{Duration, Instant};

use broker_core::{GapCause, Identity, Received};
use futures_util::FutureExt;
use tokio::sync::mpsc::unbounded_channel;

use super::requests::{ASKS, Answer, Ask, answers, ask};
use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::{called_with, count, listener, next_call, receives_gap, revocation::open},
    wait::{fence, next_item, next_message, text, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_message_without_numbers_is_delivered_like_any_other, [1, 11]),
    case!(repeated_bytes_without_numbers_are_two_messages, [2]),
    case!(messages_without_numbers_are_not_counted, [4]),
    case!(many_posters_without_numbers_push_no_node_out, [4]),
    case!(frames_without_numbers_are_refused_on_the_brokers_own_channels, [8, 11]),
    case!(a_frame_without_numbers_that_has_some_is_malformed, [11]),
];

/// A poster that is no node, or one that says it is the node of [`numbered`].
const NODE: u64 = 0x0102_0304_0506_0708;

/// A frame of version 1 without a type and headers.
fn frame(flags: u8, (origin, number): (u64, u64), (epoch, sequence): (u32, u64), payload: &str) -> Vec<u8> {
    let mut frame = vec![0xB5, 1, flags, 1];
    frame.extend(origin.to_be_bytes());
    frame.extend(number.to_be_bytes());
    frame.extend(epoch.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0]);
    frame.extend(payload.as_bytes());
    frame
}

fn unnumbered(origin: u64, number: u64, payload: &str) -> Vec<u8> {
    frame(4, (origin, number), (0, 0), payload)
}

/// Of a node that posts here alone.
pub(super) fn numbered(sequence: u64) -> Vec<u8> {
    frame(0, (NODE, sequence), (1, sequence), &sequence.to_string())
}

/// With the type, which stands before the headers.
fn count_of(n: u64) -> Vec<u8> {
    let head = unnumbered(0, n, "");
    [&head[..32], b"\x05Count\x00\x01\x01k\x00\x01v", format!("{{\"n\":{n}}}").as_bytes()].concat()
}

async fn a_message_without_numbers_is_delivered_like_any_other(h: &dyn Harness) -> Outcome {
    let (node, other) = (h.node().await?, h.node().await?);
    let session = node.session();
    let mut untyped = session.subscribe("counts").await?;
    let mut elsewhere = other.subscribe("counts").await?;
    let mut typed = session.create_stream::<crate::steps::Count>("counts").await?;
    let mut calls = listener(&session, "counts").await?;
    count(&other, "counts", 1).await?;
    next_message(&mut untyped).await?;
    h.publish_raw("counts", &count_of(2)).await?;
    let message = next_message(&mut untyped).await?;
    assert_eq!((message.sequence(), message.is_local()), (None, false));
    assert_eq!((message.origin().as_u64(), message.id().number()), (0, 2));
    assert_eq!((message.type_name(), message.headers().get("k")), (Some("Count"), Some("v")));
    assert!(!session.has_posted(&message));
    count(&other, "counts", 3).await?;
    next_message(&mut untyped).await?;
    for n in 1..=3 {
        assert_eq!(next_message(&mut elsewhere).await?.decode::<crate::steps::Count>()?.n, n);
        assert_eq!(next_item(&mut typed).await??.n, n);
        called_with(&mut calls, n).await?;
    }
    fence(&other, &mut untyped).await?;
    assert_eq!((node.health().malformed, other.health().malformed), (0, 0));
    Ok(())
}

async fn repeated_bytes_without_numbers_are_two_messages(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    for _ in 0..2 {
        // Its origin and its number are nothing by which it could be known again, also those of this node.
        for origin in [0, NODE, node.node_id().as_u64()] {
            h.publish_raw("news", &unnumbered(origin, 1, "again")).await?;
            assert_eq!(text(&next_message(&mut received).await?)?, "again");
        }
    }
    fence(&node, &mut received).await?;
    Ok(())
}

/// Neither with those of a node of the same id, nor by any gap.
async fn messages_without_numbers_are_not_counted(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    h.publish_raw("news", &numbered(1)).await?;
    for n in [7, 3, u64::MAX, 0, 1 << 48] {
        h.publish_raw("news", &unnumbered(NODE, n, "between")).await?;
    }
    h.publish_raw("news", &numbered(2)).await?;
    h.publish_raw("news", &unnumbered(NODE, 9, "between")).await?;
    h.publish_raw("news", &numbered(5)).await?;
    for expected in ["1", "between", "between", "between", "between", "between", "2", "between"] {
        assert_eq!(text(&next_message(&mut received).await?)?, expected);
    }
    receives_gap(&mut received, Some(2), GapCause::Skipped).await?;
    assert_eq!(text(&next_message(&mut received).await?)?, "5");
    fence(&node, &mut received).await?;
    Ok(())
}

/// In bundles, which may hold them.
async fn many_posters_without_numbers_push_no_node_out(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    h.publish_raw("news", &numbered(1)).await?;
    assert_eq!(text(&next_message(&mut received).await?)?, "1");
    for bundle in 0..10 {
        let frames = (0..200).map(|n| unnumbered(10_000 + bundle * 200 + n, n, "post"));
        let entries = frames.flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], &frame].concat());
        let bytes: Vec<u8> = b"\xB5\x01\x01\x00".iter().copied().chain(entries).collect();
        h.publish_raw("news", &bytes).await?;
        for _ in 0..200 {
            assert_eq!(text(&next_message(&mut received).await?)?, "post");
        }
    }
    // A node that has been forgotten would begin anew.
    h.publish_raw("news", &numbered(1)).await?;
    h.publish_raw("news", &numbered(3)).await?;
    receives_gap(&mut received, Some(1), GapCause::Skipped).await?;
    assert_eq!(text(&next_message(&mut received).await?)?, "3");
    fence(&node, &mut received).await?;
    Ok(())
}

/// What would be a nudge, an echo, a digest, a question or a reply.
async fn frames_without_numbers_are_refused_on_the_brokers_own_channels(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = open(&here, Identity::new("ada", Instant::now())).await?;
    let mut received = here.subscribe("news").await?;
    answers(&there, "there").await?;
    // From here on its channel for replies is subscribed.
    ask(&here, 1).await?;
    let (asked, mut asks) = unbounded_channel();
    there.add_listener(ASKS, move |ask: Received<Ask>| _ = asked.send(ask.n)).await?;
    let own = here.node_id();
    let record = r#"{"v":1,"node":"0102030405060708","n":9,"at":4000000000000000000,"user":"ada"}"#;
    let before = (here.health().malformed, there.health().malformed);
    let forged = [
        ("$revocations".to_owned(), record),
        ("$revocations".to_owned(), ""),
        ("$digests".to_owned(), ""),
        (format!("$node.{own}"), ""),
        (format!("$node.{own}.replies"), r#"{"n":1,"by":"nobody"}"#),
    ];
    for origin in [0, own.as_u64(), there.node_id().as_u64()] {
        for (channel, payload) in &forged {
            h.publish_raw(channel, &unnumbered(origin, 1, payload)).await?;
        }
    }
    until("all of them to be counted", || here.health().malformed == before.0 + 15).await?;
    // It has no session of a user, so it does not follow the revocations; and the others are those of one node.
    until("the digests to be counted", || there.health().malformed >= before.1 + 3).await?;
    fence(&there, &mut received).await?;
    assert!(here.health().links == 1 && session.closed().now_or_never().is_none());
    let request = here.request::<_, Answer>(ASKS, Ask { n: 5 }, Duration::from_secs(600));
    assert_eq!(within("the reply", request).await??.by, "there");
    assert_eq!(next_call(&mut asks).await?, 5);
    Ok(())
}

async fn a_frame_without_numbers_that_has_some_is_malformed(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let mut received = node.subscribe("news").await?;
    let mut malformed = 0;
    for (flags, epoch, sequence, reason) in [
        (4, 1, 0, "an epoch or a sequence number"),
        (4, 0, 1, "an epoch or a sequence number"),
        (4, 0, u64::MAX, "an epoch or a sequence number"),
        (0, 0, 0, "an invalid sequence number"),
        (4 | 8, 0, 0, "unknown flags"),
        (4 | 16, 0, 0, "unknown flags"),
        (4 | 1, 0, 0, "unknown flags"),
    ] {
        h.publish_raw("news", &frame(flags, (NODE, 1), (epoch, sequence), "12345678")).await?;
        malformed += 1;
        match crate::wait::next_event(&mut received).await? {
            broker_core::Event::Malformed(found) if found.reason().contains(reason) => {}
            other => return Err(format!("expected `{reason}`, got {other:?}").into()),
        }
    }
    fence(&node, &mut received).await?;
    assert_eq!((node.health().malformed, node.health().links), (malformed, 1));
    Ok(())
}
