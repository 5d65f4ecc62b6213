//! Message: what was posted, as every subscriber of the process shares it.

pub(crate) mod codec;
pub(crate) mod exchange;
mod headers;
mod id;
mod malformed;
mod post;
pub(crate) mod raw;
mod received;
mod scope;
pub(crate) mod sender;
mod typed_post;

pub use self::{
    codec::Codec,
    headers::Headers,
    id::{MessageId, NodeId},
    malformed::Malformed,
    post::Post,
    raw::Raw,
    received::Received,
    scope::Scope,
    typed_post::{IntoTypedPost, TypedPost},
};
use exchange::Exchange;
use sender::Sender;

use std::{
    any::Any,
    fmt, mem,
    num::NonZero,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use broker_model::Model;
use bytes::Bytes;

use crate::Result;

/// A message: payload, headers, and where it came from. Cloning is cheap, and all clones share one decoded value.
#[derive(Clone)]
pub struct Message(pub(crate) Arc<dyn Envelope>);

/// What every way of holding a message can answer. The trait object, not an enum, because it keeps a queue
/// entry at 16 bytes and a typed local post at one allocation.
pub(crate) trait Envelope: Any + Send + Sync {
    fn head(&self) -> &Head;
    fn type_name(&self) -> Option<&str>;
    fn codec(&self) -> Codec;
    /// The encoded payload; a typed local message is encoded at every asking.
    fn payload(&self) -> Result<Bytes>;
    fn wire(&self) -> Option<&Wire>;
    /// How many bytes of payload it holds; a typed local message is not encoded, so those of the value itself.
    fn size(&self) -> usize;
}

/// The metadata of a message.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) origin: NodeId,
    /// In the id. A local message has 0 until its id is read: a counter that all posts share would cost each of them as
    /// much as a lock.
    number: AtomicU64,
    /// The message's number in (origin, channel), from 1; [`LOCAL`] or [`UNNUMBERED`] for those that have none.
    sequence: u64,
    pub(crate) headers: Headers,
    pub(crate) sender: Sender,
    pub(crate) exchange: Exchange,
}

/// In place of the sequence number: a local message.
const LOCAL: u64 = 0;
/// In place of the sequence number, above all of them: a global message by a poster that is no node.
const UNNUMBERED: u64 = u64::MAX;

/// The number that the next local message of this process gets. They count down from the top, those of global messages
/// up: one node's ids never meet.
static NEXT_LOCAL: AtomicU64 = AtomicU64::new(u64::MAX);

/// A message without a type: bytes, and never a value, so it has no room for one.
struct Plain {
    head: Head,
    payload: Bytes,
}

/// A message held as bytes: from the wire, or posted locally as bytes that have a type.
pub(crate) struct Wire {
    pub(crate) head: Head,
    pub(crate) type_name: Option<Box<str>>,
    pub(crate) codec: Codec,
    pub(crate) payload: Bytes,
    /// The value, decoded by the first subscriber that asks and shared by the rest; or why it does not decode.
    decoded: OnceLock<Result<Arc<dyn Any + Send + Sync>, Malformed>>,
    pub(crate) json: Json,
}

/// A value as JSON, encoded by the first who asks and shared by the rest. Boxed: most are never asked for.
pub(crate) type Json = OnceLock<Box<Bytes>>;

/// A typed message posted in this process: the value itself.
pub(crate) struct Local<T> {
    pub(crate) head: Head,
    codec: Codec,
    pub(crate) json: Json,
    pub(crate) value: T,
}

impl Head {
    /// `None` for the sequence of a message by a poster that is no node.
    pub(crate) fn global(
        id: MessageId,
        sequence: Option<NonZero<u64>>,
        headers: Headers,
        sender: Sender,
    ) -> Self {
        let sequence = sequence.map_or(UNNUMBERED, NonZero::get);
        let (number, exchange) = (AtomicU64::new(id.number), Exchange::default());
        Self { origin: id.origin, number, sequence, headers, sender, exchange }
    }

    #[inline]
    fn local(origin: NodeId, headers: Headers, sender: Sender, exchange: Exchange) -> Self {
        Self { origin, number: AtomicU64::new(0), sequence: LOCAL, headers, sender, exchange }
    }

    pub(crate) fn id(&self) -> MessageId {
        let mut number = self.number.load(Relaxed);
        if self.sequence == LOCAL && number == 0 {
            let mine = NEXT_LOCAL.fetch_sub(1, Relaxed);
            // Two may ask at once: both get what the first one took.
            number =
                self.number.compare_exchange(0, mine, Relaxed, Relaxed).map_or_else(|first| first, |_| mine);
        }
        MessageId { origin: self.origin, number }
    }
}

impl Wire {
    pub(crate) fn new(head: Head, type_name: Option<Box<str>>, codec: Codec, payload: Bytes) -> Self {
        Self { head, type_name, codec, payload, decoded: OnceLock::new(), json: OnceLock::new() }
    }

    pub(crate) fn decode<T: Model>(&self) -> Result<Arc<T>, Malformed> {
        let decode = || match self.codec.decode::<T>(&self.payload) {
            Ok(value) => Ok(Arc::new(value)),
            Err(reason) => {
                let reason = format!("the payload is not a valid `{}`: {reason}", T::NAME);
                Err(Malformed::new(reason, self.payload.len()))
            }
        };
        let shared =
            self.decoded.get_or_init(|| decode().map(|value| value as Arc<dyn Any + Send + Sync>)).clone()?;
        // Two Rust types may share one name on the wire: the second decodes for itself.
        shared.downcast::<T>().or_else(|_| decode())
    }
}

impl Envelope for Plain {
    fn head(&self) -> &Head {
        &self.head
    }
    fn type_name(&self) -> Option<&str> {
        None
    }
    fn codec(&self) -> Codec {
        Codec::Raw
    }
    fn payload(&self) -> Result<Bytes> {
        Ok(self.payload.clone())
    }
    fn wire(&self) -> Option<&Wire> {
        None
    }
    fn size(&self) -> usize {
        self.payload.len()
    }
}

impl Envelope for Wire {
    fn head(&self) -> &Head {
        &self.head
    }
    fn type_name(&self) -> Option<&str> {
        self.type_name.as_deref()
    }
    fn codec(&self) -> Codec {
        self.codec
    }
    fn payload(&self) -> Result<Bytes> {
        Ok(self.payload.clone())
    }
    fn wire(&self) -> Option<&Wire> {
        Some(self)
    }
    fn size(&self) -> usize {
        self.payload.len()
    }
}

impl<T: Model> Envelope for Local<T> {
    fn head(&self) -> &Head {
        &self.head
    }
    fn type_name(&self) -> Option<&str> {
        Some(T::NAME)
    }
    fn codec(&self) -> Codec {
        self.codec
    }
    fn payload(&self) -> Result<Bytes> {
        self.codec.encode(&self.value)
    }
    fn wire(&self) -> Option<&Wire> {
        None
    }
    fn size(&self) -> usize {
        size_of::<T>()
    }
}

impl Message {
    pub(crate) fn from_wire(wire: Wire) -> Self {
        Self::held(wire.head, wire.type_name, wire.codec, wire.payload)
    }

    /// In as little room as it needs.
    #[inline]
    fn held(head: Head, type_name: Option<Box<str>>, codec: Codec, payload: Bytes) -> Self {
        match (type_name, codec) {
            (None, Codec::Raw) => Self(Arc::new(Plain { head, payload })),
            (type_name, codec) => Self(Arc::new(Wire::new(head, type_name, codec, payload))),
        }
    }

    /// A local message without a type.
    #[inline]
    pub(crate) fn from_post(post: Post, origin: NodeId) -> Self {
        let Post { payload, codec, type_name, headers, sender, exchange } = post;
        Self::held(Head::local(origin, headers, sender, exchange), type_name, codec, payload)
    }

    /// A local message of a type: one allocation, nothing encoded.
    #[inline]
    pub(crate) fn from_value<T: Model>(post: TypedPost<T>, origin: NodeId, codec: Codec) -> Self {
        let TypedPost { value, headers, sender, exchange } = post;
        let head = Head::local(origin, headers, sender, exchange);
        Self(Arc::new(Local { head, codec, json: OnceLock::new(), value }))
    }

    /// The id, the same on every node.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.0.head().id()
    }

    /// The node that posted it; for a message by a program that is no node, an id that this has chosen, which may be 0.
    #[must_use]
    pub fn origin(&self) -> NodeId {
        self.0.head().origin
    }

    pub(crate) fn sender(&self) -> Sender {
        self.0.head().sender
    }

    pub(crate) fn exchange(&self) -> Exchange {
        self.0.head().exchange
    }

    /// Its number among the global posts of its origin on this channel, strictly increasing; `None` for a local post, and
    /// for one by a program that is no node: whether others of that program are missing before it is unknown.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        Some(self.0.head().sequence).filter(|sequence| ![LOCAL, UNNUMBERED].contains(sequence))
    }

    /// Whether it was posted with [`Scope::Local`](crate::Scope::Local).
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.head().sequence == LOCAL
    }

    /// The name of its type, if it has one.
    #[must_use]
    pub fn type_name(&self) -> Option<&str> {
        self.0.type_name()
    }

    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.0.head().headers
    }

    /// The payload as bytes. A typed local message is encoded for it, every time; others are not copied.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when a typed local value has become one that cannot be encoded, which
    /// it was not when it was posted.
    pub fn payload(&self) -> Result<Bytes> {
        self.0.payload()
    }

    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.0.size()
    }

    /// How the payload is encoded.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.0.codec()
    }
}

impl<T: Model> Local<T> {
    pub(crate) fn message(self: Arc<Self>) -> Message {
        Message(self)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &format_args!("{}", self.id()))
            .field("type_name", &self.type_name())
            .field("headers", self.headers())
            .finish_non_exhaustive()
    }
}

// A queue holds entries by the thousand: see `hub::Entry`.
const _: () = assert!(mem::size_of::<Message>() == 16);

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn a_local_message_has_one_unique_id() {
        let post = |_| Message::from_post(Post::new("x"), NodeId::from_u64(1));
        // Enough that two threads now and then ask one message at once.
        let messages: Vec<Message> = (0..100_000).map(post).collect();
        let ask = || messages.iter().map(Message::id).collect::<Vec<_>>();
        let (one, two) = thread::scope(|scope| {
            let other = scope.spawn(ask);
            (ask(), other.join().unwrap())
        });
        assert!(one == two, "two ids of one message");
        assert_eq!(one.into_iter().collect::<HashSet<_>>().len(), messages.len());
    }
}
