//! Receiver: takes the notifications of a link, puts their pieces together, and delivers the frames.

use std::sync::Arc;

use broker_core::driver::Inbox;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_postgres::Notification;

use crate::{assembly::Assembly, names::Names, piece::Piece, proof::First};

/// See the module.
pub(crate) struct Receiver {
    names: Arc<Names>,
    inbox: Inbox,
    assembly: Assembly,
    /// The channel of NOTIFY by which the link proves itself, and where to say that its notification has arrived.
    proof: (String, watch::Sender<First>),
    malformed: u64,
}

impl Receiver {
    pub(crate) fn new(names: Arc<Names>, inbox: Inbox, proof: (String, watch::Sender<First>)) -> Self {
        Self { names, inbox, assembly: Assembly::default(), proof, malformed: 0 }
    }

    pub(crate) fn receive(&mut self, notification: &Notification) {
        if notification.channel() == self.proof.0 {
            self.proof.1.send_replace(First::AtReceiver);
            return;
        }
        let Some(piece) = Piece::parse(notification.payload()) else { return self.count(notification) };
        if !self.names.has(piece.hash) {
            return;
        }
        let outcome = self.assembly.add(notification.process_id(), &piece);
        if let Some(broken) = outcome.broken {
            // No bytes are no frame: subscribers of the channel get an event about a malformed one.
            self.inbox.deliver(broken.channel(), Bytes::new());
        }
        if let Some(arrived) = outcome.complete {
            self.inbox.deliver(arrived.channel(), arrived.frame());
        }
        if outcome.malformed {
            self.count(notification);
        }
    }

    /// Every user of the database may notify here. The first is logged, and the second, the fourth, and so on.
    fn count(&mut self, notification: &Notification) {
        self.malformed += 1;
        if self.malformed.is_power_of_two() {
            let (count, channel, process) =
                (self.malformed, notification.channel(), notification.process_id());
            tracing::warn!(count, channel, process, "dropped a notification that is no piece of a frame");
        }
    }
}
