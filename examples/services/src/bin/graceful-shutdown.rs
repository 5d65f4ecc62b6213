//! What ends when, with a load balancer in front: first no new requests come here, then what is open ends, then the broker.

use std::{error::Error, time::Duration};

use axum::{Router, extract::WebSocketUpgrade, response::IntoResponse, routing::any};
use broker::{Broker, Channel, Model, Scope};
use broker_axum::{HttpError, RequestSession, Serve, WebSocketForward, probes, serve, shutdown_signal};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Serialize, Deserialize, Model)]
struct Said {
    text: String,
}

const ROOM: Channel<Said> = Channel::new("room");

fn app(broker: Broker) -> Router {
    Router::new().route("/room", any(room)).merge(probes()).with_state(broker)
}

async fn room(session: RequestSession, upgrade: WebSocketUpgrade) -> Result<impl IntoResponse, HttpError> {
    let said = session.create_stream(ROOM).await?;
    let say = async |broker: Broker, said: Said| broker.post_message(ROOM, said, Scope::Global).await;
    Ok(WebSocketForward::new(upgrade, said.owning(session.0.clone()))
        .on_message_with(session.broker().clone(), say))
}

/// The broker's own limit is within the deadline, and both with the delay within the 30 s that Kubernetes grants.
fn server(listener: TcpListener, broker: Broker, delay: Duration) -> Serve<TcpListener> {
    serve(listener, app(broker.clone()), broker).delay(delay).deadline(Duration::from_secs(20))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = broker::from_env().await?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    // Until the load balancer has asked twice.
    let delay = Duration::from_secs(5);
    server(listener, broker, delay).with_graceful_shutdown(shutdown_signal()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use broker::ConnectionState;
    use futures_util::{SinkExt, StreamExt};
    use services::within_a_minute;
    use tokio::sync::oneshot;
    use tokio_tungstenite::{connect_async, tungstenite::Message};

    use super::*;

    #[tokio::test]
    async fn a_socket_receives_what_was_said_before_it_is_closed() {
        within_a_minute(async {
            let broker = broker::connect("memory:").await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, (stop, stopped)) = (listener.local_addr().unwrap(), oneshot::channel::<()>());
            let server = server(listener, broker.clone(), Duration::from_millis(1));
            let serving =
                tokio::spawn(server.with_graceful_shutdown(async { drop(stopped.await) }).into_future());
            let (mut socket, _) = connect_async(format!("ws://{address}/room")).await.unwrap();
            socket.send(Message::text(r#"{"text":"bye"}"#)).await.unwrap();
            let said = socket.next().await.unwrap().unwrap();
            assert!(said.to_text().unwrap().ends_with(r#""data":{"text":"bye"}}"#), "{said}");

            let mut states = broker.health_changes();
            broker.post_message(ROOM, Said { text: "last".to_owned() }, Scope::Global).await.unwrap();
            drop(stop);
            assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("last"));
            let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else { panic!("open") };
            assert_eq!(u16::from(frame.code), 1001);
            drop(socket);
            serving.await.unwrap().unwrap();
            while let Some(health) = states.next().await {
                println!("{health}");
            }
            assert_eq!(broker.health().state, ConnectionState::Closed);
            assert!(connect_async(format!("ws://{address}/room")).await.is_err());
        })
        .await;
    }
}
