//! Cases about several types of messages on one channel, read as one enum.

use broker_core::{Codec, Event, GapCause, Message, Messages, Post, Received, Scope, StreamError, TypedPost};
use broker_macros::{Messages, Model};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{Count, next_call, wait_for_link},
    wait::{until, within},
};

pub(super) const CASES: &[Case] = &[
    case!(one_stream_yields_each_type_as_its_variant, [1, 3]),
    case!(a_type_without_a_variant_is_another_message_or_an_error_item, [1, 11]),
    case!(gaps_and_unreadable_values_are_items_of_an_enum_stream, [4, 11]).needs(&[Need::Server]),
    case!(listeners_take_several_types, [7]),
];

#[derive(Debug, Clone, Serialize, Deserialize, Model)]
#[model(name = "renamed")]
struct Renamed {
    name: String,
}

#[derive(Debug, Messages)]
enum Change {
    Count(Received<Count>),
    Renamed(Renamed),
}

#[derive(Debug, Messages)]
enum Any {
    Renamed(Received<Renamed>),
    #[messages(other)]
    Other(Message),
}

fn renamed(name: impl Into<String>) -> Renamed {
    Renamed { name: name.into() }
}

async fn one_stream_yields_each_type_as_its_variant(h: &dyn Harness) -> Outcome {
    let here = h.node().await?;
    let there = h.node_with(|options| options.codec = Codec::Json).await?;
    let session = there.session();
    let mut near = here.create_stream_of::<Change>("changes").await?;
    let mut far = session.create_stream_of::<Change>("changes").await?;
    for n in 0..20 {
        if n % 3 == 0 {
            let post = TypedPost::new(Count { n }).with_header("n", n.to_string());
            here.post_message("changes", post, Scope::Global).await?;
        } else {
            here.post_message("changes", renamed(n.to_string()), Scope::Global).await?;
        }
    }
    for stream in [&mut near, &mut far] {
        for n in 0..20 {
            // In the order in which they were posted, whatever their types.
            match within("an item", stream.next()).await?.ok_or("the end")?? {
                Change::Count(count) => {
                    assert_eq!((count.n, n % 3, count.header("n")), (n, 0, Some(n.to_string().as_str())));
                }
                Change::Renamed(renamed) => assert_eq!((renamed.name, n % 3 > 0), (n.to_string(), true)),
            }
        }
    }
    // A local value is the same value for all.
    here.post_message("changes", renamed("here"), Scope::Local).await?;
    here.post_message("changes", Count { n: 21 }, Scope::Local).await?;
    let item = within("an item", near.next()).await?.ok_or("the end")??;
    assert!(matches!(&item, Change::Renamed(renamed) if renamed.name == "here"), "{item:?}");
    let item = within("an item", near.next()).await?.ok_or("the end")??;
    assert!(matches!(&item, Change::Count(count) if count.n == 21 && count.message().is_local()), "{item:?}");
    session.close();
    assert!(within("the end", far.next()).await?.is_none() && far.close_reason().is_some());
    Ok(())
}

async fn a_type_without_a_variant_is_another_message_or_an_error_item(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut any = there.create_stream_of::<Any>("changes").await?;
    let mut strict = there.create_stream_of::<Change>("changes").await?;
    for scope in [Scope::Global, Scope::Local] {
        let node = if scope == Scope::Global { &here } else { &there };
        node.publish("changes", Post::encoded("later", Codec::Json, "{}"), scope).await?;
        node.publish("changes", "no type", scope).await?;
        // A name that begins as another does is another name.
        node.publish("changes", Post::encoded("rename", Codec::Json, r#"{"name":"x"}"#), scope).await?;
        node.post_message("changes", renamed("known"), scope).await?;
        for expected in [Some("later"), None, Some("rename")] {
            match within("an item", any.next()).await?.ok_or("the end")?? {
                Any::Other(message) => assert_eq!(message.type_name(), expected),
                other => return Err(format!("{other:?}").into()),
            }
            match within("an item", strict.next()).await?.ok_or("the end")? {
                Err(StreamError::WrongType { expected: "Change", message }) => {
                    assert_eq!(message.type_name(), expected);
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        let item = within("an item", any.next()).await?.ok_or("the end")??;
        assert!(matches!(&item, Any::Renamed(renamed) if renamed.name == "known"), "{item:?}");
        let item = within("an item", strict.next()).await?.ok_or("the end")??;
        assert!(matches!(&item, Change::Renamed(renamed) if renamed.name == "known"), "{item:?}");
    }
    assert_eq!((Any::NAMES, Change::NAMES), (&["renamed"][..], &["Count", "renamed"][..]));
    Ok(())
}

async fn gaps_and_unreadable_values_are_items_of_an_enum_stream(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut changes = there.create_stream_of::<Change>("changes").await?;
    // Of a type that is known, so it is not one of the others.
    let mut any = there.create_stream_of::<Any>("changes").await?;
    here.publish("changes", Post::encoded("renamed", Codec::Json, "{\"name\":7}"), Scope::Global).await?;
    for error in [
        within("an item", changes.next()).await?.ok_or("the end")?.err(),
        within("an item", any.next()).await?.ok_or("the end")?.err(),
    ] {
        assert!(matches!(error, Some(StreamError::Malformed(_))), "{error:?}");
    }
    there.line.cut();
    until("the loss to be noticed", || !there.health().is_connected()).await?;
    there.line.heal();
    wait_for_link(&there, 2).await?;
    match within("an item", changes.next()).await?.ok_or("the end")? {
        Err(StreamError::Gap(gap)) => assert_eq!(gap.cause, GapCause::LinkLost),
        other => return Err(format!("{other:?}").into()),
    }
    here.post_message("changes", Count { n: 1 }, Scope::Global).await?;
    let item = within("an item", changes.next()).await?.ok_or("the end")??;
    assert!(matches!(&item, Change::Count(count) if count.n == 1), "{item:?}");
    Ok(())
}

async fn listeners_take_several_types(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = there.session();
    let (sender, mut calls) = unbounded_channel();
    let values = sender.clone();
    session
        .add_listener("changes", move |change: Change| {
            let _ = values.send(match change {
                Change::Count(count) => count.n.to_string(),
                Change::Renamed(renamed) => renamed.name,
            });
        })
        .await?;
    let untyped = session.add_listener("changes", |_: Event| {}).await?;
    here.post_message("changes", Count { n: 1 }, Scope::Global).await?;
    here.publish("changes", "no type", Scope::Global).await?; // logged, and nothing else
    here.post_message("changes", renamed("two"), Scope::Global).await?;
    assert_eq!(
        (next_call(&mut calls).await?, next_call(&mut calls).await?),
        ("1".to_owned(), "two".to_owned())
    );
    untyped.remove();
    session.close();
    let all = async |sender: tokio::sync::mpsc::UnboundedSender<String>, item: Result<Any, StreamError>| {
        let _ = sender.send(match item {
            Ok(Any::Renamed(renamed)) => renamed.name.clone(),
            Ok(Any::Other(message)) => format!("other: {:?}", message.type_name()),
            Err(error) => format!("error: {error}"),
        });
    };
    let session = there.session();
    session.add_listener_with("changes", sender, all).await?;
    here.publish("changes", "no type", Scope::Global).await?;
    here.publish("changes", Post::encoded("renamed", Codec::Json, "{}"), Scope::Global).await?;
    assert_eq!(next_call(&mut calls).await?, "other: None");
    let error = next_call(&mut calls).await?;
    assert!(error.starts_with("error: 2 bytes that are not a readable message"), "{error}");
    Ok(())
}
