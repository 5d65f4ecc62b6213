//! Probe: a post of our own that has to come back. Finds half-open connections in either direction, on every
//! backend, and is what `health()` reports.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{sync::watch, time::timeout};

use super::names::{Names, probe_channel};
use crate::{
    ChannelName, Error, ErrorKind, NodeId, Post, Result,
    frame::{self, Stamp},
    message::Wire,
};

/// The probe of one node.
#[derive(Debug)]
pub(crate) struct Probe {
    node: NodeId,
    /// In the application's form (`$node.…`), and on the wire.
    pub(crate) name: ChannelName,
    pub(crate) wire_name: ChannelName,
    sent: AtomicU64,
    heard: watch::Sender<u64>,
}

impl Probe {
    pub(crate) fn new(node: NodeId, names: &Names) -> Self {
        let name = probe_channel(node);
        let wire_name = names.share_to_wire(&name);
        Self { node, name, wire_name, sent: AtomicU64::new(0), heard: watch::Sender::new(0) }
    }

    /// The next probe: its token, and its frame.
    pub(crate) fn next(&self) -> (u64, BytesMut) {
        let token = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let mut frame = frame::encode(&Post::new(Vec::new()), self.node);
        // Outside the numbering of posts: the token is the number, the sequence only has to be legal.
        frame::stamp(&mut frame, Stamp { number: token, epoch: 0, sequence: token });
        (token, frame)
    }

    /// A frame arrived on one of the broker's own channels.
    pub(super) fn hear(&self, name: &str, wire: &Wire, stamp: Stamp) {
        if name == self.name.as_str() && wire.head.id.origin == self.node {
            self.heard.send_if_modified(|heard| {
                let newer = stamp.number > *heard && stamp.number <= self.sent.load(Ordering::Relaxed);
                if newer {
                    *heard = stamp.number;
                }
                newer
            });
        }
    }

    /// Waits for the echo of a probe.
    pub(crate) async fn echo(&self, token: u64, limit: Duration) -> Result<()> {
        let mut heard = self.heard.subscribe();
        match timeout(limit, heard.wait_for(|heard| *heard >= token)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "a post of our own did not come back within {limit:?}: the link is dead or the backend stuck"
                ),
            )),
        }
    }
}
