//! Trace: the span of a call continues the trace of the client that has opened it, if it says which (`tp` of the extension
//! `x1`). Without the feature `opentelemetry` this is nothing.

use tracing::Span;

/// What the propagator reads.
#[cfg(feature = "opentelemetry")]
struct Carrier<'a>(&'a str);

#[cfg(feature = "opentelemetry")]
impl opentelemetry::propagation::Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Makes the span of the client, in W3C's form, the parent of one here. What is not of that form is ignored.
#[cfg(feature = "opentelemetry")]
pub(crate) fn set_parent(span: &Span, traceparent: Option<&str>) {
    use opentelemetry::{propagation::TextMapPropagator, trace::TraceContextExt};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let Some(traceparent) = traceparent else { return };
    let context = TraceContextPropagator::new()
        .extract_with_context(&opentelemetry::Context::new(), &Carrier(traceparent));
    if context.span().span_context().is_valid() {
        // Without a tracer there is no parent to set.
        let _ = span.set_parent(context);
    }
}

/// Nothing.
#[cfg(not(feature = "opentelemetry"))]
pub(crate) fn set_parent(_: &Span, _: Option<&str>) {}
