//! Traces: the span of a call continues that of its client.

#![allow(clippy::unwrap_used, reason = "a test")]

use broker_streams::{Endpoint, Out};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    extended::open_with,
    support::{Raw, Server, open, soon},
};

#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "x1/extended.rs"]
mod extended;
#[allow(dead_code, reason = "a part of it is for other tests")]
#[path = "support/mod.rs"]
mod support;

async fn nothing(_out: Out<i64>) {}

#[tokio::test]
async fn the_span_of_a_call_continues_the_trace_of_its_client() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let server =
        Server::start(|streams| streams.endpoint(Endpoint::new("test").method("nothing", nothing))).await;
    let (mut raw, _) = Raw::extended(&server.url).await;
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let long = "0".repeat(10_000);
    for (number, traceparent) in
        [format!("00-{trace}-{span}-01"), "nothing of the kind".to_owned(), long].iter().enumerate()
    {
        let number = u32::try_from(number).unwrap();
        raw.json(&open_with(number, "nothing", &[], &json!({"tp": traceparent}))).await;
        assert_eq!(raw.frames(2).await, ["success", "close done"]);
    }
    // One who has not agreed on the extension does not set it.
    let mut plain = server.connect().await;
    let mut frame = open(9, "test", "nothing", &json!({}), &[]);
    frame["data"]["x"] = json!({"tp": format!("00-{trace}-{span}-01")});
    plain.json(&frame).await;
    assert_eq!(plain.frames(2).await, ["success", "close done"]);
    soon("the end", server.streams.close()).await;

    let spans = exporter.get_finished_spans().unwrap();
    let calls: Vec<&SpanData> = spans.iter().filter(|span| span.name == "call").collect();
    assert_eq!(calls.len(), 4);
    assert_eq!(calls[0].span_context.trace_id().to_string(), trace);
    assert_eq!(calls[0].parent_span_id.to_string(), span);
    for call in &calls[1..] {
        assert_ne!(call.span_context.trace_id().to_string(), trace);
        assert_ne!(call.parent_span_id, SpanId::INVALID, "the socket is its parent");
    }
}
