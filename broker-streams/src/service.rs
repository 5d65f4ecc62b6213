//! The service: an HTTP request that becomes a socket.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower_service::Service;

use crate::{auth::Head, server::Server, socket::Socket, upgrade::upgrade};

/// A tower service that makes sockets of requests. Made by [`Streams::service`](crate::Streams::service); it is routed at
/// `/v1/websocket` for Serverpod's clients.
///
/// It needs a connection of HTTP/1.1 that can be upgraded: `axum::serve` and hyper's `serve_connection_with_upgrades`
/// have these.
#[derive(Clone)]
pub struct StreamsService {
    server: Arc<Server>,
}

impl StreamsService {
    pub(crate) const fn new(server: Arc<Server>) -> Self {
        Self { server }
    }

    fn answer<B>(&self, request: &mut Request<B>) -> Response<Full<Bytes>> {
        let (server, head) = (Arc::clone(&self.server), Head::of(request));
        upgrade(&self.server, request, move |web| Socket::new(web, server, head).run())
    }
}

impl<B> Service<Request<B>> for StreamsService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(&mut request)))
    }
}

impl fmt::Debug for StreamsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsService").field("server", &self.server).finish()
    }
}
