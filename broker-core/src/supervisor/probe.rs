//! Probe: a post of our own that has to come back. Finds half-open connections in either direction, on every
//! backend, and is what `health()` reports. A barrier is the same post in turn behind others: when it is back,
//! so is all that was posted before it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{sync::watch, time::timeout};

use crate::{
    ChannelName, Error, ErrorKind, NodeId, Post, Result,
    message::Wire,
    wire::{
        frame::{self, SequenceHeader},
        names::{Names, probe_channel},
    },
};

/// The probe of one node.
#[derive(Debug)]
pub(crate) struct Probe {
    node: NodeId,
    name: ChannelName,
    pub(crate) wire_name: ChannelName,
    /// Some overtake other posts and barriers do not, so each kind has its own count.
    kinds: [Count; 3],
    /// When the last heartbeat came back, by the system's clock.
    back: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Count {
    sent: AtomicU64,
    heard: watch::Sender<u64>,
}

/// What a probe proves when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The receive path works.
    Heartbeat = 0,
    /// Everything posted before it has arrived.
    Barrier = 1,
    /// Everything that was under way to this link has arrived.
    Flush = 2,
}

/// A probe under way.
#[derive(Debug)]
pub(crate) struct Token {
    kind: Kind,
    number: u64,
}

impl Probe {
    pub(crate) fn new(node: NodeId, names: &Names) -> Self {
        let name = probe_channel(node);
        let wire_name = names.share_to_wire(&name);
        let count = || Count { sent: AtomicU64::new(0), heard: watch::Sender::new(0) };
        Self { node, name, wire_name, kinds: [count(), count(), count()], back: Mutex::default() }
    }

    /// The next probe of a kind: how to know it again, and its frame.
    pub(crate) fn next(&self, kind: Kind) -> (Token, BytesMut) {
        let number = self.kinds[kind as usize].sent.fetch_add(1, Ordering::Relaxed) + 1;
        let mut frame = frame::encode(&Post::new(Vec::new()), self.node);
        // Outside the sequencer of posts: the epoch tells the kind, the sequence only has to be legal.
        frame::write_header(&mut frame, SequenceHeader { number, epoch: kind as u32, sequence: number });
        (Token { kind, number }, frame)
    }

    /// A frame arrived on one of the broker's own channels. It may be anybody's, and say anything.
    pub(crate) fn receive(&self, name: &str, wire: &Wire, header: SequenceHeader) {
        if name != self.name.as_str() || wire.head.origin != self.node {
            return;
        }
        if let Some(count) = self.kinds.get(header.epoch as usize) {
            count.heard.send_if_modified(|heard| {
                let newer = header.number > *heard && header.number <= count.sent.load(Ordering::Relaxed);
                if newer {
                    *heard = header.number;
                }
                newer
            });
        }
    }

    /// How long ago the last heartbeat came back, if one has.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.back.lock().unwrap_or_else(PoisonError::into_inner).map(|back| back.elapsed())
    }

    /// Waits until a probe has come back.
    pub(crate) async fn echo(&self, token: Token, limit: Duration) -> Result<()> {
        let mut heard = self.kinds[token.kind as usize].heard.subscribe();
        match timeout(limit, heard.wait_for(|heard| *heard >= token.number)).await {
            Ok(_) => {
                if token.kind == Kind::Heartbeat {
                    *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                Ok(())
            }
            Err(_) => {
                let message = format!(
                    "a post of our own did not come back within {limit:?}: the link is dead or the backend stuck"
                );
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(probe: &Probe, frame: BytesMut) {
        let (wire, header) = frame::decode(&frame.freeze()).unwrap();
        probe.receive(probe.name.as_str(), &wire, header);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_that_overtakes_a_barrier_is_not_taken_for_it() {
        let probe = Probe::new(NodeId::random(), &Names::new(""));
        let (barrier, frame) = probe.next(Kind::Barrier);
        for _ in 0..3 {
            let (probe_epoch, frame) = probe.next(Kind::Heartbeat);
            receive(&probe, frame);
            probe.echo(probe_epoch, Duration::from_secs(1)).await.unwrap();
        }
        let (second, _) = probe.next(Kind::Barrier);
        receive(&probe, frame);
        probe.echo(barrier, Duration::from_secs(1)).await.unwrap();
        assert!(probe.echo(second, Duration::from_secs(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_own_probe_that_was_sent_counts() {
        let probe = Probe::new(NodeId::random(), &Names::new(""));
        let (token, _) = probe.next(Kind::Heartbeat);
        let other = Probe::new(NodeId::random(), &Names::new(""));
        let (_, foreign) = other.next(Kind::Heartbeat);
        receive(&probe, foreign);
        let mut early = frame::encode(&Post::new(Vec::new()), probe.node);
        frame::write_header(&mut early, SequenceHeader { number: 99, epoch: 0, sequence: 99 });
        receive(&probe, early);
        assert!(probe.echo(token, Duration::from_secs(1)).await.is_err());
    }
}
