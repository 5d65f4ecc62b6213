//! Post: a message on its way out, with headers.

use bytes::{Bytes, BytesMut};

use crate::{
    Codec, Error, ErrorKind, Headers, Model, Options, Result,
    message::{exchange::Exchange, sender::Sender},
};

/// A message to publish: a payload, a type name if it has one, and headers.
///
/// Text and bytes are posts without type and headers.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use broker::{Post, Scope};
///
/// let broker = broker::connect("memory:").await?;
/// broker.publish("news", "plain bytes", Scope::Global).await?;
/// broker.publish("news", Post::new("with a header").with_header("trace", "4bf92f35"), Scope::Global).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Post {
    pub(crate) payload: Bytes,
    pub(crate) codec: Codec,
    pub(crate) type_name: Option<Box<str>>,
    pub(crate) headers: Headers,
    pub(crate) sender: Sender,
    pub(crate) exchange: Exchange,
}

impl Post {
    /// A post of raw bytes.
    #[inline]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self::held(payload.into(), Codec::Raw, None)
    }

    /// A post of a value, encoded now.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] when the value cannot be encoded that way, or would not be read as what it is: see [`Model`].
    pub fn encode<T: Model>(value: &T, codec: Codec) -> Result<Self> {
        Ok(Self::held(codec.encode(value)?, codec, Some(T::NAME.into())))
    }

    /// A post of a payload that is encoded already, under the name of its type: for a program that passes on what
    /// others have encoded. It is not checked here; a listener of that type receives an error if it does not decode.
    ///
    /// ```
    /// use broker::{Codec, Post};
    ///
    /// let post = Post::encoded("tick", Codec::Json, r#"{"number":7}"#);
    /// ```
    pub fn encoded(type_name: impl Into<Box<str>>, codec: Codec, payload: impl Into<Bytes>) -> Self {
        Self::held(payload.into(), codec, Some(type_name.into()))
    }

    #[inline]
    fn held(payload: Bytes, codec: Codec, type_name: Option<Box<str>>) -> Self {
        let (sender, exchange) = (Sender::default(), Exchange::default());
        Self { payload, codec, type_name, headers: Headers::new(), sender, exchange }
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

    /// Passes over the streams and listeners of the session that posts it, wherever else it is received: for a session that has
    /// shown the change already. Posted outside of a session it reaches every session.
    ///
    /// Until a stream of that session has passed it over, it takes room in the stream's queue like other messages: one
    /// that lags counts it in the gap of an overflow, and [`drain`](crate::Broker::drain) waits until the stream is read
    /// past it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::{Event, Post, Scope};
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let (me, other) = (broker.session(), broker.session());
    /// let (mut mine, mut others) = (me.subscribe("cursor").await?, other.subscribe("cursor").await?);
    /// me.post("cursor", Post::new("3,4").excluding_me(), Scope::Global).await?;
    /// me.post("cursor", "done", Scope::Global).await?;
    /// let Some(Event::Message(message)) = others.next().await else { panic!("a message") };
    /// assert!(message.payload()? == "3,4" && me.has_posted(&message));
    /// let Some(Event::Message(message)) = mine.next().await else { panic!("a message") };
    /// assert_eq!(message.payload()?, "done");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn excluding_me(mut self) -> Self {
        self.sender = self.sender.excluded();
        self
    }

    /// The limits, the same on every backend and checked before anything is sent.
    #[inline]
    pub(crate) fn check(&self, options: &Options) -> Result<()> {
        if self.payload.len() > options.max_payload {
            return Err(too_large(self.payload.len(), options.max_payload));
        }
        if self.type_name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 255) {
            return Err(illegal_type_name());
        }
        self.headers.check()
    }
}

#[cold]
fn too_large(length: usize, most: usize) -> Error {
    let message = format!(
        "a payload of {length} bytes; the limit is {most} (option max_payload): \
         send a reference to it instead, or raise the limit on every node"
    );
    Error::new(ErrorKind::TooLarge, message)
}

#[cold]
fn illegal_type_name() -> Error {
    let message = "a type name has 1 to 255 bytes; shorten it with #[model(name = \"…\")]";
    Error::new(ErrorKind::InvalidInput, message)
}

/// Text and bytes that are borrowed are copied; the others are not.
macro_rules! from_bytes {
    ($($payload:ty: $bytes:expr),* $(,)?) => {$(
        impl From<$payload> for Post {
            #[inline]
            fn from(payload: $payload) -> Self {
                let bytes: fn($payload) -> Bytes = $bytes;
                Self::new(bytes(payload))
            }
        }
    )*};
}

from_bytes! {
    Bytes: |bytes| bytes,
    BytesMut: BytesMut::freeze,
    Vec<u8>: Bytes::from,
    Box<[u8]>: Bytes::from,
    String: Bytes::from,
    &str: |text| Bytes::copy_from_slice(text.as_bytes()),
    &String: |text| Bytes::copy_from_slice(text.as_bytes()),
    &[u8]: Bytes::copy_from_slice,
    &Bytes: Bytes::clone,
}

impl<const N: usize> From<&[u8; N]> for Post {
    #[inline]
    fn from(payload: &[u8; N]) -> Self {
        Self::new(Bytes::copy_from_slice(payload))
    }
}

impl<const N: usize> From<[u8; N]> for Post {
    #[inline]
    fn from(payload: [u8; N]) -> Self {
        Self::new(Bytes::copy_from_slice(&payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_of_all_kinds_are_posts() {
        let (text, bytes) = (String::from("ab"), vec![97, 98]);
        let posts: [Post; 9] = [
            text.as_str().into(),
            (&text).into(),
            text.clone().into(),
            bytes.as_slice().into(),
            bytes.clone().into(),
            bytes.clone().into_boxed_slice().into(),
            (&[97, 98]).into(),
            [97, 98].into(),
            (&Bytes::from(bytes)).into(),
        ];
        assert!(posts.iter().all(|post| post.payload == "ab" && post.codec == Codec::Raw));
    }
}
