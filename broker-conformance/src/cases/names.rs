//! Cases about the names of channels: what is legal, and that nothing else gets anywhere.

use broker_core::{ChannelName, ErrorKind, Received, Scope};

use super::models::Greeting;
use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    wait::{collect, fence, next_event},
};

pub(super) const CASES: &[Case] = &[
    case!(every_legal_name_works, [11]),
    case!(every_verb_refuses_illegal_names_with_the_same_error, [11]),
    case!(the_longest_name_fits_behind_the_longest_prefix, [11]),
];

fn legal() -> Vec<String> {
    let mut names: Vec<String> = [
        "a",
        "0",
        "-",
        "_",
        "~",
        "news",
        "user.42.updates",
        "a.b.c.d.e.f.g.h",
        "MixedCase",
        "pixel-added",
        "a$",
        "a.b$",
        "user:42",
        "user/42",
        "user@host",
        "a+b",
        "a&b=c",
        "100%",
        "%2F",
        "?",
        "a?",
        "[abc]",
        "[a-z]",
        "a\\",
        "\\",
        "\"",
        "'",
        "`",
        "{slot}",
        "{}",
        "(a)",
        "a|b",
        "a;b",
        "a,b",
        "<",
        "a<b",
        "^",
        "!",
        "=",
        "é",
        "e\u{301}",
        "ß",
        "日本語.チャンネル",
        "канал",
        "🦀",
        "👩‍👩‍👧",
        "\u{feff}x",
        "NULL",
        "true",
        "reply",
        "subscribe",
        "__keyspace@0__:x",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(ChannelName::MAX));
    names.push("é".repeat(ChannelName::MAX / 2));
    names.push("a.".repeat(99) + "ab");
    names
}

/// Each reaches the server as it is, and carries messages between nodes.
async fn every_legal_name_works(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    for name in legal() {
        let mut subscription = here.subscribe(&name).await?;
        assert_eq!(subscription.channel().as_str(), name);
        there.publish(&name, name.clone(), Scope::Global).await?;
        assert_eq!(collect(&mut subscription, 1).await?, [name.as_str()]);
        h.publish_raw(&name, b"foreign").await?;
        let foreign = next_event(&mut subscription).await?;
        assert!(matches!(foreign, broker_core::Event::Malformed(_)), "{name}: {foreign:?}");
        let wire = h.subscribed_channels().await?;
        assert!(wire.iter().any(|wire| wire.ends_with(&name)), "`{name}` is not among {wire:?}");
    }
    Ok(())
}

const EMPTY: &str = "is empty";
const LONG: &str = "is too long";
const RESERVED: &str = "has a segment that begins with `$`";
const SEGMENT: &str = "has an empty segment";
const WILDCARD: &str = "has one of `*`, `>`, `#`";
const SPACE: &str = "has white space";
const CONTROL: &str = "has a control character";

fn illegal() -> Vec<(String, &'static str)> {
    let mut names: Vec<(String, &str)> = [
        ("", EMPTY),
        ("$node", RESERVED),
        ("$", RESERVED),
        // Another application's, seen by one that has no prefix.
        ("shop.$revocations", RESERVED),
        ("shop.$digests", RESERVED),
        ("shop.$node.0123456789abcdef", RESERVED),
        ("a.$", RESERVED),
        (".", SEGMENT),
        (".a", SEGMENT),
        ("a.", SEGMENT),
        ("a..b", SEGMENT),
        ("*", WILDCARD),
        ("a.*", WILDCARD),
        ("a*b", WILDCARD),
        (">", WILDCARD),
        ("a.>", WILDCARD),
        ("#", WILDCARD),
        ("a.#", WILDCARD),
        (" ", SPACE),
        ("a b", SPACE),
        ("a\tb", SPACE),
        ("a\r\nPUBLISH b c", SPACE),
        ("a\u{a0}b", SPACE),
        ("a\u{2003}b", SPACE),
        ("a\u{3000}b", SPACE),
        ("a\0b", CONTROL),
        ("a\u{7f}", CONTROL),
        ("a\u{85}b", SPACE),
        ("\u{1b}[31m", CONTROL),
    ]
    .map(|(name, rule)| (name.to_owned(), rule))
    .into();
    names.push(("x".repeat(ChannelName::MAX + 1), LONG));
    names.push(("é".repeat(ChannelName::MAX / 2) + "x", LONG));
    names
}

async fn every_verb_refuses_illegal_names_with_the_same_error(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let mut sane = node.subscribe("sane").await?;
    for (name, rule) in illegal() {
        let said = ChannelName::new(&name).err().map(|error| error.message().to_owned());
        let mut errors = vec![
            node.subscribe(&name).await.err(),
            session.subscribe(&name).await.err(),
            session.create_stream::<Greeting>(&name).await.err(),
            session.add_listener(&name, |_: Received<Greeting>| async {}).await.err(),
        ];
        for scope in [Scope::Local, Scope::Global, Scope::Auto] {
            errors.push(node.publish(&name, "post", scope).await.err());
            errors.push(session.post(&name, "post", scope).await.err());
            errors.push(session.post_message(&name, Greeting::new(1), scope).await.err());
        }
        for error in errors {
            let Some(error) = error else { return Err(format!("{name:?} was taken").into()) };
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}: {error}");
            assert!(error.message().contains(rule), "{name:?} should break `{rule}`: {error}");
            assert_eq!(Some(error.message()), said.as_deref(), "{name:?}");
            assert!(!error.to_string().contains(['\n', '\0', '\u{1b}']), "{error}");
        }
    }
    fence(&node, &mut sane).await?;
    assert_eq!(h.subscribed_channels().await?.len(), 1);
    assert_eq!(node.health().links, 1);
    Ok(())
}

async fn the_longest_name_fits_behind_the_longest_prefix(h: &dyn Harness) -> Outcome {
    let prefix = "p".repeat(50);
    let (here, there) = (
        h.node_with(|options| options.prefix.clone_from(&prefix)).await?,
        h.node_with(|options| options.prefix.clone_from(&prefix)).await?,
    );
    let name = "x".repeat(ChannelName::MAX);
    let mut subscription = here.subscribe(&name).await?;
    there.publish(&name, "post", Scope::Global).await?;
    assert_eq!(collect(&mut subscription, 1).await?, ["post"]);
    assert_eq!(subscription.channel().as_str(), name);
    Ok(())
}
