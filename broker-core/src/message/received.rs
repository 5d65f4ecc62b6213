//! Received: a typed value, with the message around it.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::{Codec, Headers, Message, MessageId, Model, NodeId, Result, message::Local};

/// A received value: derefs to it, and gives access to its message.
///
/// Not an `Arc<T>`, so that a local post costs one allocation; all subscribers of the process share one value.
pub struct Received<T>(Inner<T>);

enum Inner<T> {
    Local(Arc<Local<T>>),
    Wire(Message, Arc<T>),
}

impl<T: Model> Received<T> {
    pub(crate) fn local(local: Arc<Local<T>>) -> Self {
        Self(Inner::Local(local))
    }

    pub(crate) fn wire(message: Message, value: Arc<T>) -> Self {
        Self(Inner::Wire(message, value))
    }

    /// The message around the value.
    #[must_use]
    pub fn message(&self) -> Message {
        match &self.0 {
            Inner::Local(local) => Arc::clone(local).message(),
            Inner::Wire(message, _) => message.clone(),
        }
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.message().id()
    }

    /// The node that posted it.
    #[must_use]
    pub fn origin(&self) -> NodeId {
        self.message().origin()
    }

    /// The message's headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        match &self.0 {
            Inner::Local(local) => &local.head.headers,
            Inner::Wire(message, _) => message.headers(),
        }
    }

    /// One of the message's headers.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)
    }

    /// The value alone. It is cloned where others share it.
    #[must_use]
    pub fn into_inner(self) -> T
    where
        T: Clone,
    {
        match self.0 {
            Inner::Local(local) => {
                Arc::try_unwrap(local).map_or_else(|local| local.value.clone(), |local| local.value)
            }
            Inner::Wire(message, value) => {
                drop(message); // it holds the same value
                Arc::unwrap_or_clone(value)
            }
        }
    }

    /// The value as JSON. A payload that came as JSON is passed on as it is; any other value is encoded once for all
    /// subscribers of the process (twice, if two ask at the same moment).
    ///
    /// # Errors
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when the value cannot be encoded as JSON.
    pub fn json(&self) -> Result<Bytes> {
        let kept = match &self.0 {
            Inner::Wire(message, _) if message.codec() == Codec::Json => return message.payload(),
            Inner::Wire(message, _) => message.0.wire().map(|wire| &wire.json),
            Inner::Local(local) => Some(&local.json),
        };
        if let Some(json) = kept.and_then(OnceLock::get) {
            return Ok(Bytes::clone(json));
        }
        let json = Codec::Json.encode::<T>(self)?;
        Ok(kept
            .map_or_else(|| json.clone(), |kept| Bytes::clone(kept.get_or_init(|| Box::new(json.clone())))))
    }
}

impl<T> Deref for Received<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Inner::Local(local) => &local.value,
            Inner::Wire(_, value) => value,
        }
    }
}

impl<T> Clone for Received<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Inner::Local(local) => Inner::Local(Arc::clone(local)),
            Inner::Wire(message, value) => Inner::Wire(message.clone(), Arc::clone(value)),
        })
    }
}

/// As the value alone.
impl<T: Serialize> Serialize for Received<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<T: fmt::Debug> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::{Broker, Scope};

    static ENCODED: AtomicUsize = AtomicUsize::new(0);

    /// Counts how often it is encoded.
    #[derive(Clone, Copy, serde::Deserialize)]
    struct Counted;

    impl Serialize for Counted {
        fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            ENCODED.fetch_add(1, SeqCst);
            serializer.serialize_str("counted")
        }
    }

    impl Model for Counted {
        const NAME: &'static str = "counted";
    }

    #[tokio::test]
    async fn all_subscribers_share_one_encoding() {
        let broker = Broker::local();
        let mut streams =
            [broker.create_stream("c").await.unwrap(), broker.create_stream::<Counted>("c").await.unwrap()];
        broker.post_message("c", Counted, Scope::Local).await.unwrap();
        let received: Vec<Received<Counted>> = stream::iter(&mut streams)
            .then(async |stream| stream.next().await.unwrap().unwrap())
            .collect()
            .await;
        let json = |counted: &Received<Counted>| {
            assert_eq!(counted.json().unwrap(), "\"counted\"");
            ENCODED.load(SeqCst)
        };
        let first = json(&received[0]);
        assert_eq!(json(&received[1]), first, "it was encoded again");
    }
}
