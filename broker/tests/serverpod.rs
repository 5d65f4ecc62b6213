//! Where a program that comes from Serverpod meets another meaning, as far as no case of the suite shows it.
//! docs/migrating.md lists all of it.
#![cfg(feature = "memory")]

use std::{sync::Arc, time::Duration};

use broker::{Model, Received, Scope, StreamError};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

/// For what hangs.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, Model)]
struct Animal {
    name: String,
}

/// Has everything that an animal has. It is no animal.
#[derive(serde::Serialize, serde::Deserialize, Model)]
struct Dog {
    name: String,
    breed: String,
}

/// Another type of this process, with the same name on the wire.
#[derive(serde::Serialize, serde::Deserialize, Model)]
#[model(name = "Animal")]
struct Beast {
    name: String,
}

#[tokio::test]
async fn stream_types_match_by_name_and_in_no_other_way() {
    let broker = broker::connect("memory:").await.unwrap();
    let session = broker.session();
    let mut animals = session.create_stream::<Animal>("zoo").await.unwrap();
    for scope in [Scope::Global, Scope::Local] {
        let dog = Dog { name: "Rex".to_owned(), breed: "collie".to_owned() };
        session.post_message("zoo", dog, scope).await.unwrap();
        session.post_message("zoo", Beast { name: "Leo".to_owned() }, scope).await.unwrap();
        let first = animals.next().await.unwrap();
        assert!(matches!(first, Err(StreamError::WrongType { .. })), "{first:?}");
        assert_eq!(*animals.next().await.unwrap().unwrap(), Animal { name: "Leo".to_owned() });
    }
}

/// The listener returns only after the post has: if the post waited for it, both would wait for ever.
#[tokio::test]
async fn a_local_post_is_queued_when_it_returns_and_not_handled() {
    let broker = broker::connect("memory:").await.unwrap();
    let session = broker.session();
    let (posted, (handled, mut calls)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let until_posted = Arc::clone(&posted);
    session
        .add_listener("zoo", move |animal: Received<Animal>| {
            let (posted, handled) = (Arc::clone(&until_posted), handled.clone());
            async move {
                posted.notified().await;
                handled.send(animal.name.clone()).unwrap();
            }
        })
        .await
        .unwrap();
    let post = session.post_message("zoo", Animal { name: "Leo".to_owned() }, Scope::Local);
    timeout(LIMIT, post).await.expect("it returns").unwrap();
    assert!(calls.try_recv().is_err(), "handled before the post returned");
    posted.notify_one();
    assert_eq!(timeout(LIMIT, calls.recv()).await.expect("a call").as_deref(), Some("Leo"));
}

#[tokio::test]
async fn close_does_not_wait_for_hooks_and_closed_does() {
    let broker = broker::connect("memory:").await.unwrap();
    let session = broker.session();
    let (go_on, (sender, mut hook)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let until_allowed = Arc::clone(&go_on);
    session
        .on_close(async move |_| {
            until_allowed.notified().await;
            sender.send(()).unwrap();
        })
        .unwrap();
    session.close();
    assert!(hook.try_recv().is_err(), "the hook was done before `close` returned");
    go_on.notify_one();
    timeout(LIMIT, session.closed()).await.expect("it ends");
    assert!(hook.try_recv().is_ok(), "the session ended before its hook");
}
