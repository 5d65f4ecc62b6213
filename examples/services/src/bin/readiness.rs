//! A service that starts while its backend is away, and says so: a load balancer asks `/readyz`, an orchestrator `/livez`.

use std::error::Error;

use axum::{Router, extract::State, routing::post};
use broker::{Broker, Options, Scope};
use broker_axum::{HttpError, probes, serve, shutdown_signal};
use tokio::net::TcpListener;

fn app(broker: Broker) -> Router {
    Router::new().route("/news", post(publish)).merge(probes()).with_state(broker)
}

async fn publish(State(broker): State<Broker>, text: String) -> Result<(), HttpError> {
    broker.publish("news", text, Scope::Global).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("BROKER_URL").unwrap_or_else(|_| "memory:".to_owned());
    // Does not wait for the backend, as `connect` would.
    let broker = broker::open(&url, Options::default())?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    serve(listener, app(broker.clone()), broker).with_graceful_shutdown(shutdown_signal()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, StatusCode},
    };
    use broker::ConnectionState;
    use broker_memory::Bus;
    use services::within_a_minute;
    use tower::ServiceExt;

    use super::*;

    async fn status(app: &Router, method: &str, path: &str) -> u16 {
        let request = Request::builder().method(method).uri(path).body(Body::from("text")).unwrap();
        app.clone().oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn it_is_alive_at_once_and_ready_while_the_backend_is_there() {
        within_a_minute(async {
            let bus = Bus::named("readiness");
            bus.cut();
            let broker = broker::open("memory://readiness", Options::default()).unwrap();
            let (app, mut changes) = (app(broker.clone()), broker.health_changes());
            let mut becomes = async |state| while changes.next().await.unwrap().state != state {};

            let away = [("GET", "/livez", 200), ("GET", "/readyz", 503), ("POST", "/news", 503)];
            let there = [("GET", "/livez", 200), ("GET", "/readyz", 200), ("POST", "/news", 200)];
            for (state, answers) in [
                (ConnectionState::Connecting, away),
                (ConnectionState::Connected, there),
                (ConnectionState::Connecting, away),
            ] {
                if state == ConnectionState::Connected {
                    bus.heal();
                } else {
                    bus.cut();
                }
                becomes(state).await;
                for (method, path, expected) in answers {
                    assert_eq!(status(&app, method, path).await, expected, "{path} while {state}");
                }
            }
            broker.close().await;
            assert_eq!(status(&app, "GET", "/livez").await, StatusCode::SERVICE_UNAVAILABLE);
        })
        .await;
    }
}
