//! Cases about requests and replies: who answers, which reply counts, what a requester learns when none comes.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Broker, Channel, ErrorKind, GapCause, Received, RequestError, RequestOptions, Scope, StreamError,
    TypedPost,
};
use broker_macros::Model;
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::{Count, next_call, tasks},
    wait::{LIMIT, SHORT, until, until_is, within},
};

pub(super) const CASES: &[Case] = &[
    case!(a_request_is_answered_wherever_it_is_made, [1]),
    case!(each_of_many_requests_gets_its_own_reply, [1, 2]),
    case!(all_kinds_of_functions_answer_requests, [7]),
    case!(the_first_of_several_replies_counts, [2]),
    case!(replies_are_gathered_until_the_time_is_over, [1, 2]),
    case!(gathered_replies_beyond_the_bound_are_reported, [4, 5]),
    case!(a_refusal_is_an_error_with_its_text, [1, 11]),
    case!(a_reply_of_another_type_is_an_error, [1]),
    case!(a_local_request_and_its_reply_stay_in_the_process, [2, 6]).needs(&[Need::Server]),
    case!(a_message_that_is_no_request_is_not_answered, [1]),
    case!(a_request_without_a_reply_leaves_nothing_behind, [12]).needs(&[Need::OwnServer]),
    case!(a_request_ends_with_its_session, [8]),
    case!(requests_need_no_permission_but_those_of_the_broker, [11]).needs(&[Need::Permissions]),
];

#[derive(Debug, Serialize, Deserialize, Model)]
pub(super) struct Ask {
    pub(super) n: u64,
}

#[derive(Debug, Serialize, Deserialize, Model)]
pub(super) struct Answer {
    pub(super) n: u64,
    pub(super) by: String,
}

pub(super) const ASKS: Channel<Ask> = Channel::new("asks");

/// Replies with the number doubled.
pub(super) async fn answers(node: &Broker, by: &'static str) -> Result<broker_core::Listener, String> {
    let answer = move |ask: Received<Ask>| Answer { n: ask.n * 2, by: by.to_owned() };
    node.reply_to(ASKS, answer).await.map_err(|error| error.to_string())
}

pub(super) async fn ask(node: &Broker, n: u64) -> Result<Received<Answer>, RequestError> {
    node.request(ASKS, Ask { n }, LIMIT).await
}

async fn a_request_is_answered_wherever_it_is_made(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut answering = answers(&there, "there").await?;
    for node in [&here, &there] {
        for n in 1..=3 {
            let answer = ask(node, n).await?;
            assert_eq!((answer.n, answer.by.as_str()), (2 * n, "there"));
            assert_eq!(answer.origin(), there.node_id());
        }
        let session = node.session();
        let answer: Received<Answer> = session.request("asks", Ask { n: 4 }, LIMIT).await?;
        assert_eq!(answer.n, 8);
    }
    assert!(answering.remove());
    within("the end of the listener", answering.ended()).await?;
    let none = here.request::<_, Answer>(ASKS, Ask { n: 5 }, Duration::from_millis(50)).await;
    assert!(matches!(none, Err(RequestError::NoReply { .. })), "{none:?}");
    Ok(())
}

/// Many at once, of two nodes whose requests are numbered each on its own, answered by two.
async fn each_of_many_requests_gets_its_own_reply(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    answers(&there, "there").await?;
    const OTHER: Channel<Ask> = Channel::new("other-asks");
    here.reply_to(OTHER, async |ask: Received<Ask>| {
        // They do not come back in the order in which they were made.
        for _ in 0..ask.n % 7 {
            tokio::task::yield_now().await;
        }
        Answer { n: ask.n * 3, by: "here".to_owned() }
    })
    .await?;
    let requests = (0..300).map(|n| {
        let (node, channel, times) = match n % 4 {
            0 => (&here, ASKS, 2),
            1 => (&here, OTHER, 3),
            2 => (&there, ASKS, 2),
            _ => (&there, OTHER, 3),
        };
        async move {
            let answer: Received<Answer> = node.request(channel, Ask { n }, LIMIT).await?;
            Ok::<_, RequestError>((answer.n, n * times))
        }
    });
    for (answer, expected) in try_join_all(requests).await? {
        assert_eq!(answer, expected);
    }
    Ok(())
}

async fn all_kinds_of_functions_answer_requests(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let session = there.session();
    fn answer(n: u64, by: &str) -> Answer {
        Answer { n, by: by.to_owned() }
    }
    fn even(n: u64) -> Result<u64, &'static str> {
        if n.is_multiple_of(2) { Ok(n) } else { Err("odd") }
    }
    session.reply_to("plain", move |ask: Received<Ask>| answer(ask.n, "plain")).await?;
    session
        .reply_to("fallible", move |ask: Received<Ask>| even(ask.n).map(|n| answer(n, "fallible")))
        .await?;
    session.reply_to("async", async |ask: Received<Ask>| answer(ask.n, "async")).await?;
    session
        .reply_to("async-fallible", async |ask: Received<Ask>| {
            tokio::task::yield_now().await;
            even(ask.n).map(|n| answer(n, "async-fallible"))
        })
        .await?;
    let with_headers = move |ask: Received<Ask>| {
        TypedPost::new(answer(ask.n, "headers"))
            .with_header("asked", ask.header("why").unwrap_or("no reason"))
    };
    session.reply_to("headers", with_headers).await?;
    let with_state = move |by: Arc<str>, ask: Received<Ask>| answer(ask.n, &by);
    session.reply_to_with("state", Arc::from("state"), with_state).await?;
    for channel in ["plain", "fallible", "async", "async-fallible", "headers", "state"] {
        let request = TypedPost::new(Ask { n: 2 }).with_header("why", channel);
        let reply: Received<Answer> = here.request(channel, request, LIMIT).await?;
        assert_eq!((reply.n, reply.by.as_str()), (2, channel));
        let asked = (channel == "headers").then_some("headers");
        assert_eq!(reply.header("asked"), asked);
    }
    for channel in ["fallible", "async-fallible"] {
        let refused = here.request::<_, Answer>(channel, Ask { n: 3 }, LIMIT).await;
        assert!(matches!(&refused, Err(RequestError::Refused(why)) if why == "odd"), "{refused:?}");
    }
    Ok(())
}

async fn the_first_of_several_replies_counts(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    answers(&there, "there").await?;
    answers(&there, "there").await?;
    answers(&here, "here").await?;
    for n in 0..50 {
        // The others come later, among the replies to the next requests, and are nobody's.
        assert_eq!(ask(&here, n).await?.n, 2 * n);
    }
    Ok(())
}

async fn replies_are_gathered_until_the_time_is_over(h: &dyn Harness) -> Outcome {
    let nodes = try_join_all((0..3).map(|_| h.node())).await?;
    for (node, by) in nodes.iter().zip(["a", "b", "c"]) {
        answers(node, by).await?;
    }
    nodes[0].reply_to(ASKS, |ask: Received<Ask>| Err::<Answer, _>(format!("not {}", ask.n))).await?;
    let limit = Duration::from_secs(600);
    let mut replies = nodes[1].request_many::<_, Answer>(ASKS, Ask { n: 1 }, limit).await?;
    let (mut by, mut refused) = (Vec::new(), Vec::new());
    while by.len() + refused.len() < 4 {
        match within("a reply", replies.next()).await?.ok_or("the end")? {
            Ok(answer) => by.push(answer.by.clone()),
            Err(RequestError::Refused(why)) => refused.push(why),
            Err(error) => return Err(error.into()),
        }
    }
    by.sort_unstable();
    assert_eq!((by, refused), (["a", "b", "c"].map(str::to_owned).to_vec(), vec!["not 1".to_owned()]));
    drop(replies);
    // The request has to be posted within it, also on a busy machine.
    let limit = Duration::from_secs(1);
    let mut none = nodes[1].session().request_many::<_, Answer>("unanswered", Ask { n: 2 }, limit).await?;
    // The session is dropped already.
    assert!(matches!(within("the end", none.next()).await?, Some(Err(RequestError::Broker(_)))));
    assert!(within("the end", none.next()).await?.is_none());
    let mut none = nodes[1].request_many::<_, Answer>("unanswered", Ask { n: 2 }, limit).await?;
    assert!(within("the end", none.next()).await?.is_none());
    Ok(())
}

async fn gathered_replies_beyond_the_bound_are_reported(h: &dyn Harness) -> Outcome {
    let here = h.node_with(|options| options.queue_capacity = 4).await?;
    let there = h.node().await?;
    for _ in 0..10 {
        answers(&there, "there").await?;
    }
    let mut limit = Duration::from_secs(1);
    loop {
        let mut replies = here.request_many::<_, Answer>(ASKS, Ask { n: 1 }, limit).await?;
        // Read once the time is over, by when all have come unless the machine is busy.
        tokio::time::sleep(limit).await;
        let (mut received, mut missed) = (0, 0);
        while let Some(reply) = within("an item", replies.next()).await? {
            match reply {
                Ok(_) => received += 1,
                Err(RequestError::MayBeLost(gap)) if gap.cause == GapCause::Overflow => {
                    missed += gap.missed.ok_or("no number")?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        assert!(received <= 4, "{received} were kept");
        if received + missed == 10 {
            return Ok(());
        }
        if limit > SHORT {
            return Err(format!("{received} received and {missed} missed, of 10").into());
        }
        limit *= 2;
    }
}

async fn a_refusal_is_an_error_with_its_text(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node_with(|options| options.max_payload = 2000).await?);
    there
        .reply_to(ASKS, |ask: Received<Ask>| match ask.n {
            0 => Err("no\nzero".to_owned()),
            1 => Err("ü".repeat(900)),
            n => Ok(Answer { n, by: "x".repeat(5000) }),
        })
        .await?;
    for scope in [Scope::Global, Scope::Local] {
        let node = if scope == Scope::Local { &there } else { &here };
        let mut refusals = Vec::new();
        for n in 0..3 {
            let options = RequestOptions::new(LIMIT).with_scope(scope);
            match node.request::<_, Answer>(ASKS, Ask { n }, options).await {
                Err(RequestError::Refused(why)) => refusals.push(why),
                // Local posts have no limit of their own.
                Ok(answer) if scope == Scope::Local => refusals.push(answer.by.clone()),
                other => return Err(format!("{other:?}").into()),
            }
        }
        assert_eq!(refusals[0], "no zero");
        assert_eq!(refusals[1], "ü".repeat(RequestError::MAX_REFUSAL / 2));
        let too_large = refusals[2].contains("its reply cannot be sent: a payload of");
        assert!(too_large || scope == Scope::Local, "{}", refusals[2]);
    }
    Ok(())
}

async fn a_reply_of_another_type_is_an_error(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    there.reply_to(ASKS, |ask: Received<Ask>| Count { n: ask.n }).await?;
    match ask(&here, 1).await {
        Err(RequestError::Unreadable(StreamError::WrongType { expected: "Answer", message })) => {
            assert_eq!(message.decode::<Count>()?.n, 1);
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

async fn a_local_request_and_its_reply_stay_in_the_process(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (sender, mut calls) = unbounded_channel();
    there.add_listener(ASKS, move |_: Received<Ask>| _ = sender.send("there")).await?;
    answers(&there, "there").await?;
    answers(&here, "here").await?;
    let local = RequestOptions::new(LIMIT).with_scope(Scope::Local);
    let answer: Received<Answer> = here.request(ASKS, Ask { n: 1 }, local).await?;
    assert!(answer.by == "here" && answer.message().is_local());
    // The first to reach the other node is the second.
    ask(&here, 2).await?;
    assert_eq!(next_call(&mut calls).await?, "there");
    assert!(calls.try_recv().is_err());
    here.line.cut();
    until("the loss to be noticed", || !here.health().is_connected()).await?;
    let answer: Received<Answer> = here.request(ASKS, Ask { n: 3 }, local).await?;
    assert_eq!(answer.n, 6);
    let unavailable = ask(&here, 4).await;
    assert!(
        matches!(&unavailable, Err(RequestError::Broker(error)) if error.kind() == ErrorKind::Unavailable),
        "{unavailable:?}"
    );
    Ok(())
}

async fn a_message_that_is_no_request_is_not_answered(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let (sender, mut calls) = unbounded_channel();
    let answering = move |ask: Received<Ask>| {
        let _ = sender.send(ask.n);
        Answer { n: ask.n, by: String::new() }
    };
    there.reply_to(ASKS, answering).await?;
    here.post_message(ASKS, Ask { n: 1 }, Scope::Global).await?;
    ask(&here, 2).await?;
    assert_eq!(next_call(&mut calls).await?, 2);
    // A request is a message for everybody else.
    let mut stream = there.create_stream(ASKS).await?;
    ask(&here, 3).await?;
    assert_eq!(within("the request", stream.next()).await?.ok_or("the end")??.n, 3);
    Ok(())
}

/// No task, no subscription of a user's channel, whatever became of the request.
async fn a_request_without_a_reply_leaves_nothing_behind(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    answers(&there, "there").await?;
    ask(&here, 0).await?;
    let before = (tasks(), h.connections().await?, h.subscribed_channels().await?);
    let requests = (0..100).map(|n| {
        let session = here.session();
        async move {
            let limit = Duration::from_millis(20);
            match n % 4 {
                0 => drop(session.request::<_, Answer>("unanswered", Ask { n }, limit).await),
                1 => drop(tokio::time::timeout(limit, ask(session.broker(), n)).await),
                2 => drop(session.request_many::<_, Answer>(ASKS, Ask { n }, limit).await),
                // On a busy machine it may not even be posted within its limit: that leaves nothing behind, either.
                _ => {
                    if let Ok(mut replies) = session.request_many::<_, Answer>(ASKS, Ask { n }, limit).await {
                        while replies.next().await.is_some() {}
                    }
                }
            }
        }
    });
    join_all(requests).await;
    until_is("what was there before", before, || async {
        Ok((tasks(), h.connections().await?, h.subscribed_channels().await?))
    })
    .await?;
    // And what came too late confuses no later request.
    assert_eq!(ask(&here, 7).await?.n, 14);
    Ok(())
}

async fn a_request_ends_with_its_session(h: &dyn Harness) -> Outcome {
    let node = h.node().await?;
    let session = node.session();
    let limit = Duration::from_secs(600);
    let (asked, mut asks) = unbounded_channel();
    node.add_listener(ASKS, move |ask: Received<Ask>| _ = asked.send(ask.n)).await?;
    let asking = session.clone();
    let request = tokio::spawn(async move { asking.request::<_, Answer>(ASKS, Ask { n: 1 }, limit).await });
    let mut replies = session.request_many::<_, Answer>(ASKS, Ask { n: 2 }, limit).await?;
    next_call(&mut asks).await?;
    next_call(&mut asks).await?;
    session.close();
    let ended = [
        within("the end of the request", request).await??.err(),
        within("the end of the replies", replies.next()).await?.ok_or("no reason")?.err(),
        session.request::<_, Answer>(ASKS, Ask { n: 3 }, limit).await.err(),
    ];
    for error in ended {
        let Some(RequestError::Broker(error)) = error else { return Err(format!("{error:?}").into()) };
        assert_eq!((error.kind(), error.message().contains("session")), (ErrorKind::Closed, true), "{error}");
    }
    assert!(replies.next().await.is_none());
    // The same by the end of the broker.
    let broker = node.broker.clone();
    let request = tokio::spawn(async move { broker.request::<_, Answer>(ASKS, Ask { n: 4 }, limit).await });
    next_call(&mut asks).await?;
    // Its post has an outcome by now: one that has none is interrupted by the end.
    node.publish("behind", "it", Scope::Global).await?;
    node.close().await;
    let ended = within("the end of the request", request).await??.expect_err("it is closed");
    assert!(matches!(&ended, RequestError::Broker(error) if error.kind() == ErrorKind::Closed), "{ended}");
    Ok(())
}

async fn requests_need_no_permission_but_those_of_the_broker(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    h.allow_only("asks").await?;
    answers(&there, "there").await?;
    until("both to be connected", || here.health().is_connected() && there.health().is_connected()).await?;
    assert_eq!(ask(&here, 1).await?.n, 2);
    let refused = here.request::<_, Answer>("other", Ask { n: 1 }, LIMIT).await;
    assert!(
        matches!(&refused, Err(RequestError::Broker(error)) if error.kind() == ErrorKind::Forbidden),
        "{refused:?}"
    );
    Ok(())
}
