//! Tests of whole servers: by a browser's side of the conversation, and by a real browser.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod actions;
mod boards;
mod browser;
mod chromium;
mod page;
mod server;
