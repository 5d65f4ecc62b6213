//! Cases about programs that publish and receive payloads without a frame.

use broker_core::{
    Codec, ErrorKind, Event, GapCause, Options, Raw, Scope, StreamError, Subscription, driver::MAX_FRAME,
};
use broker_macros::Model;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::unnumbered::numbered;
use crate::{
    case::{Case, Outcome, case},
    harness::{Harness, Node},
    steps::{Count, called_with, count, listener, receives, receives_gap},
    wait::{fence, next_event, next_item, next_message, text, until},
};

pub(super) const CASES: &[Case] = &[
    case!(json_of_a_plain_program_is_read_as_the_type_that_is_asked_for, [11]),
    case!(only_declared_channels_take_payloads_without_a_frame, [11]),
    case!(payloads_without_a_frame_are_not_counted, [2, 4]),
    case!(a_bare_post_arrives_once_and_without_a_frame, [1, 2]),
    case!(bare_posts_keep_their_place_among_others, [3]),
    case!(a_bare_post_that_nobody_could_read_is_refused, [11]),
    case!(serverpods_envelopes_are_read_and_written, [11]),
];

async fn accepting(h: &dyn Harness, start: &str, form: Raw) -> Result<Node, String> {
    h.node_with(|options| options.raw = Options::default().accept_raw(start, form).raw).await
}

async fn is_malformed(received: &mut Subscription, length: usize) -> Result<(), String> {
    match next_event(received).await? {
        Event::Malformed(found) if found.length() == length => Ok(()),
        other => Err(format!("expected {length} malformed bytes, got {other:?}")),
    }
}

async fn json_of_a_plain_program_is_read_as_the_type_that_is_asked_for(h: &dyn Harness) -> Outcome {
    let node = accepting(h, "cou", Raw::Json).await?;
    let session = node.session();
    let mut untyped = session.subscribe("counts").await?;
    let mut typed = session.create_stream::<Count>("counts").await?;
    let mut calls = listener(&session, "counts").await?;
    for (payload, n) in [("{\"n\":7}", 7), (" { \"n\" : 8 }\n", 8)] {
        h.publish_raw("counts", payload.as_bytes()).await?;
        let message = next_message(&mut untyped).await?;
        assert_eq!((message.codec(), message.type_name(), message.sequence()), (Codec::Json, None, None));
        assert!(!message.is_local() && text(&message)? == payload);
        assert_eq!(next_item(&mut typed).await??.n, n);
        called_with(&mut calls, n).await?;
    }
    for payload in ["{", "{\"m\":1}", "\u{1}", "[[[[[["] {
        h.publish_raw("counts", payload.as_bytes()).await?;
        assert_eq!(text(&next_message(&mut untyped).await?)?, payload);
        match next_item(&mut typed).await? {
            Err(StreamError::Malformed(found)) if found.reason().contains("`Count`") => {}
            other => return Err(format!("`{payload}` was taken for {other:?}").into()),
        }
    }
    let long = vec![b' '; MAX_FRAME + 1];
    h.publish_raw("counts", &long).await?;
    is_malformed(&mut untyped, long.len()).await?;
    h.publish_raw("counts", b"").await?;
    assert_eq!(text(&next_message(&mut untyped).await?)?, "");
    fence(&node, &mut untyped).await?;
    assert_eq!((node.health().malformed, node.health().links), (1, 1));
    Ok(())
}

/// The broker's own channels least of all, also where every name is declared.
async fn only_declared_channels_take_payloads_without_a_frame(h: &dyn Harness) -> Outcome {
    let (some, all) = (accepting(h, "raw.", Raw::Bytes).await?, accepting(h, "", Raw::Bytes).await?);
    let mut elsewhere = [some.subscribe("news").await?, some.subscribe("raw").await?];
    let mut everywhere = all.subscribe("news").await?;
    for received in &mut elsewhere {
        h.publish_raw(received.channel().as_str(), b"hello").await?;
        is_malformed(received, 5).await?;
    }
    receives(&mut everywhere, "hello").await?;
    // Those of another version, and entries of a bundle, are not payloads.
    h.publish_raw("news", b"\xB6{}").await?;
    is_malformed(&mut everywhere, 3).await?;
    let own = format!("$node.{}", all.node_id());
    h.publish_raw(&own, b"hello").await?;
    h.publish_raw("$digests", b"hello").await?;
    until("both to be counted", || all.health().malformed == 3).await?;
    fence(&some, &mut everywhere).await?;
    Ok(())
}

async fn payloads_without_a_frame_are_not_counted(h: &dyn Harness) -> Outcome {
    let node = accepting(h, "counts", Raw::Json).await?;
    let other = h.node().await?;
    let mut received = node.subscribe("counts").await?;
    for n in 0..5 {
        count(&other, "counts", n).await?;
        assert_eq!(next_message(&mut received).await?.decode::<Count>()?.n, n);
        for _ in 0..2 {
            h.publish_raw("counts", b"{\"n\":99}").await?;
            assert_eq!(next_message(&mut received).await?.decode::<Count>()?.n, 99);
        }
    }
    // Nor is one taken for the first post of a new node: so many of them would push out the node of the numbers.
    h.publish_raw("counts", &numbered(1)).await?;
    assert_eq!(text(&next_message(&mut received).await?)?, "1");
    for _ in 0..10 {
        let posts = (0..200).map(|_| node.post_raw("counts", "{\"n\":99}"));
        for posted in join_all(posts).await {
            posted?;
        }
        for _ in 0..200 {
            assert_eq!(next_message(&mut received).await?.decode::<Count>()?.n, 99);
        }
    }
    h.publish_raw("counts", &numbered(1)).await?;
    h.publish_raw("counts", &numbered(3)).await?;
    receives_gap(&mut received, Some(1), GapCause::Skipped).await?;
    assert_eq!(text(&next_message(&mut received).await?)?, "3");
    fence(&node, &mut received).await?;
    Ok(())
}

async fn a_bare_post_arrives_once_and_without_a_frame(h: &dyn Harness) -> Outcome {
    let (node, other) = (accepting(h, "sensors.", Raw::Bytes).await?, accepting(h, "sen", Raw::Bytes).await?);
    let deaf = h.node().await?;
    let mut received = [node.subscribe("sensors.1").await?, other.subscribe("sensors.1").await?];
    let mut bytes = deaf.subscribe("sensors.1").await?;
    node.post_raw("sensors.1", "21.5").await?;
    for received in &mut received {
        receives(received, "21.5").await?;
        fence(&other, received).await?;
    }
    is_malformed(&mut bytes, 4).await?;
    Ok(())
}

/// Many at once, so that neighbours are bundled where they can be.
async fn bare_posts_keep_their_place_among_others(h: &dyn Harness) -> Outcome {
    let node = accepting(h, "counts", Raw::Json).await?;
    let mut received = node.subscribe("counts").await?;
    let posts = (0..300).map(async |n: u64| match n % 3 {
        0 => node.post_raw("counts", format!("{{\"n\":{n}}}")).await,
        _ => node.post_message("counts", Count { n }, Scope::Global).await,
    });
    for posted in join_all(posts).await {
        posted?;
    }
    for n in 0..300 {
        let message = next_message(&mut received).await?;
        assert_eq!((message.decode::<Count>()?.n, message.sequence().is_none()), (n, n % 3 == 0));
    }
    fence(&node, &mut received).await?;
    Ok(())
}

async fn a_bare_post_that_nobody_could_read_is_refused(h: &dyn Harness) -> Outcome {
    let node = accepting(h, "sensors.", Raw::Bytes).await?;
    let long = vec![b' '; node.options().max_payload + 1];
    for (channel, payload, kind, word) in [
        ("news", &b"21.5"[..], ErrorKind::InvalidInput, "accept_raw"),
        ("sensors.", b"21.5", ErrorKind::InvalidInput, "channel name"),
        ("sensors.1", b"", ErrorKind::InvalidInput, "empty"),
        ("sensors.1", b"\xB5", ErrorKind::InvalidInput, "B5"),
        ("sensors.1", b"\xB6\x01", ErrorKind::InvalidInput, "B6"),
        ("sensors.1", &long, ErrorKind::TooLarge, "max_payload"),
    ] {
        let error = node.post_raw(channel, payload.to_vec()).await.err().ok_or(word)?;
        assert!(error.kind() == kind && error.to_string().contains(word), "{error}");
        assert!(error.to_string().contains("post_raw"), "{error}");
    }
    let mut received = node.subscribe("sensors.1").await?;
    node.post_raw("sensors.1", vec![b' '; long.len() - 1]).await?;
    assert_eq!(next_message(&mut received).await?.payload()?.len(), long.len() - 1);
    Ok(())
}

/// As a server of Serverpod 3 publishes it.
const UPDATE: &str =
    r#"{"className":"ImageUpdate","data":{"__className__":"ImageUpdate","pixelIndex":17,"colorIndex":3}}"#;

#[derive(Debug, PartialEq, Serialize, Deserialize, Model)]
#[serde(rename_all = "camelCase")]
struct ImageUpdate {
    pixel_index: u64,
    color_index: u8,
}

async fn serverpods_envelopes_are_read_and_written(h: &dyn Harness) -> Outcome {
    let node = accepting(h, "pixel-added", Raw::Serverpod).await?;
    let outside = accepting(h, "pixel-added", Raw::Bytes).await?;
    let mut bytes = outside.subscribe("pixel-added").await?;
    let mut updates = node.create_stream::<ImageUpdate>("pixel-added").await?;
    let mut untyped = node.subscribe("pixel-added").await?;
    let expected = || ImageUpdate { pixel_index: 17, color_index: 3 };
    h.publish_raw("pixel-added", UPDATE.as_bytes()).await?;
    assert_eq!(*next_item(&mut updates).await??, expected());
    assert_eq!(next_message(&mut untyped).await?.type_name(), Some("ImageUpdate"));
    receives(&mut bytes, UPDATE).await?;
    node.post_raw("pixel-added", Raw::Serverpod.encode(&expected())?).await?;
    receives(&mut bytes, UPDATE).await?;
    assert_eq!(*next_item(&mut updates).await??, expected());
    next_message(&mut untyped).await?;
    h.publish_raw("pixel-added", br#"{"className":"Other","data":7}"#).await?;
    match next_item(&mut updates).await? {
        Err(StreamError::WrongType { message, .. }) if message.type_name() == Some("Other") => {}
        other => return Err(format!("{other:?}").into()),
    }
    assert_eq!(text(&next_message(&mut untyped).await?)?, "7");
    h.publish_raw("pixel-added", b"{\"n\":1}").await?;
    is_malformed(&mut untyped, 7).await?;
    Ok(())
}
