//! Echoes: the probe's posts by way of a shard that is out of reach, which come back here.
//!
//! Core posts one probe to each shard and gives the whole link up when one does not come back. Of a shard that is known to
//! be gone there is nothing to find out: its channels have been reported, and the others go on.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use broker_core::{
    ChannelName,
    driver::{Inbox, Outgoing},
};
use bytes::Bytes;

/// How many posts of one probe are kept: core has three under way at most.
const KEPT: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Echoes(Mutex<Vec<Probe>>);

/// A channel of the probe, and what was posted to it last.
#[derive(Debug)]
struct Probe {
    channel: ChannelName,
    posted: VecDeque<Bytes>,
}

impl Echoes {
    fn lock(&self) -> MutexGuard<'_, Vec<Probe>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the channels of the probe.
    pub(crate) fn set(&self, channels: &[ChannelName]) {
        let probe = |channel: &ChannelName| Probe { channel: channel.clone(), posted: VecDeque::new() };
        *self.lock() = channels.iter().map(probe).collect();
    }

    /// Whether a channel is one of the probe.
    pub(crate) fn is_probe(&self, name: &str) -> bool {
        name.contains('$') && self.lock().iter().any(|probe| probe.channel.as_str() == name)
    }

    /// A post is on its way, if it is one of the probe.
    pub(crate) fn note(&self, outgoing: &Outgoing) -> bool {
        let mut probes = self.lock();
        let Some(probe) = probes.iter_mut().find(|probe| probe.channel == outgoing.channel) else {
            return false;
        };
        if probe.posted.len() == KEPT {
            probe.posted.pop_front();
        }
        probe.posted.push_back(outgoing.frame());
        true
    }

    /// Those of the probe's posts that may be under way on these channels come back now.
    pub(crate) fn come_back(&self, channels: &[ChannelName], inbox: &Inbox) {
        let mut posted = Vec::new();
        for probe in self.lock().iter_mut().filter(|probe| channels.contains(&probe.channel)) {
            posted.extend(probe.posted.drain(..).map(|frame| (probe.channel.clone(), frame)));
        }
        posted.into_iter().for_each(|(channel, frame)| inbox.deliver(channel.as_str(), frame));
    }
}
