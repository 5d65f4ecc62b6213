//! Publishing: the command that publishes a frame.

use std::io::Write;

use broker_core::driver::Outgoing;
use redis::{Cmd, RedisWrite};

/// That of one frame: `PUBLISH`, or `SPUBLISH`.
pub(crate) fn command(verb: &str, outgoing: &Outgoing) -> Cmd {
    let channel = outgoing.channel.as_str();
    // Room for all of it at once: grown piece by piece, a command is allocated five times.
    let mut command = Cmd::with_capacity(3, verb.len() + channel.len() + outgoing.size());
    command.arg(verb).arg(channel);
    let mut frame = command.writer_for_next_arg();
    for part in outgoing.parts() {
        // It writes into a vector, which takes everything.
        let _ = frame.write_all(part);
    }
    drop(frame);
    command
}
