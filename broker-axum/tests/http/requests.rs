//! Sessions of requests, errors as responses, probes.

use std::{net::SocketAddr, time::Instant};

use axum::{Router, body::to_bytes, extract::ConnectInfo, response::IntoResponse, routing::get};
use broker::{Broker, Error, ErrorKind, Identity, Options, Revocation};
use broker_axum::{HttpError, LastEventId, RequestSession, UserSession, probes};
use broker_memory::Bus;
use tokio::io::AsyncWriteExt;

use crate::server::{Server, within};

/// As an application's own middleware does: the user is whom the header names.
async fn authenticate(mut request: axum::extract::Request) -> axum::extract::Request {
    let began = Instant::now();
    if let Some(user) = request.headers().get("user").map(|user| user.to_str().unwrap().to_owned()) {
        request.extensions_mut().insert(Identity::new(user, began));
    }
    request
}

fn names() -> Router<Broker> {
    let anyone =
        async |session: RequestSession| session.identity().map_or("nobody", Identity::user).to_owned();
    Router::new()
        .route("/anyone", get(anyone))
        .route("/user", get(async |user: UserSession| user.name().to_owned()))
}

#[tokio::test]
async fn a_session_is_of_the_user_whom_the_middleware_has_named() {
    let broker = broker::connect("memory:").await.unwrap();
    let app = names().layer(axum::middleware::map_request(authenticate));
    let server = Server::start(&broker, app).await;
    let ask = async |path: &str, user: Option<&str>| {
        let mut request = reqwest::Client::new().get(server.url(path));
        if let Some(user) = user {
            request = request.header("user", user);
        }
        let response = within(path, request.send()).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(ask("/anyone", None).await, (200, "nobody".to_owned()));
    assert_eq!(ask("/anyone", Some("ada")).await, (200, "ada".to_owned()));
    assert_eq!(ask("/user", Some("ada")).await, (200, "ada".to_owned()));
    let unauthenticated =
        r#"{"error":"unauthenticated","message":"the request is not authenticated; sign in"}"#;
    assert_eq!(ask("/user", None).await, (401, unauthenticated.to_owned()));
    broker.close().await;
    for path in ["/anyone", "/user"] {
        let (status, body) = ask(path, Some("ada")).await;
        assert!(status == 503 && body.contains("\"closed\""), "{status} {body}");
    }
}

#[tokio::test]
async fn a_session_whose_authentication_is_revoked_already_is_rejected_with_401() {
    let broker = broker::connect("memory:").await.unwrap();
    let began = Instant::now();
    let identity = move |mut request: axum::extract::Request| async move {
        request.extensions_mut().insert(Identity::new("ada", began));
        request
    };
    let server = Server::start(&broker, names().layer(axum::middleware::map_request(identity))).await;
    assert_eq!(server.get("/anyone").await.status(), 200);
    broker.revoke(Revocation::user("ada")).await.unwrap();
    let revoked = r#"{"error":"revoked","message":"the sign-in is no longer valid; sign in again"}"#;
    for path in ["/anyone", "/user"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.text().await.unwrap(), revoked, "{path}");
    }
}

#[tokio::test]
async fn an_error_is_a_response_without_internals() {
    let secret = "no connection to 10.0.0.7:6379 as shop";
    for (kind, status, retry) in [
        (ErrorKind::InvalidInput, 400, false),
        (ErrorKind::Revoked, 401, false),
        (ErrorKind::Forbidden, 500, false),
        (ErrorKind::TooLarge, 413, false),
        (ErrorKind::Codec, 422, false),
        (ErrorKind::Misconfigured, 500, false),
        (ErrorKind::Protocol, 500, false),
        (ErrorKind::Other, 500, false),
        (ErrorKind::NoBackend, 501, false),
        (ErrorKind::Unsupported, 501, false),
        (ErrorKind::Interrupted, 502, false),
        (ErrorKind::Unavailable, 503, true),
        (ErrorKind::Overloaded, 503, true),
        (ErrorKind::Closed, 503, true),
        (ErrorKind::Timeout, 504, false),
    ] {
        let response = HttpError::from(Error::new(kind, secret).with_backend("redis")).into_response();
        assert_eq!(response.status(), status, "{kind}");
        assert_eq!(response.headers().contains_key("retry-after"), retry, "{kind}");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"], kind.to_string());
        let text = body.to_string();
        assert!(!text.contains("10.0.0.7") && !text.contains("redis") && !text.contains("shop"), "{text}");
    }
}

#[tokio::test]
async fn the_body_of_an_error_is_the_one_in_the_documents() {
    let response = HttpError::from(Error::new(ErrorKind::Unavailable, "")).into_response();
    let body = to_bytes(response.into_body(), 1000).await.unwrap();
    let body = std::str::from_utf8(&body).unwrap();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http.md")).unwrap();
    assert!(page.contains(&format!("```json\n{body}\n```")), "{body}");
}

#[tokio::test]
async fn who_has_to_wait_with_a_new_sign_in_is_told_how_long() {
    let broker = broker::connect("memory:").await.unwrap();
    let issued = std::time::SystemTime::now();
    broker.revoke(Revocation::user("ada")).await.unwrap();
    let error = broker.session_for(Identity::new("ada", issued)).await.unwrap_err();
    let response = HttpError::from(error).into_response();
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(response.status() == 401 && (1..=2).contains(&wait), "{wait}");
}

#[tokio::test]
async fn probes_report_the_state_and_no_host() {
    let bus = Bus::named("probes");
    bus.cut();
    let away = broker::open("memory://probes", Options::default()).unwrap();
    within("a failure", async {
        while away.health().last_error.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let connected = broker::connect("memory:").await.unwrap();
    for (broker, ready) in [(connected, 200), (Broker::local(), 200), (away, 503)] {
        let server = Server::start(&broker, probes()).await;
        let state = broker.health().state.to_string();
        for (path, status) in [("/livez", 200), ("/readyz", ready)] {
            let response = server.get(path).await;
            assert_eq!(response.status(), status, "{path} {state}");
            assert_eq!(response.text().await.unwrap(), format!("{{\"state\":\"{state}\"}}"));
        }
        broker.close().await;
        for path in ["/livez", "/readyz"] {
            assert_eq!(server.get(path).await.status(), 503, "{path}");
        }
    }
}

#[tokio::test]
async fn the_last_id_and_the_address_of_a_client_reach_the_application() {
    let last = async |LastEventId(last): LastEventId| format!("{last:?}");
    let address = async |ConnectInfo(address): ConnectInfo<SocketAddr>| address.to_string();
    let broker = broker::connect("memory:").await.unwrap();
    let app = Router::new().route("/last", get(last)).route("/address", get(address));
    let server = Server::start(&broker, app).await;
    assert_eq!(server.get("/last").await.text().await.unwrap(), "None");
    for (value, shown) in [("17-a", "Some(\"17-a\")"), ("ü", "Some(\"ü\")"), ("", "None")] {
        let request =
            reqwest::Client::new().get(server.url("/last")).header("last-event-id", value.as_bytes());
        assert_eq!(within("/last", request.send()).await.unwrap().text().await.unwrap(), shown);
    }
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let own = stream.local_addr().unwrap().to_string();
    stream.write_all(b"GET /address HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)).await.unwrap();
    assert!(answer.ends_with(&own), "{answer}");
}
