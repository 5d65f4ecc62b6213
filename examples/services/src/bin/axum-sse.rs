//! News as server-sent events. The broker keeps no messages; this service does, so a page that connects again receives
//! exactly what it missed, whether it was away or too slow.

use std::{
    error::Error,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{FromRef, State},
    response::{IntoResponse, Sse, sse::Event},
    routing::get,
};
use broker::{Broker, Channel, Model, Scope, StreamError};
use broker_axum::{AnyStream, HttpError, LastEventId, RequestSession, sse};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, Model)]
struct News {
    number: usize,
    text: String,
}

const NEWS: Channel<News> = Channel::new("news");

#[derive(Clone)]
struct App {
    broker: Broker,
    /// Elsewhere a table, which all servers share. The first has the number 1.
    kept: Arc<Mutex<Vec<News>>>,
}

impl FromRef<App> for Broker {
    fn from_ref(app: &App) -> Self {
        app.broker.clone()
    }
}

fn app(broker: Broker) -> Router {
    Router::new().route("/news", get(news).post(add)).with_state(App { broker, kept: Arc::default() })
}

/// Kept first, posted afterwards: who is subscribed before they look at what is kept misses nothing.
async fn add(State(app): State<App>, text: String) -> Result<(), HttpError> {
    let news = {
        let mut kept = app.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let news = News { number: kept.len() + 1, text };
        kept.push(news.clone());
        news
    };
    app.broker.post_message(NEWS, news, Scope::Global).await?;
    Ok(())
}

async fn news(
    session: RequestSession,
    LastEventId(last): LastEventId,
    State(app): State<App>,
) -> Result<impl IntoResponse, HttpError> {
    let live = session.create_stream(NEWS).await?.owning(session.0);
    let last = last.and_then(|id| id.parse().ok()).unwrap_or(0);
    let missed: Vec<News> =
        app.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().skip(last).cloned().collect();
    let sent = last + missed.len();
    let missed = stream::iter(missed)
        .map(|news| Event::default().id(news.number.to_string()).json_data(news).map_err(axum::Error::new));
    // At a gap the response ends: the page connects again with its last id.
    let live = live
        .take_while(|item| ready(!matches!(item, Err(StreamError::Gap(_)))))
        .filter(move |item| ready(!matches!(item, Ok(news) if news.number <= sent)));
    let live = sse(AnyStream(live)).ids(|news| news.number.to_string()).into_events();
    let live = live.map(|event| event.map_err(|never| match never {}));
    Ok(Sse::new(missed.chain(live)).keep_alive(axum::response::sse::KeepAlive::default()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    services::run(app).await
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, Response},
    };
    use services::within_a_minute;
    use tower::ServiceExt;

    use super::*;

    async fn add(app: &Router, text: &'static str) {
        let request = Request::post("/news").body(Body::from(text)).unwrap();
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 200);
    }

    async fn connect(app: &Router, last: &str) -> Response<Body> {
        let request = Request::get("/news").header("last-event-id", last).body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap()
    }

    /// The texts of a response that ends.
    async fn texts(response: Response<Body>) -> Vec<String> {
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8(body.into()).unwrap();
        let news = body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok());
        news.map(|news: News| news.text).collect()
    }

    #[tokio::test]
    async fn a_page_that_connects_again_receives_what_it_missed() {
        within_a_minute(async {
            let broker = broker::connect("memory:?queue_capacity=16").await.unwrap();
            let app = app(broker.clone());
            let first = connect(&app, "").await;
            add(&app, "one").await;
            // More than the queue of a page that does not read has room for.
            for _ in 0..40 {
                add(&app, "more").await;
            }
            assert!(texts(first).await.len() < 41);
            let second = connect(&app, "1").await;
            add(&app, "last").await;
            let reading = tokio::spawn(texts(second));
            broker.drain().await;
            let texts = reading.await.unwrap();
            assert_eq!((texts.len(), &*texts[0], &*texts[40]), (41, "more", "last"));
        })
        .await;
    }
}
