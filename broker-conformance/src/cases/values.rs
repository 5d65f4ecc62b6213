//! Cases about what is in a message: types, headers, codecs, and bytes that are no message at all.

use std::{collections::BTreeMap, fmt::Debug, ptr};

use broker_core::{Broker, Codec, ErrorKind, Event, Headers, Model, Post, Received, Scope, StreamError};
use broker_macros::Model;

use super::models::{Farewell, Greeting, Tagged, Unencodable};
use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    wait::{collect, fence, next_event, next_item, next_message, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_message_of_another_type_is_an_error_item, [11]),
    case!(a_payload_that_does_not_decode_is_an_error_item, [11]),
    case!(foreign_bytes_are_an_error_item_and_counted, [4, 11]),
    case!(a_value_listener_is_called_with_valid_values_only, [7]),
    case!(headers_arrive_unchanged, [11]),
    case!(a_value_is_shared_in_a_process_and_a_copy_elsewhere, [2]),
    case!(a_local_value_is_neither_encoded_nor_copied, [2]),
    case!(a_value_that_cannot_be_encoded_is_refused_before_sending, [11]),
    case!(a_value_that_does_not_round_trip_is_refused_in_every_scope, [11]),
    case!(a_value_at_the_edge_of_its_encoding_round_trips, [11]),
    case!(two_codecs_share_a_channel, [11]),
];

async fn a_message_of_another_type_is_an_error_item(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (session, poster) = (here.session(), there.session());
    let mut greetings = session.create_stream::<Greeting>("mixed").await?;
    let farewell = Farewell { reason: "late".to_owned() };
    for scope in [Scope::Global, Scope::Local] {
        let poster = if scope == Scope::Local { &session } else { &poster };
        poster.post_message("mixed", farewell.clone(), scope).await?;
        poster.post("mixed", "no type", scope).await?;
        poster.post_message("mixed", Greeting::new(7), scope).await?;

        let Err(StreamError::WrongType { expected, message }) = next_item(&mut greetings).await? else {
            return Err("a farewell on a stream of greetings".into());
        };
        assert_eq!((expected, message.type_name()), (Greeting::NAME, Some(Farewell::NAME)));
        // It can still be read as what it is.
        assert_eq!(*message.decode::<Farewell>()?, farewell);
        let Err(StreamError::WrongType { message, .. }) = next_item(&mut greetings).await? else {
            return Err("no type on a stream of greetings".into());
        };
        assert_eq!((message.type_name(), &message.payload()?[..]), (None, &b"no type"[..]));
        assert_eq!(*next_item(&mut greetings).await??, Greeting::new(7));
    }
    Ok(())
}

/// Has the name of another type and none of its fields.
#[derive(Debug, serde::Serialize, serde::Deserialize, Model)]
#[model(name = "Greeting")]
struct Impostor {
    mood: f32,
}

async fn a_payload_that_does_not_decode_is_an_error_item(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (session, poster) = (here.session(), there.session());
    let mut greetings = session.create_stream::<Greeting>("mixed").await?;
    let mut other = here.subscribe("mixed").await?;
    for scope in [Scope::Global, Scope::Local] {
        let poster = if scope == Scope::Local { &session } else { &poster };
        poster.post_message("mixed", Impostor { mood: 0.5 }, scope).await?;
        poster.post_message("mixed", Greeting::new(8), scope).await?;
        let Err(StreamError::Malformed(malformed)) = next_item(&mut greetings).await? else {
            return Err("an impostor was taken for a greeting".into());
        };
        assert!(malformed.reason().contains("missing field"), "{malformed}");
        assert_eq!(*next_item(&mut greetings).await??, Greeting::new(8));
        // Whether it decodes is the business of whoever asks for the type: the message itself is fine.
        assert_eq!(next_message(&mut other).await?.payload()?, "{\"mood\":0.5}");
        next_message(&mut other).await?;
    }
    assert_eq!(here.health().malformed, 0);
    Ok(())
}

async fn foreign_bytes_are_an_error_item_and_counted(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (mut untyped, mut typed) =
        (node.subscribe("news").await?, session.create_stream::<Greeting>("news").await?);
    let foreign: [&[u8]; 7] =
        [b"hello", b"", b"{\"text\":\"hi\"}", &[0xB5], &[0xB5, 1], &[0xB5, 99, 0, 0], &[0xFF; 4000]];
    for bytes in foreign {
        h.publish_raw("news", bytes).await?;
        let Event::Malformed(malformed) = next_event(&mut untyped).await? else {
            return Err(format!("{bytes:?} was taken for a message").into());
        };
        assert_eq!(malformed.length(), bytes.len());
        let Err(StreamError::Malformed(same)) = next_item(&mut typed).await? else {
            return Err(format!("{bytes:?} was taken for a greeting").into());
        };
        assert_eq!(same, malformed);
        session.post_message("news", Greeting::new(1), Scope::Global).await?;
        assert!(matches!(next_event(&mut untyped).await?, Event::Message(_)));
        assert_eq!(*next_item(&mut typed).await??, Greeting::new(1));
    }
    assert_eq!(node.health().malformed, 7);
    assert_eq!(node.health().links, 1, "foreign bytes are no reason to lose the link");
    Ok(())
}

async fn a_value_listener_is_called_with_valid_values_only(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let (sender, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let listener = move |greeting: Received<Greeting>| {
        // Fails once the case is over.
        let _ = sender.send(greeting.number);
        async {}
    };
    session.add_listener("mixed", listener).await?;
    let mut order = node.subscribe("mixed").await?;
    for n in 0..10 {
        session.post_message("mixed", Farewell { reason: "late".to_owned() }, Scope::Global).await?;
        h.publish_raw("mixed", b"foreign").await?;
        session.post_message("mixed", Greeting::new(n), Scope::Global).await?;
        assert_eq!(within("the good one", calls.recv()).await?, Some(n));
        for _ in 0..3 {
            next_event(&mut order).await?;
        }
    }
    Ok(())
}

async fn headers_arrive_unchanged(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (mut near, mut far) = (here.subscribe("news").await?, there.subscribe("news").await?);
    let pairs = [
        ("trace", "4bf92f35"),
        ("empty", ""),
        ("Trace", "case matters"),
        ("trace", "twice"),
        ("space in a name", "line one\r\nline two\0"),
        ("ключ", "значение 🦀"),
        ("a:b=c", "{\"json\":true}"),
    ];
    let headers: Headers = pairs.into_iter().collect();
    for scope in [Scope::Global, Scope::Local] {
        for headers in [headers.clone(), Headers::new()] {
            here.publish("news", Post::new("post").with_headers(headers.clone()), scope).await?;
            let message = next_message(&mut near).await?;
            assert!(message.headers().iter().eq(headers.iter()), "{message:?}");
            if scope == Scope::Global {
                let message = next_message(&mut far).await?;
                assert!(message.headers().iter().eq(headers.iter()), "{message:?}");
            }
        }
    }
    let greeting = Post::encode(&Greeting::new(3), Codec::Json)?.with_headers(headers.clone());
    let session = there.session();
    let mut typed = session.create_stream::<Greeting>("typed").await?;
    here.publish("typed", greeting, Scope::Global).await?;
    let received = next_item(&mut typed).await??;
    assert_eq!((&*received, received.headers()), (&Greeting::new(3), &headers));
    assert_eq!(received.origin(), here.node_id());
    Ok(())
}

async fn a_value_is_shared_in_a_process_and_a_copy_elsewhere(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let sessions = [here.session(), here.session(), there.session()];
    let mut streams = Vec::new();
    for session in &sessions {
        streams.push(session.create_stream::<Greeting>("news").await?);
    }
    for n in 0..20 {
        sessions[0].post_message("news", Greeting::new(n), Scope::Global).await?;
        let mut received = Vec::new();
        for stream in &mut streams {
            received.push(next_item(stream).await??);
        }
        let [first, second, elsewhere] = &received[..] else { return Err("three of them".into()) };
        assert!(ptr::eq(&raw const **first, &raw const **second), "decoded twice in one process");
        assert!(!ptr::eq(&raw const **first, &raw const **elsewhere));
        assert_eq!((&**first, &**elsewhere), (&Greeting::new(n), &Greeting::new(n)));
        assert_eq!(first.id(), elsewhere.id());
    }
    Ok(())
}

async fn a_local_value_is_neither_encoded_nor_copied(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let sessions = [node.session(), node.session()];
    let mut streams = Vec::new();
    for session in &sessions {
        streams.push(session.create_stream::<Tagged>("news").await?);
    }
    let mut untyped = node.subscribe("news").await?;
    sessions[0].post_message("news", Tagged { number: 5, tag: 7 }, Scope::Local).await?;
    let (first, second) = (next_item(&mut streams[0]).await??, next_item(&mut streams[1]).await??);
    assert!(ptr::eq(&raw const *first, &raw const *second));
    // No encoding has the tag.
    assert_eq!((first.number, first.tag), (5, 7));
    // Only who asks for bytes has it encoded.
    let message = next_message(&mut untyped).await?;
    assert_eq!(message.type_name(), Some(Tagged::NAME));
    assert_eq!(message.payload()?, "{\"number\":5}");
    Ok(())
}

async fn a_value_that_cannot_be_encoded_is_refused_before_sending(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut news = node.subscribe("news").await?;
    for scope in SCOPES {
        let error = session.post_message("news", Unencodable, scope).await.err();
        let Some(error) = error else { return Err("what has no encoding was sent".into()) };
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Codec, Some("post_message")), "{error}");
        assert!(error.message().contains(Unencodable::NAME), "{error}");
    }
    fence(&node, &mut news).await?;
    Ok(())
}

const SCOPES: [Scope; 3] = [Scope::Local, Scope::Global, Scope::Auto];

/// What an encoding may have no room for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Model)]
enum Odd {
    Leaf,
    Number(f64),
    Short(f32),
    Twice(Option<Option<u8>>),
    Nothing(Option<()>),
    Keyed(BTreeMap<(u8, u8), u8>),
    Wide(i128, u128),
    List(Vec<Odd>),
    Deeper(Box<Odd>),
}

/// Around a leaf, so that it is nested that deep: a variant is as deep as its braces.
fn nested(depth: usize) -> Odd {
    (0..depth).fold(Odd::Leaf, |value, _| Odd::Deeper(Box::new(value)))
}

async fn refused(node: &Broker, value: Odd) -> Outcome {
    let session = node.session();
    for scope in SCOPES {
        let error = session.post_message("odd", value.clone(), scope).await.err();
        let error = error.ok_or_else(|| format!("{value:?} was posted with {scope:?}"))?;
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Codec, Some("post_message")), "{error}");
        assert!(error.message().contains(Odd::NAME), "{error}");
    }
    let codec = node.options().codec;
    assert_eq!(Post::encode(&value, codec).map_err(|error| error.kind()).err(), Some(ErrorKind::Codec));
    Ok(())
}

async fn a_value_that_does_not_round_trip_is_refused_in_every_scope(h: &dyn Harness) -> Outcome {
    for codec in [Codec::Json, Codec::MsgPack] {
        let node = h.node_with(|options| options.codec = codec).await?;
        let mut received = node.subscribe("odd").await?;
        for value in [Odd::Twice(Some(None)), Odd::Nothing(Some(())), nested(128), nested(5000)] {
            refused(&node, Odd::List(vec![Odd::Leaf, value])).await?;
        }
        if codec == Codec::Json {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                refused(&node, Odd::Number(value)).await?;
                refused(&node, Odd::Short(value as f32)).await?;
            }
            refused(&node, Odd::Keyed([((1, 2), 3)].into())).await?;
        }
        fence(&node, &mut received).await?;
    }
    Ok(())
}

async fn a_value_at_the_edge_of_its_encoding_round_trips(h: &dyn Harness) -> Outcome {
    for codec in [Codec::Json, Codec::MsgPack] {
        let (here, there) = (h.node_with(|options| options.codec = codec).await?, h.node().await?);
        let (session, other) = (here.session(), there.session());
        let mut near = session.create_stream::<Odd>("odd").await?;
        let mut far = other.create_stream::<Odd>("odd").await?;
        let mut values = vec![
            nested(127),
            Odd::Twice(None),
            Odd::Twice(Some(Some(0))),
            Odd::Nothing(None),
            Odd::Wide(i128::MIN, u128::MAX),
            Odd::Number(f64::MIN_POSITIVE / 4.0),
            Odd::Number(-0.0),
            Odd::Short(f32::MAX),
        ];
        if codec == Codec::MsgPack {
            values.extend([Odd::Number(f64::NAN), Odd::Number(f64::INFINITY)]);
            values.push(Odd::Keyed([((1, 2), 3)].into()));
        }
        // NaN is not equal to itself.
        let text = |value: &dyn Debug| format!("{value:?}");
        for value in values {
            for scope in SCOPES {
                session.post_message("odd", value.clone(), scope).await?;
                assert_eq!(text(&*next_item(&mut near).await??), text(&value));
                if scope != Scope::Local {
                    assert_eq!(text(&*next_item(&mut far).await??), text(&value));
                }
            }
        }
    }
    Ok(())
}

async fn two_codecs_share_a_channel(h: &dyn Harness) -> Outcome {
    let json = h.node_with(|options| options.codec = Codec::Json).await?;
    let packed = h.node_with(|options| options.codec = Codec::MsgPack).await?;
    let sessions = [json.session(), packed.session()];
    let mut untyped = json.subscribe("news").await?;
    let mut streams = Vec::new();
    for session in &sessions {
        streams.push(session.create_stream::<Greeting>("news").await?);
    }
    for (n, session) in sessions.iter().enumerate() {
        session.post_message("news", Greeting::new(n as u64), Scope::Global).await?;
        for stream in &mut streams {
            assert_eq!(*next_item(stream).await??, Greeting::new(n as u64));
        }
        let codec = [Codec::Json, Codec::MsgPack][n];
        assert_eq!(next_message(&mut untyped).await?.codec(), codec);
    }
    json.publish("news", "raw", Scope::Global).await?;
    assert_eq!(collect(&mut untyped, 1).await?, ["raw"]);
    Ok(())
}
