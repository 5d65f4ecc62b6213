//! Probe: a post of our own that has to come back. Finds half-open connections in either direction, on every
//! backend, and is what `health()` reports. A barrier is the same post in turn behind others: when it is back,
//! so is all that was posted before it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{sync::watch, time::timeout_at};

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
    names: Names,
    /// The channel of this node; a link may name further ones.
    pub(crate) wire_name: ChannelName,
    /// What has to come back, all of it: one for each path by which a link receives.
    paths: Mutex<Arc<[Path]>>,
    /// When the last heartbeat came back, by the system's clock.
    back: Mutex<Option<Instant>>,
}

/// One channel of the probe, and what has come back on it.
#[derive(Debug)]
struct Path {
    name: Box<str>,
    wire_name: ChannelName,
    /// Some overtake other posts and barriers do not, so each kind has its own count.
    kinds: [Count; 3],
}

impl Path {
    fn new(names: &Names, wire_name: ChannelName) -> Self {
        let name = names.strip(wire_name.as_str()).unwrap_or(wire_name.as_str()).into();
        let count = || Count { sent: AtomicU64::new(0), received: watch::Sender::new(0) };
        Self { name, wire_name, kinds: [count(), count(), count()] }
    }
}

#[derive(Debug)]
struct Count {
    sent: AtomicU64,
    received: watch::Sender<u64>,
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

/// A probe under way, by every path.
#[derive(Debug)]
pub(crate) struct Token {
    kind: Kind,
    paths: Arc<[Path]>,
    numbers: Vec<u64>,
}

impl Probe {
    pub(crate) fn new(node: NodeId, names: &Names) -> Self {
        let wire_name = names.share_to_wire(&probe_channel(node));
        let paths = Mutex::new(Arc::from([Path::new(names, wire_name.clone())]));
        Self { node, names: names.clone(), wire_name, paths, back: Mutex::default() }
    }

    fn paths(&self) -> Arc<[Path]> {
        Arc::clone(&self.paths.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// A link begins, which receives by the paths of these channels. Returns them.
    pub(crate) fn begin(&self, channels: Vec<ChannelName>) -> Vec<ChannelName> {
        let channels = if channels.is_empty() { vec![self.wire_name.clone()] } else { channels };
        let paths = channels.iter().map(|channel| Path::new(&self.names, channel.clone())).collect();
        *self.paths.lock().unwrap_or_else(PoisonError::into_inner) = paths;
        channels
    }

    /// The next probe of a kind: how to know it again, and its frames with their channels.
    pub(crate) fn next(&self, kind: Kind) -> (Token, Vec<(ChannelName, BytesMut)>) {
        let paths = self.paths();
        let (mut numbers, mut frames) = (Vec::new(), Vec::new());
        for path in &*paths {
            let number = path.kinds[kind as usize].sent.fetch_add(1, Ordering::Relaxed) + 1;
            let mut frame = frame::encode(&Post::new(Vec::new()), self.node);
            // Outside the sequencer of posts: the epoch tells the kind, the sequence only has to be legal.
            frame::write_header(&mut frame, SequenceHeader { number, epoch: kind as u32, sequence: number });
            numbers.push(number);
            frames.push((path.wire_name.clone(), frame));
        }
        (Token { kind, paths, numbers }, frames)
    }

    /// A frame arrived on one of the broker's own channels. It may come from anywhere and hold anything.
    pub(crate) fn receive(&self, name: &str, wire: &Wire, header: SequenceHeader) {
        if wire.head.origin != self.node {
            return;
        }
        let paths = self.paths();
        let path = paths.iter().find(|path| *path.name == *name);
        if let Some(count) = path.and_then(|path| path.kinds.get(header.epoch as usize)) {
            count.received.send_if_modified(|received| {
                let newer = header.number > *received && header.number <= count.sent.load(Ordering::Relaxed);
                if newer {
                    *received = header.number;
                }
                newer
            });
        }
    }

    /// How long ago the last heartbeat came back, if one has.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.back.lock().unwrap_or_else(PoisonError::into_inner).map(|back| back.elapsed())
    }

    /// Waits until a probe has come back by every path.
    pub(crate) async fn echo(&self, token: Token, limit: Duration) -> Result<()> {
        let Token { kind, paths, numbers } = token;
        let end = tokio::time::Instant::now() + limit;
        for (path, number) in paths.iter().zip(numbers) {
            let mut received = path.kinds[kind as usize].received.subscribe();
            if timeout_at(end, received.wait_for(|received| *received >= number)).await.is_err() {
                let message = format!(
                    "no echo of the probe on `{}` within {limit:?}: the link is dead, or the backend does not deliver",
                    path.wire_name
                );
                return Err(Error::new(ErrorKind::Timeout, message));
            }
        }
        if kind == Kind::Heartbeat {
            *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(probe: &Probe, frames: Vec<(ChannelName, BytesMut)>) {
        for (name, frame) in frames {
            let (wire, header) = frame::decode(&frame.freeze()).unwrap();
            probe.receive(name.as_str(), &wire, header);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_that_overtakes_a_barrier_does_not_confirm_it() {
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
    async fn only_own_probes_that_were_sent_count() {
        let probe = Probe::new(NodeId::random(), &Names::new(""));
        let (token, _) = probe.next(Kind::Heartbeat);
        let other = Probe::new(NodeId::random(), &Names::new(""));
        let (_, foreign) = other.next(Kind::Heartbeat);
        receive(&probe, foreign);
        let mut early = frame::encode(&Post::new(Vec::new()), probe.node);
        frame::write_header(&mut early, SequenceHeader { number: 99, epoch: 0, sequence: 99 });
        receive(&probe, vec![(probe.wire_name.clone(), early)]);
        assert!(probe.echo(token, Duration::from_secs(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_is_confirmed_when_every_path_has_echoed() {
        let probe = Probe::new(NodeId::random(), &Names::new("shop"));
        let channels: Vec<_> =
            ["a", "b"].map(|shard| ChannelName::internal(format!("{}.{shard}", probe.wire_name))).into();
        assert_eq!(probe.begin(channels.clone()), channels);
        let (first, mut frames) = probe.next(Kind::Heartbeat);
        let (wire, header) = frame::decode(&frames.remove(0).1.freeze()).unwrap();
        probe.receive(&frames_name(&probe, &channels[0]), &wire, header);
        let error = probe.echo(first, Duration::from_secs(1)).await.unwrap_err();
        assert!(error.message().contains(channels[1].as_str()), "{error}");
        let (second, frames) = probe.next(Kind::Heartbeat);
        for (name, frame) in frames {
            let (wire, header) = frame::decode(&frame.freeze()).unwrap();
            probe.receive(&frames_name(&probe, &name), &wire, header);
        }
        probe.echo(second, Duration::from_secs(1)).await.unwrap();
        assert!(probe.age().is_some());
    }

    fn frames_name(probe: &Probe, wire_name: &ChannelName) -> String {
        probe.names.strip(wire_name.as_str()).unwrap().to_owned()
    }
}
