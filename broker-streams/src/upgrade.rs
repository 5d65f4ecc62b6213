//! Upgrade: the checks of a request, and the answer by which it becomes a socket.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role, protocol::WebSocketConfig},
};
use tracing::Instrument;

use crate::{Limits, addresses::Counted, server::Server, socket::watched::Watched};

/// Read and write buffers of a socket. Larger ones cost memory for each idle socket, and are set to zero before every
/// read.
const BUFFER: usize = 4 << 10;
/// So much is gathered before it is written.
const GATHER: usize = 16 << 10;

/// A request that has become a socket.
pub(crate) type Web = WebSocketStream<Watched<TokioIo<Upgraded>>>;

/// Answers a request. If it may become a socket, that is served on a task of its own, one of the server's.
pub(crate) fn upgrade<B, F>(
    server: &Arc<Server>,
    request: &mut Request<B>,
    serve: impl FnOnce(Web) -> F + Send + 'static,
) -> Response<Full<Bytes>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (accept, counted) = match checked(server, request) {
        Ok(checked) => checked,
        Err(refusal) => return refusal.into_response(),
    };
    // No part of the request is in the span: its URL may have credentials.
    let span = tracing::info_span!("socket", number = server.socket_number());
    let socket = socket(server, hyper::upgrade::on(request), counted, serve);
    server.tasks.spawn(socket.instrument(span));
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The task of a socket, from the upgrade to the end. All of its memory is held by each idle socket.
fn socket<F: Future<Output = ()>, S: FnOnce(Web) -> F>(
    server: &Server,
    upgrade: OnUpgrade,
    counted: Option<Counted>,
    serve: S,
) -> impl Future<Output = ()> + use<F, S> {
    let config = config(&server.limits);
    let (meter, wait, closing) = (server.meter.clone(), server.limits.first_frame, server.closing.clone());
    let socket = async move {
        let _counted = counted;
        // It ends with the connection, or with the answer; should neither come, with the time of the first frame, or with
        // the server.
        let upgraded = tokio::select! {
            upgraded = timeout(wait, upgrade) => upgraded,
            () = closing.cancelled() => return,
        };
        match upgraded {
            Ok(Ok(upgraded)) => {
                let _held = meter.socket();
                let io = Watched::new(TokioIo::new(upgraded));
                // In a box, which is made when there is a socket, and is no larger than it has to be.
                Box::pin(serve(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a connection was not upgraded"),
            Err(_) => tracing::debug!("a connection was not upgraded in time"),
        }
    };
    // Not in an `async` block, which would have room for two of it.
    AssertUnwindSafe(socket).catch_unwind().map(|ended| {
        if ended.is_err() {
            tracing::error!("the task of a socket panicked: its calls were lost");
        }
    })
}

/// Why a request does not become a socket.
struct Refusal {
    status: StatusCode,
    text: &'static str,
    /// A header that says what to do about it.
    remedy: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text, remedy: None }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.remedy = Some((name, value));
        self
    }

    fn busy(text: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text).with(header::RETRY_AFTER, "1")
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.text));
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.remedy {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The header that accepts the handshake, and the socket as it is counted.
fn checked<B>(server: &Server, request: &Request<B>) -> Result<(HeaderValue, Option<Counted>), Refusal> {
    let accept = handshake(request)?;
    if !server.origins.allow(request.headers(), request.uri()) {
        let text = "the origin of this page is not allowed: list it with `allow_origins`";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text));
    }
    if server.draining.is_cancelled() {
        return Err(Refusal::busy("the server is going to stop"));
    }
    if server.tasks.len() >= server.limits.sockets {
        return Err(Refusal::busy("the server has too many sockets"));
    }
    if request.extensions().get::<hyper::upgrade::OnUpgrade>().is_none() {
        let text = "this connection cannot be upgraded: serve it with HTTP/1.1 and upgrades";
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, text));
    }
    // Last, since from here on it counts.
    let counted = server.addresses.as_ref().map(|addresses| addresses.count(request)).transpose();
    let counted = counted.map_err(|_| Refusal::busy("this address has too many sockets"))?;
    Ok((accept, counted.flatten()))
}

/// The handshake of WebSocket.
fn handshake<B>(request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let headers = request.headers();
    let has = |name: HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if request.method() != Method::GET
        || !has(header::CONNECTION, "upgrade")
        || !has(header::UPGRADE, "websocket")
    {
        let text = "this is a WebSocket: send a GET request of HTTP/1.1 with `Upgrade: websocket`";
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, text).with(header::UPGRADE, "websocket"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "the version of WebSocket has to be 13");
        return Err(refusal.with(header::SEC_WEBSOCKET_VERSION, "13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let no_key = Refusal::new(StatusCode::BAD_REQUEST, "the header `Sec-WebSocket-Key` is missing");
    key.and_then(|key| HeaderValue::try_from(key).ok()).ok_or(no_key)
}

fn config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(GATHER)
        .max_message_size(Some(limits.frame_bytes))
        .max_frame_size(Some(limits.frame_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Streams, auth::Head, socket::Socket};

    #[tokio::test]
    async fn the_task_of_a_socket_is_small() {
        let server = Streams::builder(broker_core::Broker::local()).build().unwrap().0;
        let mut request = Request::new(());
        let (upgrade, head) = (hyper::upgrade::on(&mut request), Head::of(&request));
        let shared = Arc::clone(&server);
        let task = socket(&server, upgrade, None, move |web| Socket::new(web, shared, head).run());
        let (near, _far) = tokio::io::duplex(64);
        let web = WebSocketStream::from_raw_socket(Watched::new(near), Role::Server, None).await;
        let socket = Socket::new(web, Arc::clone(&server), Head::of(&request));
        let (of_the_socket, running) = (size_of_val(&*socket), socket.run());
        let sizes = [size_of_val(&task), of_the_socket, size_of_val(&running)];
        assert!(sizes.iter().sum::<usize>() <= 3072, "{sizes:?}");
    }
}
