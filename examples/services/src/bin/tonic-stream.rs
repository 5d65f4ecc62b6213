//! A room as a stream of gRPC, on the same server as everything else of axum, so that both end in order.
//!
//! The service is written by hand, as a build script would make it of this:
//!
//! ```text
//! package chat;
//! message Room { string name = 1; }
//! message Event { oneof kind { string said = 1; uint64 missed = 2; } }
//! service Rooms { rpc Listen(Room) returns (stream Event); }
//! ```

use std::error::Error;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Response,
    routing::post,
};
use broker::{Broker, Channel, CloseReason, ErrorKind, MessageStream, Model, StreamError, StreamItem};
use futures_util::{Stream, StreamExt, future::ready, stream};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status, server::Grpc};
use tonic_prost::ProstCodec;

#[derive(Serialize, Deserialize, Model)]
struct Said {
    text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Room {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(oneof = "Kind", tags = "1, 2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(string, tag = "1")]
    Said(String),
    /// Zero where the number is not known.
    #[prost(uint64, tag = "2")]
    Missed(u64),
}

fn app(broker: Broker) -> Router {
    Router::new().route("/chat.Rooms/Listen", post(listen)).with_state(broker)
}

async fn listen(State(broker): State<Broker>, request: Request) -> Response<Body> {
    let service = tower::service_fn(|room: tonic::Request<Room>| {
        let broker = broker.clone();
        async move {
            let room = Channel::<Said>::of(["room", &room.into_inner().name]);
            let said = broker.create_stream(room).await.map_err(|error| status(&error))?;
            Ok(tonic::Response::new(events(said)))
        }
    });
    let response = Grpc::new(ProstCodec::default()).server_streaming(service, request).await;
    response.map(Body::new)
}

/// The items, and at the end a status that says why.
fn events(said: MessageStream<Said>) -> impl Stream<Item = Result<Event, Status>> + Send {
    stream::unfold(Some(said), |said| async {
        let mut said = said?;
        match said.next().await {
            Some(item) => Some((Ok(event(item)), Some(said))),
            None => Some((Err(ended(said.close_reason())), None)),
        }
    })
    .filter(|event| ready(!matches!(event, Ok(Event { kind: None }))))
}

fn event(item: StreamItem<Said>) -> Event {
    let kind = match item {
        Ok(said) => Some(Kind::Said(said.text.clone())),
        Err(StreamError::Gap(gap)) => Some(Kind::Missed(gap.missed.unwrap_or(0))),
        Err(_) => None, // not for this room
    };
    Event { kind }
}

fn ended(reason: Option<&CloseReason>) -> Status {
    match reason {
        Some(CloseReason::AuthenticationRevoked(_)) => Status::unauthenticated("sign in again"),
        _ => Status::unavailable("the server shuts down; connect again"),
    }
}

fn status(error: &broker::Error) -> Status {
    let code = match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Codec => Code::InvalidArgument,
        ErrorKind::Revoked => Code::Unauthenticated,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Closed => Code::Unavailable,
        kind if kind.is_transient() => Code::Unavailable,
        _ => Code::Internal,
    };
    Status::new(code, error.public_message())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    services::run(app).await
}

#[cfg(test)]
mod tests {
    use axum::http::uri::PathAndQuery;
    use broker::Scope;
    use services::{Running, within_a_minute};
    use tonic::{Streaming, client::Grpc, transport::Channel as Connection};

    use super::*;

    async fn listen(connection: Connection, name: &str) -> Result<Streaming<Event>, Status> {
        let mut client = Grpc::new(connection);
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/chat.Rooms/Listen");
        let request = tonic::Request::new(Room { name: name.to_owned() });
        Ok(client.server_streaming(request, path, ProstCodec::default()).await?.into_inner())
    }

    #[tokio::test]
    async fn items_and_the_reason_of_the_end_arrive() {
        within_a_minute(async {
            let rooms = Running::start(app).await.unwrap();
            let connection = Connection::from_shared(format!("http://{}", rooms.address)).unwrap();
            let connection = connection.connect().await.unwrap();
            let refused = listen(connection.clone(), &"x".repeat(300)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            let mut events = listen(connection, "tea").await.unwrap();
            let (tea, broker) = (Channel::of(["room", "tea"]), &rooms.broker);
            broker.post_message(&tea, Said { text: "hello".to_owned() }, Scope::Global).await.unwrap();
            broker.publish(&tea, "not said", Scope::Global).await.unwrap();
            broker.post_message(&tea, Said { text: "bye".to_owned() }, Scope::Global).await.unwrap();
            for text in ["hello", "bye"] {
                let event = events.message().await.unwrap().unwrap();
                assert_eq!(event.kind, Some(Kind::Said(text.to_owned())));
            }
            let stopped = rooms.stop();
            assert_eq!(events.message().await.unwrap_err().code(), Code::Unavailable);
            stopped.await.unwrap().unwrap();
        })
        .await;
    }
}
