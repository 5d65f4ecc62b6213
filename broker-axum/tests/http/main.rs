//! Services over real sockets, and clients that behave and that do not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents;
mod requests;
mod server;
mod shutdown;
mod sse;
mod ws;
mod ws_misbehaving;
