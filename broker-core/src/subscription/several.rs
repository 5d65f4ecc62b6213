//! Messages and EnumStream: one channel whose messages are of several types, read as an enum.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::{ChannelName, CloseReason, Event, Message, Model, Received, StreamError, Subscription};

/// An enum with a variant for each type of message on a channel.
///
/// Derived. A variant holds [`Received<T>`], or `T` if that is [`Clone`] (it is cloned where others share it). The type's
/// name on the wire chooses the variant. A variant that is marked `#[messages(other)]` holds the [`Message`] of any other type, or
/// of none; without one, such a message is an error item, [`StreamError::WrongType`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use broker::{Message, Messages, Model, Received, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Said { text: String }
/// #[derive(Clone, serde::Serialize, serde::Deserialize, Model)]
/// struct Left;
///
/// #[derive(Messages)]
/// enum Chat {
///     Said(Received<Said>),
///     Left(Left),
///     #[messages(other)]
///     Other(Message),
/// }
///
/// let broker = broker::connect("memory:").await?;
/// let mut room = broker.create_stream_of::<Chat>("room").await?;
/// broker.post_message("room", Said { text: "hello".to_owned() }, Scope::Global).await?;
/// broker.post_message("room", Left, Scope::Global).await?;
/// broker.publish("room", "from a later version", Scope::Global).await?;
/// for _ in 0..3 {
///     match room.next().await.expect("open")? {
///         Chat::Said(said) => assert_eq!(said.text, "hello"),
///         Chat::Left(Left) => {}
///         Chat::Other(message) => assert_eq!(message.type_name(), None),
///     }
/// }
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no enum of messages",
    note = "derive it: `#[derive(broker::Messages)] enum Chat {{ Said(Received<Said>), Left(Received<Left>) }}`",
    note = "for messages of one type use `create_stream`, or take `Received<T>` or `StreamItem<T>` in a listener"
)]
pub trait Messages: Send + Sized + 'static {
    /// The names of the types on the wire.
    const NAMES: &'static [&'static str];

    /// Whether no name occurs twice. The derived code refuses to compile if one does.
    #[doc(hidden)]
    const NAMES_DIFFER: bool = names_differ(Self::NAMES);

    /// The variant for a message.
    ///
    /// # Errors
    /// [`StreamError::WrongType`] for a message that no variant is for; [`StreamError::Malformed`] for one that does not
    /// decode.
    fn from_message(message: Message) -> Result<Self, StreamError>;
}

/// What a variant of [`Messages`] can hold: [`Received<T>`], or `T` if that is [`Clone`].
#[diagnostic::on_unimplemented(
    message = "a variant of `Messages` cannot hold `{Self}`",
    note = "it holds `Received<T>`, where `T` is a `Model`; or `T`, if that is `Clone` as well",
    note = "a variant that holds the `Message` of any other type is marked `#[messages(other)]`"
)]
pub trait MessagePart: Sized {
    /// The name of the type on the wire.
    const NAME: &'static str;

    #[doc(hidden)]
    fn from_message(message: Message) -> Result<Self, StreamError>;
}

impl<T: Model> MessagePart for Received<T> {
    const NAME: &'static str = T::NAME;

    fn from_message(message: Message) -> Result<Self, StreamError> {
        message.into_decoded()
    }
}

impl<T: Model + Clone> MessagePart for T {
    const NAME: &'static str = T::NAME;

    fn from_message(message: Message) -> Result<Self, StreamError> {
        message.into_decoded().map(Received::into_inner)
    }
}

const fn names_differ(names: &[&str]) -> bool {
    let mut first = 0;
    while first < names.len() {
        let mut second = first + 1;
        while second < names.len() {
            if is_same(names[first].as_bytes(), names[second].as_bytes()) {
                return false;
            }
            second += 1;
        }
        first += 1;
    }
    true
}

const fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([a, one_rest @ ..], [b, other_rest @ ..]) = (one, other) {
        if *a != *b {
            return false;
        }
        (one, other) = (one_rest, other_rest);
    }
    one.is_empty() && other.is_empty()
}

/// A stream of one channel's messages as an enum. Made by
/// [`Session::create_stream_of`](crate::Session::create_stream_of).
///
/// A gap and a message that does not decode are error items in their place, and so is one of a type that has no variant; the
/// stream lives on. All else is as with [`Subscription`].
#[must_use = "dropping it unsubscribes"]
pub struct EnumStream<M> {
    subscription: Subscription,
    item: PhantomData<fn() -> M>,
}

impl<M: Messages> EnumStream<M> {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Self { subscription, item: PhantomData }
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        self.subscription.channel()
    }

    /// Why the stream ended; `None` while it lives.
    #[must_use]
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.subscription.close_reason()
    }

    /// The next item; `None` at the end. Cancel safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<M, StreamError>> {
        self.subscription.next().await.map(variant)
    }
}

/// The variant of an event.
pub(crate) fn variant<M: Messages>(event: Event) -> Result<M, StreamError> {
    event.into_message().and_then(M::from_message)
}

impl<M: Messages> Stream for EnumStream<M> {
    type Item = Result<M, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.subscription).poll_next(cx).map(|event| event.map(variant))
    }
}

impl<M> fmt::Debug for EnumStream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnumStream").field(&self.subscription).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::names_differ;

    #[test]
    fn names_are_compared_byte_by_byte() {
        assert!(names_differ(&[]) && names_differ(&["a"]) && names_differ(&["a", "ab", "b", ""]));
        assert!(!names_differ(&["a", "b", "a"]) && !names_differ(&["ü", "ü"]));
    }
}
