//! Cases about who posted a message: which node, which session, and a session that does not receive its own.

use broker_core::{Channel, Message, Post, Received, Scope, Subscription, TypedPost};
use futures_util::FutureExt;
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    steps::{Count, next_call, no_more_calls},
    wait::{next_item, next_message, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_typed_post_carries_its_headers, [1, 12]),
    case!(a_message_is_recognised_by_its_node_and_its_session, [1]),
    case!(a_session_does_not_receive_what_it_excludes_itself_from, [1, 3]),
    case!(a_drain_does_not_wait_for_messages_that_are_passed_over, [9]),
];

const COUNTS: Channel<Count> = Channel::new("counts");

async fn a_typed_post_carries_its_headers(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (mut near, mut far) = (here.create_stream(COUNTS).await?, there.create_stream(COUNTS).await?);
    let session = here.session();
    let post =
        |n| TypedPost::new(Count { n }).with_header("trace", "4bf92f35").with_header("n", n.to_string());
    session.post_message(COUNTS, post(1), Scope::Global).await?;
    here.channel(COUNTS)?.post_message(post(2), Scope::Global).await?;
    here.post_message(COUNTS, Count { n: 3 }, Scope::Global).await?;
    for stream in [&mut near, &mut far] {
        for n in 1..=2 {
            let count = next_item(stream).await??;
            assert_eq!((count.n, count.header("trace")), (n, Some("4bf92f35")));
            assert_eq!(count.header("n"), Some(n.to_string().as_str()));
        }
        assert!(next_item(stream).await??.headers().is_empty());
    }
    session.post_message(COUNTS, post(4), Scope::Local).await?;
    assert_eq!(next_item(&mut near).await??.header("trace"), Some("4bf92f35"));
    // The limits are those of all posts, and the same for both scopes.
    for scope in [Scope::Local, Scope::Global] {
        let error = here.post_message(COUNTS, post(5).with_header("", "no name"), scope).await;
        assert_eq!(error.expect_err("a header without a name").kind(), broker_core::ErrorKind::InvalidInput);
    }
    Ok(())
}

async fn a_message_is_recognised_by_its_node_and_its_session(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    // The sessions of two nodes are numbered alike.
    let (me, sibling, stranger) = (here.session(), here.session(), there.session());
    let mut news = here.subscribe("news").await?;
    let mut posted: Vec<Message> = Vec::new();
    for scope in [Scope::Global, Scope::Local] {
        me.post("news", "mine", scope).await?;
        posted.push(next_message(&mut news).await?);
        here.publish("news", "of no session", scope).await?;
        posted.push(next_message(&mut news).await?);
    }
    stranger.post("news", "of another node", Scope::Global).await?;
    posted.push(next_message(&mut news).await?);
    let of = |session: &broker_core::Session| {
        posted.iter().map(|message| session.has_posted(message)).collect::<Vec<_>>()
    };
    assert_eq!(of(&me), [true, false, true, false, false]);
    assert_eq!(of(&sibling), [false; 5]);
    assert_eq!(of(&stranger), [false, false, false, false, true]);
    assert_eq!(
        posted.iter().map(|message| here.has_posted(message)).collect::<Vec<_>>(),
        [true, true, true, true, false]
    );
    Ok(())
}

/// Its streams and listeners are passed over, those of every other session are not; and nothing is missed.
async fn a_session_does_not_receive_what_it_excludes_itself_from(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (me, sibling, stranger) = (here.session(), here.session(), there.session());
    let mut mine = me.create_stream(COUNTS).await?;
    let mut others = [
        sibling.create_stream(COUNTS).await?,
        stranger.create_stream(COUNTS).await?,
        here.create_stream(COUNTS).await?,
    ];
    let (sender, mut calls) = unbounded_channel();
    me.add_listener(COUNTS, move |count: Received<Count>| _ = sender.send(count.n)).await?;
    for n in 0..40 {
        let post = TypedPost::new(Count { n });
        let post = if n % 4 == 3 { post } else { post.excluding_me() };
        me.post_message(COUNTS, post, Scope::Global).await?;
    }
    // Outside of a session nobody is passed over.
    here.post_message(COUNTS, TypedPost::new(Count { n: 40 }).excluding_me(), Scope::Global).await?;
    for n in (3..40).step_by(4).chain([40]) {
        assert_eq!(next_item(&mut mine).await??.n, n);
        assert_eq!(next_call(&mut calls).await?, n);
    }
    for stream in &mut others {
        for n in 0..=40 {
            assert_eq!(next_item(stream).await??.n, n);
        }
    }
    me.post_message(COUNTS, TypedPost::new(Count { n: 50 }).excluding_me(), Scope::Local).await?;
    assert_eq!(next_item(&mut others[0]).await??.n, 50);
    me.close();
    no_more_calls(&mut calls).await?;
    Ok(())
}

async fn a_drain_does_not_wait_for_messages_that_are_passed_over(h: &dyn Harness) -> Outcome {
    let node = h.node_with(|options| options.drain_timeout = std::time::Duration::from_secs(600)).await?;
    let session = node.session();
    let mut news: Subscription = session.subscribe("news").await?;
    for _ in 0..40 {
        session.post("news", Post::new("x").excluding_me(), Scope::Local).await?;
    }
    assert!(news.next().now_or_never().is_none(), "a session received its own message");
    // The stream has nothing left to yield, and is not looked at meanwhile.
    within("the drain", node.drain()).await?;
    assert!(within("the end", news.next()).await?.is_none());
    Ok(())
}
