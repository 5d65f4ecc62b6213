//! The extension `x1`, against a raw socket: windows, gaps, reasons, deadlines, positions, and calls that are resumed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod agreement;
mod ends;
mod extended;
mod refresh;
mod resume;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod transient;
mod windows;
