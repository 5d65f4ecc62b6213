//! Stopping: what a socket does on its server's way to stop.

use std::time::Duration;

use broker_streams_wire::{Bye, Cause, Extension, Why, write_data};

use super::{Socket, Transport};
use crate::call::state::End;

/// How far the server has come on its way to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    /// No new calls.
    Draining,
    /// The calls were ended.
    Ending,
}

impl<S: Transport> Socket<S> {
    /// The server has come a step further on its way to stop. `false` if that was the last.
    pub(super) fn on_next_stage(&mut self) -> bool {
        let next = match self.stage {
            Stage::Serving => {
                self.stage = Stage::Draining;
                self.say_bye();
                &self.server.ending
            }
            Stage::Draining => {
                self.stage = Stage::Ending;
                for call in self.table.values() {
                    call.end(End::Why(Why::new(Cause::Draining)));
                }
                &self.server.closing
            }
            Stage::Ending => return false,
        };
        self.next_stage = Box::pin(next.clone().cancelled_owned());
        true
    }

    /// Tells a client that knows the word that it should go elsewhere.
    fn say_bye(&self) {
        let within = self.server.within.get().copied().unwrap_or_default();
        if self.extension == Some(Extension::X1) && !within.is_zero() {
            let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
            let bye = Bye { within: milliseconds(within), spread: milliseconds(within / 2) };
            self.outbox.control(write_data("bye", &bye).into());
        }
    }
}
