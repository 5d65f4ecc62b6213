//! The service of streaming endpoints: an HTTP request that becomes a connection.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use tower_service::Service;
use url::form_urlencoded;

use super::connection::serve;
use crate::{auth::Head, server::Server, upgrade::upgrade};

/// A tower service that makes connections of [streaming endpoints](crate::StreamingEndpoint) of requests. Made by
/// [`Streams::endpoints_service`](crate::Streams::endpoints_service); it is routed at `/websocket` for Serverpod's clients.
///
/// These clients show their key in the query: `/websocket?auth=…`. The authenticator receives it as it receives others, with the
/// scheme [`Raw`](crate::Scheme::Raw), and an address without it; no span and no line of the log of this library has it. What
/// stands before this service and logs addresses, a proxy for instance, has to leave the query out.
#[derive(Clone)]
pub struct EndpointsService {
    server: Arc<Server>,
}

impl EndpointsService {
    pub(crate) const fn new(server: Arc<Server>) -> Self {
        Self { server }
    }
}

impl<B> Service<Request<B>> for EndpointsService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (key, uri) = take_key(request.uri());
        *request.uri_mut() = uri;
        let (server, head) = (Arc::clone(&self.server), Head::of(&request));
        ready(Ok(upgrade(&self.server, &mut request, move |web| serve(web, server, head, key))))
    }
}

/// Takes the key out of an address.
fn take_key(uri: &Uri) -> (Option<String>, Uri) {
    let Some(query) = uri.query() else { return (None, uri.clone()) };
    let mut key = None;
    let mut others = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "auth" {
            key.get_or_insert_with(|| value.into_owned());
        } else {
            others.append_pair(&name, &value);
        }
    }
    let others = others.finish();
    let rest = if others.is_empty() { uri.path().to_owned() } else { format!("{}?{others}", uri.path()) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = rest.parse().ok();
    // An address that cannot be put together again is not worth the key.
    (key.filter(|key| !key.is_empty()), Uri::from_parts(parts).unwrap_or_default())
}

impl fmt::Debug for EndpointsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointsService").field("server", &self.server).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_taken_out_of_the_address() {
        for (address, key, rest) in [
            ("/websocket", None, "/websocket"),
            ("/websocket?auth=", None, "/websocket"),
            ("/websocket?auth=7%3Aa%2Bb%26c", Some("7:a+b&c"), "/websocket"),
            ("/websocket?x=1&auth=7&y=%26&auth=8", Some("7"), "/websocket?x=1&y=%26"),
            ("/websocket?%61uth=7", Some("7"), "/websocket"),
            ("http://example.org/websocket?auth=7", Some("7"), "http://example.org/websocket"),
        ] {
            let (taken, uri) = take_key(&address.parse().unwrap());
            assert_eq!((taken.as_deref(), uri.to_string().as_str()), (key, rest), "{address}");
        }
    }
}
