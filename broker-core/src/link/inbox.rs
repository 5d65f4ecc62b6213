//! Inbox: where a link hands over what it receives.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::intake::Intake;
use crate::Error;

/// Where a link hands over what it receives. Calls never block and never await; they may come from any thread.
///
/// An inbox belongs to one link. Once core has given the link up, whatever the inbox is handed is discarded.
#[derive(Clone)]
pub struct Inbox(Kind);

#[derive(Clone)]
enum Kind {
    /// That of core.
    Core(Intake),
    /// That of a driver around another.
    Around(Arc<Around>),
}

struct Around {
    receive: Box<dyn Fn(Arrival) + Send + Sync>,
    lost: OnceLock<()>,
}

/// What a link hands over, for a driver around another: see [`Inbox::around`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Arrival {
    /// As [`Inbox::deliver`].
    Frame {
        /// The channel's name on the wire.
        channel: String,
        /// The frame.
        frame: Bytes,
    },
    /// As [`Inbox::gap`].
    Gap,
    /// As [`Inbox::lost`]; told once.
    Lost(Error),
}

impl Inbox {
    pub(super) fn new(intake: Intake) -> Self {
        Self(Kind::Core(intake))
    }

    /// An inbox that nobody reads: it discards what it is handed. For tests of a driver, which open a link without a
    /// broker.
    #[must_use]
    pub fn unheard() -> Self {
        Self::new(Intake::unheard())
    }

    /// An inbox that hands everything to a function. For a driver around another one: it opens the inner link with
    /// this, and passes on to its own inbox what is to arrive. The function must not block.
    pub fn around(receive: impl Fn(Arrival) + Send + Sync + 'static) -> Self {
        Self(Kind::Around(Arc::new(Around { receive: Box::new(receive), lost: OnceLock::new() })))
    }

    /// Whether the link has been reported lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match &self.0 {
            Kind::Core(intake) => intake.is_lost(),
            Kind::Around(around) => around.lost.get().is_some(),
        }
    }

    /// Hands over one frame that arrived on a channel, by the channel's name on the wire. It goes straight
    /// to the queues of the listeners. Bytes that are no frame are reported to them as malformed. The order of the
    /// calls is the order that listeners see; what comes on a channel before it is subscribed is nothing. A frame
    /// that is a slice of a large buffer keeps all of it alive: copy it out.
    pub fn deliver(&self, channel: &str, frame: Bytes) {
        match &self.0 {
            Kind::Core(intake) => intake.deliver(channel, frame),
            Kind::Around(around) => (around.receive)(Arrival::Frame { channel: channel.to_owned(), frame }),
        }
    }

    /// The client dropped messages but the link lives on: every channel of the link is told.
    pub fn gap(&self) {
        match &self.0 {
            Kind::Core(intake) => intake.gap(),
            Kind::Around(around) => (around.receive)(Arrival::Gap),
        }
    }

    /// Reports that the link is unusable. The first call counts; core drops the link.
    pub fn lost(&self, error: Error) {
        match &self.0 {
            Kind::Core(intake) => intake.lost(error),
            Kind::Around(around) => {
                if around.lost.set(()).is_ok() {
                    (around.receive)(Arrival::Lost(error));
                }
            }
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("lost", &self.is_lost()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_unheard_inbox_takes_anything_and_says_what_was_reported() {
        let inbox = Inbox::unheard();
        inbox.deliver("news", Bytes::from_static(b"no frame"));
        inbox.deliver("$node.1", Bytes::new());
        inbox.gap();
        assert!(!inbox.is_lost());
        inbox.lost(Error::new(ErrorKind::Unavailable, "gone"));
        assert!(inbox.is_lost());
    }

    #[test]
    fn an_inbox_around_another_passes_everything_on_and_a_loss_once() {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&arrived);
        let inbox = Inbox::around(move |arrival| heard.lock().unwrap().push(arrival));
        inbox.deliver("news", Bytes::from_static(b"x"));
        inbox.gap();
        assert!(!inbox.is_lost());
        inbox.clone().lost(Error::new(ErrorKind::Unavailable, "gone"));
        inbox.lost(Error::new(ErrorKind::Unavailable, "gone again"));
        assert!(inbox.is_lost());
        let arrived = arrived.lock().unwrap();
        let [Arrival::Frame { channel, frame }, Arrival::Gap, Arrival::Lost(error)] = &arrived[..] else {
            panic!("{arrived:?}")
        };
        assert_eq!((channel.as_str(), &frame[..], error.message()), ("news", &b"x"[..], "gone"));
    }
}
