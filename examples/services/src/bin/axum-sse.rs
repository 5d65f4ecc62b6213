//! News as server-sent events. The broker keeps no messages; this service does, so a page that connects again receives
//! exactly what it missed, whether it was away or too slow.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{FromRef, State},
    response::IntoResponse,
    routing::get,
};
use broker::{Broker, Channel, Model, Scope};
use broker_axum::{HttpError, LastEventId, RequestSession, sse};
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
    /// Held from the moment when news gets its number until it is queued. With several servers: a lock in the table.
    adding: Arc<tokio::sync::Mutex<()>>,
}

impl App {
    fn keep(&self, text: String) -> News {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let news = News { number: kept.len() + 1, text };
        kept.push(news.clone());
        news
    }

    fn kept_after(&self, last: usize) -> Vec<News> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().skip(last).cloned().collect()
    }
}

impl FromRef<App> for Broker {
    fn from_ref(app: &App) -> Self {
        app.broker.clone()
    }
}

fn app(broker: Broker) -> Router {
    let app = App { broker, kept: Arc::default(), adding: Arc::default() };
    Router::new().route("/news", get(news).post(add)).with_state(app)
}

/// Kept first, posted afterwards: who is subscribed before they look at what is kept misses nothing. Both in one order: if 2
/// were posted before 1, a page that leaves in between would come back with the last id 2, and never receive 1.
async fn add(State(app): State<App>, text: String) -> Result<(), HttpError> {
    let handle = app.broker.channel(NEWS)?;
    let adding = app.adding.lock().await;
    let posted = handle.send(app.keep(text), Scope::Global).await?;
    drop(adding);
    posted.await?;
    Ok(())
}

async fn news(
    session: RequestSession,
    LastEventId(last): LastEventId,
    State(app): State<App>,
) -> Result<impl IntoResponse, HttpError> {
    let live = session.create_stream(NEWS).await?.owning(session.0);
    let last = last.and_then(|id| id.parse().ok()).unwrap_or(0);
    // At a gap the response ends: the page connects again with its last id.
    Ok(sse(live).ids(|news| news.number.to_string()).after(app.kept_after(last)).end_at_gap())
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

    /// The texts of a response that ends for a reason.
    async fn texts(response: Response<Body>, reason: &str) -> Vec<String> {
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8(body.into()).unwrap();
        assert!(body.ends_with(&format!("data: {{\"reason\":\"{reason}\"}}\n\n")), "{body}");
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
            assert!(texts(first, "gap").await.len() < 41);
            let second = connect(&app, "1").await;
            add(&app, "last").await;
            let reading = tokio::spawn(texts(second, "going-away"));
            broker.drain().await;
            let texts = reading.await.unwrap();
            assert_eq!((texts.len(), &*texts[0], &*texts[40]), (41, "more", "last"));
        })
        .await;
    }

    /// Many at once, on several threads: without the lock some overtake others.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn news_are_posted_in_the_order_of_their_numbers() {
        within_a_minute(async {
            let broker = broker::connect("memory:?queue_capacity=4000").await.unwrap();
            let app = app(broker.clone());
            let mut live = broker.create_stream(NEWS).await.unwrap();
            let many = async |app: Router| {
                for _ in 0..500 {
                    add(&app, "one of many").await;
                }
            };
            let adding: Vec<_> = (0..8).map(|_| tokio::spawn(many(app.clone()))).collect();
            for added in adding {
                added.await.unwrap();
            }
            for number in 1..=4000 {
                assert_eq!(live.next().await.unwrap().unwrap().number, number);
            }
        })
        .await;
    }
}
