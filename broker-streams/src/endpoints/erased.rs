//! Erased: an endpoint of any type, and what one connection has of it.

use std::{pin::Pin, sync::Arc};

use broker_model::Failure;

use super::{Any, Peer, StreamingEndpoint};

/// A future in a box.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A [`StreamingEndpoint`] of any type.
pub(crate) trait AnyEndpoint: Send + Sync {
    fn open(self: Arc<Self>, peer: Peer) -> Boxed<'static, Result<Box<dyn Opened>, Failure>>;
}

/// An endpoint that is open on a connection.
pub(crate) trait Opened: Send {
    fn handle(&mut self, message: Any) -> Boxed<'_, Result<(), Failure>>;

    fn close(self: Box<Self>) -> Boxed<'static, ()>;
}

struct Open<E: StreamingEndpoint> {
    endpoint: Arc<E>,
    peer: Peer,
    user: E::User,
}

impl<E: StreamingEndpoint> AnyEndpoint for E {
    fn open(self: Arc<Self>, peer: Peer) -> Boxed<'static, Result<Box<dyn Opened>, Failure>> {
        Box::pin(async move {
            let user = self.stream_opened(&peer).await?;
            Ok(Box::new(Open { endpoint: self, peer, user }) as Box<dyn Opened>)
        })
    }
}

impl<E: StreamingEndpoint> Opened for Open<E> {
    fn handle(&mut self, message: Any) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(
            async move { self.endpoint.handle_stream_message(&self.peer, &mut self.user, message).await },
        )
    }

    fn close(self: Box<Self>) -> Boxed<'static, ()> {
        Box::pin(async move {
            let Self { endpoint, peer, user } = *self;
            endpoint.stream_closed(&peer, user).await;
        })
    }
}
