//! With the feature: through `tracing-opentelemetry`, for whatever tracer is installed.

use std::future::Future;

use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Instrument, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{Headers, Message};

/// The span in which a delivered message is processed.
#[derive(Clone, Debug)]
pub(crate) struct Delivery(Option<Span>);

/// What the propagator reads.
struct Carrier<'a>(&'a Headers);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name).collect()
    }
}

/// What the propagator writes.
struct Added<'a>(&'a mut Headers);

impl Injector for Added<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key, value);
        }
    }
}

/// Adds the trace of the caller, unless the headers have one.
pub(crate) fn inject(headers: &mut Headers) {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() || headers.get("traceparent").is_some() {
        return;
    }
    let mut traced = headers.clone();
    TraceContextPropagator::new().inject_context(&context, &mut Added(&mut traced));
    // A post with as many headers as it may have goes out without the trace, not with an error.
    if traced.check().is_ok() {
        *headers = traced;
    }
}

impl Delivery {
    /// Of what is no message.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn of(message: &Message, channel: &str, backend: Option<&'static str>) -> Self {
        let span = tracing::info_span!(
            "process",
            otel.kind = "consumer",
            messaging.system = backend.unwrap_or("local"),
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = channel,
            messaging.message.id = tracing::field::Empty,
        );
        if span.is_disabled() {
            return Self(None);
        }
        span.record("messaging.message.id", message.id().to_string());
        let posted = TraceContextPropagator::new().extract(&Carrier(message.headers()));
        let posted = posted.span().span_context().clone();
        if posted.is_valid() {
            span.add_link(posted);
        }
        Self(Some(span))
    }

    /// Runs a part of what processes it.
    pub(crate) fn run<R>(&self, part: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(span) => span.in_scope(part),
            None => part(),
        }
    }

    /// The same for a future, whenever it is polled.
    pub(crate) fn around<F: Future>(self, future: F) -> impl Future<Output = F::Output> + use<F> {
        future.instrument(self.0.unwrap_or_else(Span::none))
    }
}
