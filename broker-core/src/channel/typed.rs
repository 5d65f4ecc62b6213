//! Channel: a name together with the type of its messages; and what may stand where a channel is asked for.

use std::{fmt, marker::PhantomData};

use super::{ChannelName, broken_rule, parts};
use crate::{Event, Received, StreamItem};

/// A channel whose messages are of type `T`: a name that the compiler checks the type for.
///
/// It may stand wherever a name may. Posting a value of another type, or reading one, does not compile; the verbs for bytes
/// check no type. A name as text stays possible everywhere; nothing checks its type then but each reader.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Channel, Model, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct PixelAdded { index: u32 }
///
/// const PIXELS: Channel<PixelAdded> = Channel::new("pixel-added");
///
/// let broker = broker::connect("memory:").await?;
/// let mut pixels = broker.create_stream(PIXELS).await?;
/// broker.post_message(PIXELS, PixelAdded { index: 17 }, Scope::Global).await?;
/// assert_eq!(pixels.next().await.expect("open").expect("a pixel").index, 17);
/// # Ok(()) }
/// ```
///
/// ```compile_fail
/// # use broker::{Channel, Model, Scope};
/// # #[derive(serde::Serialize, serde::Deserialize, Model)] struct PixelAdded;
/// # #[derive(serde::Serialize, serde::Deserialize, Model)] struct Renamed;
/// # const PIXELS: Channel<PixelAdded> = Channel::new("pixel-added");
/// # async fn wrong(broker: broker::Broker) {
/// broker.post_message(PIXELS, Renamed, Scope::Global).await; // another type
/// # }
/// ```
pub struct Channel<T> {
    name: Name,
    messages: PhantomData<fn() -> T>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Static(&'static str),
    /// Not checked yet.
    Made(Box<str>),
    Checked(ChannelName),
}

impl<T> Channel<T> {
    /// A channel with a fixed name. In a `const`, an illegal name does not compile:
    ///
    /// ```compile_fail
    /// # use broker::{Channel, Model};
    /// # #[derive(serde::Serialize, serde::Deserialize, Model)] struct PixelAdded;
    /// const PIXELS: Channel<PixelAdded> = Channel::new("pixel added");
    /// ```
    ///
    /// # Panics
    /// Outside of a `const`, for a name that breaks the rules of [`ChannelName`]. A name that is not written in the
    /// source is for [`of`](Self::of), or for [`ChannelName::new`] and `Channel::from`.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str) -> Self {
        if let Some(rule) = broken_rule(name) {
            panic!("{}", rule);
        }
        Self { name: Name::Static(name), messages: PhantomData }
    }

    /// The channel of these parts: `Channel::of(["room", room_id])`. All parts of an array have one type, so make text of a
    /// number first: `Channel::of(["room", &number.to_string()])`. See [`ChannelName::of`], which says how each part is
    /// escaped. Never fails; a name that is too long is refused where it is used.
    #[must_use]
    pub fn of(parts: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        Self { name: Name::Made(parts::join(parts).into()), messages: PhantomData }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.name {
            Name::Static(name) => name,
            Name::Made(name) => name,
            Name::Checked(name) => name.as_str(),
        }
    }
}

impl<T> From<ChannelName> for Channel<T> {
    fn from(name: ChannelName) -> Self {
        Self { name: Name::Checked(name), messages: PhantomData }
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), messages: PhantomData }
    }
}

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl<T> fmt::Display for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What names a channel: text (`&str`, `String`, …), a [`ChannelName`], a [`Channel`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a channel",
    note = "give a text, a `ChannelName`, or a `Channel`"
)]
pub trait AsChannelName {
    /// The name. It need not be legal: each call that takes it checks that.
    fn channel_name(&self) -> &str;
}

/// What names a channel for messages of type `T`: everything that [names a channel](AsChannelName), except a [`Channel`] of
/// another type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no channel of `{T}` messages",
    note = "use the type in `Channel<…>`, or give the channel's name as text if several types are meant to share it"
)]
pub trait AsChannel<T>: AsChannelName {}

impl<N: AsRef<str>> AsChannelName for N {
    fn channel_name(&self) -> &str {
        self.as_ref()
    }
}

impl<T> AsChannelName for Channel<T> {
    fn channel_name(&self) -> &str {
        self.as_str()
    }
}

impl<T> AsChannelName for &Channel<T> {
    fn channel_name(&self) -> &str {
        self.as_str()
    }
}

impl<T, N: AsRef<str>> AsChannel<T> for N {}
impl<T> AsChannel<T> for Channel<T> {}
impl<T> AsChannel<T> for &Channel<T> {}

/// What names a channel for a listener that takes `I`: everything that [names a channel](AsChannelName), except a
/// [`Channel`] of another type. For a listener of untyped [`Event`]s any channel will do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no channel for a listener that takes `{I}`",
    note = "use the type in `Channel<…>`, or take an untyped `Event`, or give the channel's name as text"
)]
pub trait AsChannelFor<I>: AsChannelName {}

impl<I, N: AsRef<str>> AsChannelFor<I> for N {}
impl<T> AsChannelFor<Received<T>> for Channel<T> {}
impl<T> AsChannelFor<Received<T>> for &Channel<T> {}
impl<T> AsChannelFor<StreamItem<T>> for Channel<T> {}
impl<T> AsChannelFor<StreamItem<T>> for &Channel<T> {}
impl<T> AsChannelFor<Event> for Channel<T> {}
impl<T> AsChannelFor<Event> for &Channel<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Broker, ErrorKind, Scope};

    struct Any;

    #[test]
    fn a_channel_is_what_its_name_is() {
        const NEWS: Channel<Any> = Channel::new("news.ümlaut");
        assert_eq!(
            (NEWS.as_str(), format!("{NEWS} {NEWS:?}")),
            ("news.ümlaut", "news.ümlaut \"news.ümlaut\"".to_owned())
        );
        let checked = Channel::<Any>::from(ChannelName::new("a.b").unwrap());
        assert_eq!(checked.clone().channel_name(), "a.b");
        assert_eq!(Channel::<Any>::of(["room", "a.b"]).channel_name(), "room.a%2Eb");
    }

    #[tokio::test]
    async fn a_channel_with_a_name_that_is_too_long_is_refused_where_it_is_used() {
        let broker = Broker::local();
        let channel = Channel::<Any>::of([&"room", &"x".repeat(300).as_str()]);
        let error = broker.publish(&channel, "text", Scope::Local).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("too long"), "{error}");
        assert_eq!(broker.subscribe(channel).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
