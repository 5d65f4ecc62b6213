//! Liveness and readiness, for an orchestrator and a load balancer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::{FromRef, State},
    http::{
        Extensions, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use broker_core::{Broker, ConnectionState};
use serde_json::json;

/// Routes for both: `/livez` with [`livez`], `/readyz` with [`readyz`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use axum::{Router, body::Body, http::{Request, StatusCode}};
/// use tower::ServiceExt;
///
/// let broker = broker::connect("memory:").await?;
/// let app: Router = broker_axum::probes().with_state(broker.clone());
/// let ready = || async {
///     let request = Request::get("/readyz").body(Body::empty()).unwrap();
///     app.clone().oneshot(request).await.unwrap().status()
/// };
/// assert_eq!(ready().await, StatusCode::OK);
/// broker.drain().await;
/// assert_eq!(ready().await, StatusCode::SERVICE_UNAVAILABLE);
/// # Ok(()) }
/// ```
pub fn probes<S>() -> Router<S>
where
    Broker: FromRef<S>,
    S: Clone + Send + Sync + 'static,
{
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz))
}

/// Whether the process can go on: 200, and 503 once the broker is closed, which no waiting mends. A backend that is
/// away is no reason to restart this process.
///
/// The body is JSON: `state`, as [`ConnectionState`] is displayed. No host and no error is shown. Does no I/O.
pub async fn livez(State(broker): State<Broker>) -> Response {
    let state = broker.health().state;
    show(&state.to_string(), state != ConnectionState::Closed)
}

/// Whether requests should come here: 200 while a post of this process comes back from the backend, and on
/// [`Broker::local`]. 503 while the backend is away; and from the moment at which a shutdown by [`serve`](crate::serve),
/// or a drain, begins.
///
/// The body is as that of [`livez`]; `stopping` once the shutdown has begun. Does no I/O.
pub async fn readyz(State(broker): State<Broker>, extensions: Extensions) -> Response {
    let state = broker.health().state;
    let good = matches!(state, ConnectionState::Connected | ConnectionState::Local);
    if good && extensions.get::<Stopping>().is_some_and(Stopping::has_begun) {
        return show("stopping", false);
    }
    show(&state.to_string(), good)
}

fn show(state: &str, good: bool) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, json!({ "state": state }).to_string()).into_response()
}

/// Whether the shutdown of a server has begun. In the extensions of each request that [`serve`](crate::serve) serves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
