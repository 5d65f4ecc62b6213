//! Pixorama: a board of 64 × 64 pixels, shared by everyone on every server.
//!
//! `board` is what is painted, and how two boards become one. `cluster` keeps this server's board equal to those of the
//! others over the broker. `page` speaks with one browser, within `limits`, and `status` is the line under the board. The browser's side
//! is in `assets`.

mod board;
mod cluster;
mod limits;
mod page;
mod status;

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{State, WebSocketUpgrade},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use broker::Broker;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

pub use crate::limits::Limits;

use crate::cluster::Cluster;

/// How many browsers may be connected to one server.
const PAGES: usize = 2000;
/// The longest message a browser may send, in bytes.
const LONGEST: usize = 512;
/// How long browsers have to hang up when the server ends.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a request needs.
#[derive(Clone)]
struct App {
    cluster: Arc<Cluster>,
    /// One for each browser.
    places: Arc<Semaphore>,
    limits: Limits,
    stop: CancellationToken,
}

/// Serves the board until `stopped` is done; then closes the broker.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    limits: Limits,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stop = CancellationToken::new();
    let cluster = Cluster::join(broker.clone(), stop.clone());
    let app = App { cluster, places: Arc::new(Semaphore::new(PAGES)), limits, stop: stop.clone() };
    let router = Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", include_str!("../assets/index.html"))))
        .route("/app.js", get(|| file("text/javascript; charset=utf-8", include_str!("../assets/app.js"))))
        .route("/style.css", get(|| file("text/css; charset=utf-8", include_str!("../assets/style.css"))))
        .route("/live", get(live))
        .with_state(app);
    let ending = stop.clone();
    let graceful = async move {
        stopped.await;
        ending.cancel();
    };
    let serving = async { axum::serve(listener, router).with_graceful_shutdown(graceful).await };
    tokio::select! {
        served = serving => served?,
        () = async { stop.cancelled().await; tokio::time::sleep(GOODBYE).await } => {}
    }
    stop.cancel();
    broker.close().await;
    Ok(())
}

/// Compiled in. The page loads nothing from elsewhere, and its browser is told so.
async fn file(kind: &'static str, text: &'static str) -> Response {
    let policy = "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, text).into_response()
}

async fn live(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    let Ok(place) = Arc::clone(&app.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many people are here; come back in a moment")
            .into_response();
    };
    upgrade.max_message_size(LONGEST).max_frame_size(LONGEST).on_upgrade(async move |socket| {
        page::attend(socket, app.cluster, app.limits, app.stop).await;
        drop(place);
    })
}
