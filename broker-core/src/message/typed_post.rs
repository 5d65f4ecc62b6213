//! TypedPost: a value on its way out, with headers.

use crate::{
    Codec, Headers, Model, Post, Result,
    message::{exchange::Exchange, sender::Sender},
};

/// A value to post, with headers. What has none is posted as it is: each typed verb takes both.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Channel, Model, Scope, TypedPost};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Said { text: String }
///
/// const ROOM: Channel<Said> = Channel::new("room");
///
/// let broker = broker::connect("memory:").await?;
/// let mut room = broker.create_stream(ROOM).await?;
/// let hello = TypedPost::new(Said { text: "hello".to_owned() }).with_header("trace", "4bf92f35");
/// broker.post_message(ROOM, hello, Scope::Global).await?;
/// let said = room.next().await.expect("open").expect("a message");
/// assert_eq!((said.text.as_str(), said.header("trace")), ("hello", Some("4bf92f35")));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TypedPost<T> {
    pub(crate) value: T,
    pub(crate) headers: Headers,
    pub(crate) sender: Sender,
    pub(crate) exchange: Exchange,
}

impl<T> TypedPost<T> {
    /// A post of this value, without headers.
    pub fn new(value: T) -> Self {
        Self { value, headers: Headers::new(), sender: Sender::default(), exchange: Exchange::default() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Replaces the headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// What goes over the wire.
    pub(crate) fn encode(self, codec: Codec) -> Result<Post>
    where
        T: Model,
    {
        let post = Post::encode(&self.value, codec)?;
        Ok(Post { headers: self.headers, sender: self.sender, exchange: self.exchange, ..post })
    }

    /// Passes over the streams and listeners of the session that posts it, wherever else it is received; as
    /// [`Post::excluding_me`](crate::Post::excluding_me).
    #[must_use]
    pub fn excluding_me(mut self) -> Self {
        self.sender = self.sender.excluded();
        self
    }
}

/// What a typed verb posts where messages are of type `T`: a value of it, or a [`TypedPost`] of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be posted as a message of type `{T}`",
    label = "is no `{T}`",
    note = "give the channel's name as text if several types are meant to share it",
    note = "bytes and text are posted by `Session::post` or `Broker::publish`"
)]
pub trait IntoTypedPost<T>: Send {
    /// The post.
    fn into_typed_post(self) -> TypedPost<T>;
}

impl<T: Model> IntoTypedPost<T> for T {
    #[inline]
    fn into_typed_post(self) -> TypedPost<T> {
        TypedPost::new(self)
    }
}

impl<T: Model> IntoTypedPost<T> for TypedPost<T> {
    #[inline]
    fn into_typed_post(self) -> TypedPost<T> {
        self
    }
}
