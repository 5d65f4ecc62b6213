//! Cases about limits: what just fits arrives bit for bit, and one more is refused before anything is sent.

use std::time::Duration;

use broker_core::{Broker, ErrorKind, Headers, Post, Scope, Subscription};
use bytes::Bytes;
use futures_util::future::{join_all, maybe_done, poll_immediate};

use super::models::Farewell;
use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{LIMIT, fence, next_message, until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(payloads_arrive_bit_for_bit, [11]),
    case!(the_largest_payload_arrives_and_one_byte_more_is_refused, [11]),
    case!(a_custom_payload_limit_is_exact, [11]),
    case!(headers_at_their_limits_arrive_and_beyond_are_refused, [11]),
    case!(the_largest_possible_message_arrives, [11]),
    case!(posts_beyond_the_outbox_wait_in_order, [6, 11]),
    case!(a_blocked_full_outbox_fails_posts_within_the_limit, [6, 11]).needs(&[Need::Confirms]),
];

/// The same bytes everywhere, but none alike that lie side by side.
fn pattern(length: usize) -> Bytes {
    (0..length).map(|n| (n.wrapping_mul(31) ^ (n >> 8)) as u8).collect()
}

async fn payloads_arrive_bit_for_bit(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (mut near, mut far) = (here.subscribe("news").await?, there.subscribe("news").await?);
    let mut payloads: Vec<Bytes> = (0..=255).map(|byte| Bytes::copy_from_slice(&[byte])).collect();
    payloads.extend(
        [&b""[..], b"\0", b"\r\n", b"$-1\r\n", b"*1\r\n", b"\xB5\x01", b" ", b"null"].map(Bytes::from_static),
    );
    payloads.extend([2, 31, 32, 33, 1000, 4096, 65_535, 65_536, 200_000].map(pattern));
    for scope in [Scope::Global, Scope::Local] {
        for payload in &payloads {
            here.publish("news", payload.clone(), scope).await?;
            assert_eq!(next_message(&mut near).await?.payload()?, payload);
            if scope == Scope::Global {
                assert_eq!(next_message(&mut far).await?.payload()?, payload);
            }
        }
    }
    fence(&here, &mut far).await?;
    Ok(())
}

/// Posts of `limit` bytes arrive; one byte more is refused in every scope, in the same words.
async fn kept_to_the_byte(poster: &Broker, news: &mut Subscription, limit: usize) -> Outcome {
    poster.publish("news", pattern(limit), Scope::Global).await?;
    assert_eq!(next_message(news).await?.payload()?, pattern(limit));
    for scope in [Scope::Global, Scope::Local, Scope::Auto] {
        let error = poster.publish("news", pattern(limit + 1), scope).await.err();
        let Some(error) = error else { return Err(format!("{} bytes were taken", limit + 1).into()) };
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        let said = format!(
            "a payload of {} bytes; the limit is {limit} (option max_payload): send a reference to it \
             instead, or raise the limit on every node",
            limit + 1
        );
        assert_eq!(error.message(), said);
        assert_eq!(error.channel().map(|name| name.as_str()), Some("news"));
    }
    fence(poster, news).await?;
    Ok(())
}

async fn the_largest_payload_arrives_and_one_byte_more_is_refused(h: &dyn Harness) -> Outcome {
    for limit in [512 << 10, 900_000] {
        let here = h.node_with(|options| options.max_payload = limit).await?;
        let there = h.node().await?;
        let mut news = there.subscribe("news").await?;
        kept_to_the_byte(&here, &mut news, limit).await?;
        assert_eq!((here.health().links, there.health().links), (1, 1));
    }
    Ok(())
}

async fn a_custom_payload_limit_is_exact(h: &dyn Harness) -> Outcome {
    let here = h.node_with(|options| options.max_payload = 100).await?;
    let there = h.node().await?;
    let mut news = there.subscribe("news").await?;
    kept_to_the_byte(&here, &mut news, 100).await?;
    // A value counts by its encoding: {"reason":"…"} takes 13 bytes beside the text.
    let session = here.session();
    let fits = Farewell { reason: "r".repeat(87) };
    session.post_message("news", fits.clone(), Scope::Global).await?;
    assert_eq!(*next_message(&mut news).await?.decode::<Farewell>()?, fits);
    let error = session.post_message("news", Farewell { reason: "r".repeat(88) }, Scope::Global).await.err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::TooLarge));
    // The limit is on what a node posts; it receives what others may post.
    there.publish("news", pattern(1000), Scope::Global).await?;
    assert_eq!(next_message(&mut news).await?.payload()?, pattern(1000));
    Ok(())
}

async fn headers_at_their_limits_arrive_and_beyond_are_refused(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut news = there.subscribe("news").await?;
    let many = |count: usize| (0..count).map(|n| (format!("name {n}"), n.to_string())).collect::<Headers>();
    let big = |bytes: usize| [("name".to_owned(), "v".repeat(bytes - 4))].into_iter().collect::<Headers>();
    let named = |length: usize| [("n".repeat(length), String::new())].into_iter().collect::<Headers>();
    for headers in [many(Headers::MAX_COUNT), big(Headers::MAX_BYTES), named(1), named(255)] {
        here.publish("news", Post::new("post").with_headers(headers.clone()), Scope::Global).await?;
        assert!(next_message(&mut news).await?.headers().iter().eq(headers.iter()));
    }
    for (headers, kind) in [
        (many(Headers::MAX_COUNT + 1), ErrorKind::TooLarge),
        (many(1000), ErrorKind::TooLarge),
        (big(Headers::MAX_BYTES + 1), ErrorKind::TooLarge),
        (big(100_000), ErrorKind::TooLarge),
        (named(0), ErrorKind::InvalidInput),
        (named(256), ErrorKind::InvalidInput),
    ] {
        for scope in [Scope::Global, Scope::Local] {
            let post = Post::new("post").with_headers(headers.clone());
            let error = here.publish("news", post, scope).await.err();
            let Some(error) = error else { return Err(format!("{} headers taken", headers.len()).into()) };
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().len() < 400, "{error}");
        }
    }
    fence(&here, &mut news).await?;
    Ok(())
}

async fn the_largest_possible_message_arrives(h: &dyn Harness) -> Outcome {
    let here = h.node_with(|options| options.max_payload = 900_000).await?;
    let there = h.node().await?;
    let name = "x".repeat(broker_core::ChannelName::MAX);
    let mut news = there.subscribe(&name).await?;
    let value = "v".repeat(Headers::MAX_BYTES / Headers::MAX_COUNT - 3);
    let headers: Headers = (100..100 + Headers::MAX_COUNT).map(|n| (n.to_string(), value.clone())).collect();
    for _ in 0..5 {
        let post = Post::new(pattern(900_000)).with_headers(headers.clone());
        here.publish(&name, post, Scope::Global).await?;
        let message = next_message(&mut news).await?;
        assert_eq!(message.payload()?, pattern(900_000));
        assert!(message.headers().iter().eq(headers.iter()));
    }
    assert_eq!((here.health().links, there.health().links), (1, 1));
    Ok(())
}

/// An outbox for one large frame, and twenty posts at once: each is sent, in the order in which they came.
async fn posts_beyond_the_outbox_wait_in_order(h: &dyn Harness) -> Outcome {
    // On a busy machine an echo or a digest waits for long behind so much.
    let patient = |options: &mut broker_core::Options| {
        (options.heartbeat_timeout, options.publish_timeout) = (LIMIT, LIMIT);
        options.digest_interval = LIMIT;
    };
    let here = h
        .node_with(|options| {
            patient(options);
            options.outbox_bytes = broker_core::driver::MAX_FRAME;
        })
        .await?;
    let there = h.node_with(patient).await?;
    let mut news = there.subscribe("news").await?;
    let mut posts = Vec::new();
    for n in 0..20_u8 {
        let mut post = Box::pin(maybe_done(here.publish("news", vec![n; 400_000], Scope::Global)));
        // Begun now; a backend that is quick may even be done with it.
        poll_immediate(&mut post).await;
        posts.push(post);
    }
    within("every outcome", join_all(&mut posts)).await?;
    for mut post in posts {
        post.as_mut().take_output().ok_or("no outcome")??;
    }
    for n in 0..20 {
        let payload = next_message(&mut news).await?.payload()?;
        // Not the payload itself, should it be another.
        assert!(payload == vec![n; 400_000], "expected post {n}, got {:?}…", &payload[..1]);
    }
    Ok(())
}

async fn a_blocked_full_outbox_fails_posts_within_the_limit(h: &dyn Harness) -> Outcome {
    let change = |options: &mut broker_core::Options| {
        options.outbox_bytes = broker_core::driver::MAX_FRAME;
        options.publish_timeout = crate::wait::SHORT;
        options.heartbeat = Duration::from_secs(3600);
    };
    let node = h.node_with(change).await?;
    node.line.stall();
    let posts = (0..10_u8).map(|n| node.publish("news", vec![n; 400_000], Scope::Global));
    for outcome in within("every outcome", join_all(posts)).await? {
        let error = outcome.err();
        assert!(error.as_ref().is_some_and(broker_core::Error::is_transient), "{error:?}");
    }
    node.line.heal();
    until("a new link", || node.health().links == 2).await?;
    let mut news = node.subscribe("news").await?;
    node.publish("news", "after", Scope::Global).await?;
    assert_eq!(next_message(&mut news).await?.payload()?, "after");
    Ok(())
}
