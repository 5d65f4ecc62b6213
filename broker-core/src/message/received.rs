//! Received: a typed value, with the message around it.

use std::{fmt, ops::Deref, sync::Arc};

use crate::{Headers, Message, MessageId, Model, NodeId, message::Local};

/// A received value: derefs to it, and knows the message it came in.
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
    pub fn headers(&self) -> Headers {
        self.message().headers().clone()
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

impl<T: fmt::Debug> fmt::Debug for Received<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
