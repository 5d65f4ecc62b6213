//! Trace: the trace of the caller travels in the headers of the post, and each delivery is a span that links to it.
//! Without the feature `opentelemetry` all of it is nothing.
//!
//! Names and attributes are those of OpenTelemetry's conventions for messaging. The name of a span is not that of a
//! channel: those come from outside, and there is no end of them.

#[cfg(not(feature = "opentelemetry"))]
mod off;
#[cfg(feature = "opentelemetry")]
mod on;

#[cfg(not(feature = "opentelemetry"))]
pub(crate) use off::{Delivery, inject};
#[cfg(feature = "opentelemetry")]
pub(crate) use on::{Delivery, inject};
