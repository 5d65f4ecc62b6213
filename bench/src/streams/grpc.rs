//! gRPC: streams of tonic, as a build script would make them, on a thread of their own.

use std::{net::SocketAddr, sync::mpsc, thread};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, uri::PathAndQuery},
    routing::post,
};
use futures_util::stream::{Pending, pending};
use tokio::{net::TcpListener, runtime::Builder, sync::oneshot};
use tonic::{
    Status, Streaming,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use crate::Outcome;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

async fn forever(request: Request) -> Response<Body> {
    let service = tower::service_fn(async |_: tonic::Request<Nothing>| {
        let stream: Pending<Result<Nothing, Status>> = pending();
        Ok(tonic::Response::new(stream))
    });
    let codec = ProstCodec::<Nothing, Nothing>::default();
    tonic::server::Grpc::new(codec).server_streaming(service, request).await.map(Body::new)
}

/// A server, which ends with it.
pub(crate) struct Grpc {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Grpc {
    pub(crate) fn start() -> Outcome<Self> {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                ready.send(listener.local_addr()?)?;
                let app = Router::new().route("/bench.Bench/Forever", post(forever));
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                let serving = Server::builder().add_routes(app.into()).serve_with_incoming(incoming);
                tokio::select! {
                    _ = stopped => Ok(()),
                    ended = serving => Outcome::Ok(ended?),
                }
            })
        });
        let address = started.recv().map_err(|_| "tonic has not started")?;
        Ok(Self { address, _stop: stop })
    }

    pub(crate) async fn connect(&self) -> Outcome<tonic::client::Grpc<Channel>> {
        let channel = Channel::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true);
        Ok(tonic::client::Grpc::new(channel.connect().await?))
    }
}

/// Opens a stream.
pub(crate) async fn open(client: &mut tonic::client::Grpc<Channel>) -> Outcome<Streaming<Nothing>> {
    client.ready().await?;
    let path = PathAndQuery::from_static("/bench.Bench/Forever");
    let codec = ProstCodec::<Nothing, Nothing>::default();
    Ok(client.server_streaming(tonic::Request::new(Nothing {}), path, codec).await?.into_inner())
}
