//! Frameworks: socketioxide and jsonrpsee, which post to many sockets as their documentation shows it.

use std::time::Duration;

use axum::{Router, error_handling::HandleErrorLayer, http::StatusCode};
use jsonrpsee::{
    RpcModule,
    server::{ServerConfig, ServerHandle, StopHandle, stop_channel},
};
use serde_json::value::{RawValue, to_raw_value};
use socketioxide::{SocketIo, extract::SocketRef, layer::SocketIoLayer};
use tokio::sync::broadcast::{Sender, error::RecvError};
use tower::ServiceBuilder;

use super::methods::Said;
use crate::Outcome;

/// As many as a channel of ours holds.
const QUEUE: usize = 1024;
/// No ping while a round lasts.
const QUIET: Duration = Duration::from_secs(3600);

/// What the frameworks post with.
#[derive(Clone)]
pub(crate) struct Frameworks {
    rooms: SocketIo,
    layer: SocketIoLayer,
    news: Sender<Box<RawValue>>,
    stop: StopHandle,
    _running: ServerHandle,
}

impl Frameworks {
    pub(crate) fn new() -> Outcome<Self> {
        let (layer, rooms) = SocketIo::builder().ping_interval(QUIET).build_layer();
        rooms.ns("/", async |_: SocketRef| {});
        let (stop, running) = stop_channel();
        Ok(Self { rooms, layer, news: Sender::new(QUEUE), stop, _running: running })
    }

    /// The application with what they serve.
    pub(crate) fn added_to(&self, app: Router) -> Outcome<Router> {
        let mut module = RpcModule::new(self.news.clone());
        module.register_subscription(
            "subscribe_news",
            "news",
            "unsubscribe_news",
            async |_, sink, news, _| {
                let Ok(sink) = sink.accept().await else { return };
                let mut news = news.subscribe();
                loop {
                    let sent = match news.recv().await {
                        // Waits while the queue of the connection is full.
                        Ok(said) => sink.send(said).await.is_ok(),
                        Err(RecvError::Lagged(_)) => true,
                        Err(RecvError::Closed) => false,
                    };
                    if !sent {
                        return;
                    }
                }
            },
        )?;
        let config = ServerConfig::builder().max_connections(u32::MAX).build();
        let rpc = jsonrpsee::server::Server::builder().set_config(config).to_service_builder();
        let rpc = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(async |_| StatusCode::INTERNAL_SERVER_ERROR))
            .service(rpc.build(module, self.stop.clone()));
        Ok(app.route_service("/jsonrpsee", rpc).layer(self.layer.clone()))
    }

    /// Posts to the sockets of socketioxide.
    pub(crate) async fn emit(&self, said: &Said) {
        // An error says that the queue of a socket is full.
        drop(self.rooms.emit("news", said).await);
    }

    /// Posts to the subscriptions of jsonrpsee.
    pub(crate) fn notify(&self, said: &Said) -> Outcome {
        self.news.send(to_raw_value(said)?)?;
        Ok(())
    }
}
