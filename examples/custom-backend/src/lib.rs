//! A backend from outside the broker's repository: `lines://host:port`.
//!
//! The server is `line-server`, a program of this crate. Every command, answer and message is one line of words;
//! bytes follow the line that states their length. Answers come in the order of the commands.
//!
//! | command | answer |
//! |---|---|
//! | `LINES 1`, the first line | `LINES 1` |
//! | `SUB <channel>…`, `UNSUB <channel>…` | `OK`, or `NO <kind> <reason>` |
//! | `PUB <channel> <length>`, bytes | as above |
//! | `APPEND <log> <retention in ms> <length>`, bytes | as above, or `CREATED` if there was no log |
//! | `READ <log> <retention in ms> <cursor>` | a page; without a cursor, from the start |
//! | `BYE` | `OK`, when nothing of the link is left |
//!
//! A page is `PAGE <cursor> <more> <broken> <created> <count>`, and as many times `<length>`, bytes.
//! A message is `MSG <channel> <length>`, bytes.
//!
//! `Ok` of a post means that the server has queued the frame for every subscriber. A frame is lost when the server or a
//! line ends; the log is on the server's disk, and written through before `append` returns.

mod connection;
mod driver;
mod link;

use broker_core::driver::{Backend, Scheme};

/// The backend for `lines://`.
pub const BACKEND: Backend = Backend {
    name: "lines",
    schemes: &[Scheme::plain("lines", driver::DEFAULT_PORT, None)],
    open: driver::open,
};
