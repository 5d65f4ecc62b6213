//! Streaming endpoints: one connection for all endpoints, and messages of any type both ways.

mod any;
mod connection;
pub(crate) mod erased;
mod frame;
mod inbox;
mod peer;
mod service;
mod shared;
mod work;

use std::future::Future;

use broker_model::Failure;

pub use any::Any;
pub use peer::Peer;
pub use service::EndpointsService;

use crate::endpoint::Access;

/// An endpoint of Serverpod's older kind of streams, by which clients of Serverpod 3 and before send and receive: a client
/// opens one connection, at `/websocket`, and every endpoint of the server sends and receives on it. New programs use
/// [methods](crate::Endpoint::method), which have types, ends and failures of their own.
///
/// ```
/// use broker::{Received, Scope};
/// use broker_streams::{Any, Endpoint, Failure, Model, Peer, Streams, StreamingEndpoint};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize, Model)]
/// struct Said { text: String }
///
/// #[derive(Serialize, Deserialize, Model)]
/// struct Named { name: String }
///
/// struct Chat;
///
/// impl StreamingEndpoint for Chat {
///     type User = String; // what is kept for each connection
///
///     async fn stream_opened(&self, peer: &Peer) -> Result<String, Failure> {
///         let forward = async |to: Peer, said: Received<Said>| drop(to.forward(&said).await);
///         peer.session().add_listener_with("chat", peer.clone(), forward).await?;
///         Ok("somebody".to_owned())
///     }
///
///     async fn handle_stream_message(&self, peer: &Peer, name: &mut String, message: Any) -> Result<(), Failure> {
///         if message.is::<Named>() {
///             *name = message.read::<Named>()?.name;
///         } else {
///             let Said { text } = message.read()?;
///             let said = Said { text: format!("{name}: {text}") };
///             peer.session().post_message("chat", said, Scope::Auto).await?;
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = broker::connect("memory:").await?;
/// let streams = Streams::builder(broker).endpoint(Endpoint::new("chat").streaming(Chat)).build()?;
/// let app = axum::Router::<()>::new()
///     .route_service("/v1/websocket", streams.service())
///     .route_service("/websocket", streams.endpoints_service());
/// # drop(app);
/// # Ok(()) }
/// ```
///
/// # The wire
///
/// The key is in the query of the address, `/websocket?auth=…`. Frames are texts:
///
/// | frame | by | |
/// |---|---|---|
/// | `{"endpoint":"chat","object":{"className":"Said","data":{…}}}` | both | a message; an endpoint of a module is `module.chat` |
/// | `{"command":"ping","args":{}}` | client | answered at once by `{"command":"pong"}` |
/// | `{"command":"auth","args":{"key":"…"}}` | client | signs in; without a key, or with one that is not known, out |
///
/// Another command is ignored, and a text that is no frame ends the connection. Close codes: 1008 for that, for an unknown endpoint,
/// and for an authentication that has ended; 1009 for a frame that is too long; 1012 when the server stops.
///
/// # When its functions are called
///
/// When a client has connected, [`stream_opened`](Self::stream_opened) of one endpoint after the other, in the order in which
/// they were added; those that the user may not use are left out. Then its messages, one after the other, each when the one
/// before it was handled; pings are answered meanwhile. At the end [`stream_closed`](Self::stream_closed) of those
/// that are open. A message for an endpoint that the user may not use is ignored, and one for an endpoint that does not exist ends the
/// connection.
///
/// A client may sign in on the live connection: nothing is opened once more by that, and what was opened stays. An endpoint that
/// the user may use since then is opened before its first message. A client that signs out, or signs in as another user, ends
/// the [session](Peer::session) of the user before.
///
/// The connection is closed when the authentication of its user is revoked or expires, when the user loses a scope that one of the
/// endpoints requires, and when the server [stops](crate::Streams::drain). What runs then is dropped at its next await.
///
/// # Limits
///
/// Those of [`Limits`](crate::Limits) for frames, pings, silence and what waits to be written. Messages that wait to be handled are
/// limited by [`window`](crate::Limits::window) and [`window_bytes`](crate::Limits::window_bytes): while there are so many, the
/// connection is not read.
pub trait StreamingEndpoint: Send + Sync + 'static {
    /// What the endpoint keeps for one connection. It is dropped with the connection.
    type User: Send + 'static;

    /// A client has connected: makes what is kept for it.
    ///
    /// # Errors
    /// A failure is logged. The other endpoints are opened all the same; messages for this one are ignored, for as long as the
    /// connection lives. A panic does the same.
    fn stream_opened(&self, peer: &Peer) -> impl Future<Output = Result<Self::User, Failure>> + Send;

    /// A client has sent a message. Without an implementation it is ignored.
    ///
    /// # Errors
    /// A failure is logged, and the connection goes on; a panic does the same. These clients have no word for it.
    fn handle_stream_message(
        &self,
        peer: &Peer,
        user: &mut Self::User,
        message: Any,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = (peer, user, message);
        async { Ok(()) }
    }

    /// The connection is over, for whatever reason; nothing can be sent any more. All endpoints of a connection together have 1 s
    /// for this.
    fn stream_closed(&self, peer: &Peer, user: Self::User) -> impl Future<Output = ()> + Send {
        let _ = peer;
        async move { drop(user) }
    }
}

/// An endpoint that streams, as the server knows it.
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    pub(crate) access: Access,
    /// How a message of it begins.
    before: Box<str>,
    endpoint: std::sync::Arc<dyn erased::AnyEndpoint>,
}

impl Entry {
    pub(crate) fn new(name: &str, access: Access, endpoint: std::sync::Arc<dyn erased::AnyEndpoint>) -> Self {
        Self { name: name.into(), access, before: frame::before(name), endpoint }
    }
}
