//! Traces: that of the caller travels with the post, and each delivery is a span that links to it.

use broker::{Broker, Event, Headers, Model, Post, Received, Scope, TypedPost};
use opentelemetry::trace::{SpanId, SpanKind, TraceId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::{Instrument, info_span, subscriber::DefaultGuard};
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Serialize, Deserialize, Model)]
struct Said {
    text: String,
}

fn said(text: &str) -> Said {
    Said { text: text.to_owned() }
}

/// A tracer for this thread, and what it has exported.
fn tracer() -> (DefaultGuard, SdkTracerProvider, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    (guard, provider, exporter)
}

fn named(exporter: &InMemorySpanExporter, name: &str) -> Vec<SpanData> {
    let spans = exporter.get_finished_spans().expect("the exporter works");
    spans.into_iter().filter(|span| span.name == name).collect()
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key)?;
    Some(found.value.to_string())
}

async fn posted_and_heard(scope: Scope) {
    let (_guard, _provider, exporter) = tracer();
    let broker = broker::connect("memory:").await.expect("it connects");
    let session = broker.session();
    let (sender, mut texts) = unbounded_channel();
    session
        .add_listener_with("room", sender, async |sender: UnboundedSender<_>, said: Received<Said>| {
            async {}.instrument(info_span!("inside")).await;
            let _ = sender.send((said.text.clone(), said.header("traceparent").map(str::to_owned)));
        })
        .await
        .expect("it listens");
    let posting = async {
        session.post_message("room", said("hello"), scope).await.expect("it posts");
    };
    posting.instrument(info_span!("request")).await;
    let (text, header) = texts.recv().await.expect("a call");
    assert_eq!(text, "hello");
    broker.close().await;

    let [request] = &named(&exporter, "request")[..] else { panic!("one request") };
    let [process] = &named(&exporter, "process")[..] else { panic!("one delivery") };
    let [inside] = &named(&exporter, "inside")[..] else { panic!("one span inside") };
    let (trace, span) = (request.span_context.trace_id(), request.span_context.span_id());
    assert_eq!(header, Some(format!("00-{trace}-{span}-01")));
    let link = &process.links.links[0].span_context;
    assert_eq!((link.trace_id(), link.span_id(), link.is_remote()), (trace, span, true));
    assert_eq!(process.span_kind, SpanKind::Consumer);
    assert_eq!(inside.parent_span_id, process.span_context.span_id());
    for (key, value) in [
        ("messaging.system", "memory"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "room"),
    ] {
        assert_eq!(attribute(process, key).as_deref(), Some(value), "{key}");
    }
    assert!(attribute(process, "messaging.message.id").is_some());
}

#[tokio::test]
async fn a_global_post_carries_the_trace_to_the_listener() {
    posted_and_heard(Scope::Global).await;
}

#[tokio::test]
async fn so_does_a_local_one() {
    posted_and_heard(Scope::Local).await;
}

#[tokio::test]
async fn what_a_stream_yields_is_processed_in_a_span() {
    let (_guard, _provider, exporter) = tracer();
    let broker = Broker::local();
    let mut room = broker.create_stream::<Said>("room").await.expect("it subscribes");
    let posting = async { broker.post_message("room", said("hello"), Scope::Local).await.expect("it posts") };
    posting.instrument(info_span!("request")).await;
    let hello = room.next().await.expect("open").expect("a message");
    room.in_span(&hello, async { info_span!("inside").in_scope(|| {}) }).await;
    let [process] = &named(&exporter, "process")[..] else { panic!("one delivery") };
    assert_eq!(process.links.links.len(), 1);
    assert_eq!(named(&exporter, "inside")[0].parent_span_id, process.span_context.span_id());
}

#[tokio::test]
async fn a_trace_that_is_there_stays_and_none_is_made_up() {
    let (_guard, _provider, _exporter) = tracer();
    let broker = Broker::local();
    let mut news = broker.subscribe("news").await.expect("it subscribes");
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let posting = async {
        let post = Post::new("traced already").with_header("traceparent", own);
        broker.publish("news", post, Scope::Local).await.expect("it posts");
        let typed = TypedPost::new(said("traced already")).with_header("traceparent", own);
        broker.post_message("news", typed, Scope::Local).await.expect("it posts");
        let full: Headers = (0..Headers::MAX_COUNT).map(|n| (format!("h{n}"), "v")).collect();
        let post = Post::new("no room for one").with_headers(full);
        broker.publish("news", post, Scope::Local).await.expect("it posts");
    };
    posting.instrument(info_span!("request")).await;
    broker.publish("news", "outside of any span", Scope::Local).await.expect("it posts");
    for expected in [Some(own), Some(own), None, None] {
        let Some(Event::Message(message)) = news.next().await else { panic!("a message") };
        assert_eq!(message.headers().get("traceparent"), expected);
        // Whatever the header says, it is read without a fault.
        news.in_span(&message, async {}).await;
    }
}

#[tokio::test]
async fn a_hostile_header_links_to_nothing() {
    let (_guard, _provider, exporter) = tracer();
    let broker = Broker::local();
    let mut news = broker.subscribe("news").await.expect("it subscribes");
    let zero = format!("00-{}-{}-01", TraceId::INVALID, SpanId::INVALID);
    for value in ["", "00", "00-xyz-1-01", &zero, &"9".repeat(60_000)[..16_000]] {
        let post = Post::new("x").with_header("traceparent", value).with_header("tracestate", "=,=;\u{0}");
        broker.publish("news", post, Scope::Local).await.expect("it posts");
        let Some(Event::Message(message)) = news.next().await else { panic!("a message") };
        news.in_span(&message, async {}).await;
    }
    let spans = named(&exporter, "process");
    assert_eq!(spans.len(), 5);
    assert!(spans.iter().all(|span| span.links.links.is_empty()));
}
