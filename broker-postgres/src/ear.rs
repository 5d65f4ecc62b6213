//! Ear: what the link hears, put together and handed over.

use std::sync::Arc;

use broker_core::driver::Inbox;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_postgres::Notification;

use crate::{assembly::Assembly, names::Names, piece::Piece, proof::Heard};

/// See the module.
pub(crate) struct Ear {
    names: Arc<Names>,
    inbox: Inbox,
    assembly: Assembly,
    /// The channel of NOTIFY by which the link proves itself, and whom to tell.
    proof: (String, watch::Sender<Heard>),
    malformed: u64,
}

impl Ear {
    pub(crate) fn new(names: Arc<Names>, inbox: Inbox, proof: (String, watch::Sender<Heard>)) -> Self {
        Self { names, inbox, assembly: Assembly::default(), proof, malformed: 0 }
    }

    pub(crate) fn hear(&mut self, notification: &Notification) {
        if notification.channel() == self.proof.0 {
            self.proof.1.send_replace(Heard::Here);
            return;
        }
        let Some(piece) = Piece::parse(notification.payload()) else { return self.count(notification) };
        if !self.names.has(piece.hash) {
            return;
        }
        let outcome = self.assembly.add(notification.process_id(), &piece);
        if let Some(broken) = outcome.broken {
            // Nothing is no frame: whoever listens there is told of one that is malformed.
            self.inbox.deliver(broken.channel(), Bytes::new());
        }
        if let Some(arrived) = outcome.complete {
            self.inbox.deliver(arrived.channel(), arrived.frame());
        }
        if outcome.malformed {
            self.count(notification);
        }
    }

    /// Whoever may connect to the database may notify here. The log is told of the first, the second, the fourth, and so on.
    fn count(&mut self, notification: &Notification) {
        self.malformed += 1;
        if self.malformed.is_power_of_two() {
            let (count, channel, process) =
                (self.malformed, notification.channel(), notification.process_id());
            tracing::warn!(count, channel, process, "dropped a notification that is no piece of a frame");
        }
    }
}
