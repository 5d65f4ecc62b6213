//! Memory of the server's process: what a client sends, and how many calls it makes, does not let it grow. In a process of
//! its own, since what other tests hold would count.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../x1/extended.rs"]
mod extended;
mod hostile;
mod many_calls;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

use tokio::sync::Mutex;

/// One at a time, for the same reason.
static ALONE: Mutex<()> = Mutex::const_new(());
