//! Waiting in cases: for a condition, an event, a number of messages. Always with a limit, never by a sleep.

use std::{
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

use broker_core::{Broker, Event, Gap, Message, MessageStream, Model, Scope, StreamItem, Subscription};

/// How long a case waits for anything: far longer than it takes, far shorter than the limit of a case.
pub const LIMIT: Duration = Duration::from_secs(45);

/// A limit of a node that a case waits for. The node's links are made within it too, also on a busy machine.
pub const SHORT: Duration = Duration::from_secs(2);

/// Waits for a future, within [`LIMIT`].
///
/// # Errors
/// It takes longer; says what was awaited.
pub async fn within<T>(what: &str, future: impl Future<Output = T> + Send) -> Result<T, String> {
    tokio::select! {
        // First: a future that nobody wakes would else be found ready at the limit.
        biased;
        () = tokio::time::sleep(LIMIT) => Err(format!("{what}: not within {LIMIT:?}")),
        output = future => Ok(output),
    }
}

/// Asks `probe` again and again until it is content, or the time limit passes.
///
/// # Errors
/// The time limit passed; says for what it waited and what the last answer was.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> Result<T, String>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, String>> + Send,
    T: Send,
{
    let deadline = Instant::now() + limit;
    let mut last = "no answer".to_owned();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("{what}: not within {limit:?}: {last}"))
}

/// Waits until a condition holds, within [`LIMIT`].
///
/// # Errors
/// It does not; says what was awaited.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool + Send) -> Result<(), String> {
    eventually(what, LIMIT, || {
        let answer = if condition() { Ok(()) } else { Err("not yet".to_owned()) };
        std::future::ready(answer)
    })
    .await
}

/// Asks again and again until the answer is the expected one, within [`LIMIT`].
///
/// # Errors
/// It never is; shows the last answer.
pub async fn until_is<T, F, Fut>(what: &str, expected: T, mut ask: F) -> Result<(), String>
where
    T: PartialEq + std::fmt::Debug + Send + Sync,
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<T, String>> + Send,
{
    let expected = &expected;
    eventually(what, LIMIT, || {
        let answer = ask();
        async move {
            let answer = answer.await?;
            if answer == *expected { Ok(()) } else { Err(format!("{answer:?}, expected {expected:?}")) }
        }
    })
    .await
}

/// The next event of a subscription.
///
/// # Errors
/// None comes, or the subscription ends.
pub async fn next_event(subscription: &mut Subscription) -> Result<Event, String> {
    let event = within("the next event", subscription.next()).await?;
    event.ok_or_else(|| format!("`{}` has ended: {:?}", subscription.channel(), subscription.close_reason()))
}

/// The next event of a subscription, which is a message.
///
/// # Errors
/// None comes, or something else stands in its place.
pub async fn next_message(subscription: &mut Subscription) -> Result<Message, String> {
    match next_event(subscription).await? {
        Event::Message(message) => Ok(message),
        other => Err(format!("expected a message on `{}`, got {other:?}", subscription.channel())),
    }
}

/// The next event of a subscription, which is a gap.
///
/// # Errors
/// None comes, or something else stands in its place.
pub async fn next_gap(subscription: &mut Subscription) -> Result<Gap, String> {
    match next_event(subscription).await? {
        Event::Gap(gap) => Ok(gap),
        Event::Message(message) => Err(format!("expected a gap, got the message `{}`", text(&message)?)),
        other => Err(format!("expected a gap on `{}`, got {other:?}", subscription.channel())),
    }
}

/// The texts of the next `count` events, which are messages.
///
/// # Errors
/// Fewer come, or something else stands among them; says how many came.
pub async fn collect(subscription: &mut Subscription, count: usize) -> Result<Vec<String>, String> {
    let mut texts = Vec::with_capacity(count);
    while texts.len() < count {
        let next = next_message(subscription).await;
        let next = next.map_err(|error| format!("after {} of {count} messages: {error}", texts.len()))?;
        texts.push(text(&next)?);
    }
    Ok(texts)
}

/// The next item of a stream.
///
/// # Errors
/// None comes, or the stream ends.
pub async fn next_item<T: Model>(stream: &mut MessageStream<T>) -> Result<StreamItem<T>, String> {
    let item = within("the next item", stream.next()).await?;
    item.ok_or_else(|| format!("`{}` has ended: {:?}", stream.channel(), stream.close_reason()))
}

/// A message's payload as text.
///
/// # Errors
/// It is not UTF-8.
pub fn text(message: &Message) -> Result<String, String> {
    let payload = message.payload().map_err(|error| error.to_string())?;
    String::from_utf8(payload.into()).map_err(|error| error.to_string())
}

/// Nothing more has arrived, nor will: a marker posted now is the next event. Proves it for what the same
/// node posted before.
///
/// # Errors
/// Something else is next.
#[track_caller]
pub fn fence<'a>(
    publisher: &'a Broker,
    subscription: &'a mut Subscription,
) -> impl Future<Output = Result<(), String>> + Send + 'a {
    let place = Location::caller();
    async move {
        let marker = format!("marker at {place}");
        let posted = publisher.publish(subscription.channel().clone(), marker.clone(), Scope::Global).await;
        posted.map_err(|error| format!("{marker}: {error}"))?;
        let next = text(&next_message(subscription).await?)?;
        if next == marker { Ok(()) } else { Err(format!("`{next}` arrived before the {marker}")) }
    }
}
