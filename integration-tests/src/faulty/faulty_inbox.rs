//! FaultyInbox: what a faulty driver does to what arrives.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use broker_core::{
    ChannelName, Error,
    driver::{Arrival, Inbox, Missing, Sink},
};
use bytes::Bytes;

use super::faults::Wrong;

/// Receives from the inner link, and passes on what it wants.
pub(super) struct FaultyInbox {
    pub(super) inner: Inbox,
    wrong: Wrong,
    received: AtomicUsize,
    held: Mutex<VecDeque<(String, Bytes)>>,
    busy: Mutex<HashMap<String, usize>>,
    /// The node behind this link; its frames carry it.
    pub(super) own: AtomicU64,
    pub(super) heal: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl FaultyInbox {
    pub(super) fn new(inner: Inbox, wrong: Wrong) -> Self {
        Self {
            inner,
            wrong,
            received: AtomicUsize::new(0),
            held: Mutex::default(),
            busy: Mutex::default(),
            own: AtomicU64::new(0),
            heal: Mutex::default(),
        }
    }

    pub(super) fn inbox(faulty: &Arc<Self>) -> Inbox {
        Inbox::new(Receiving(Arc::clone(faulty)))
    }

    fn frame(&self, channel: &str, frame: Bytes) {
        if channel.contains('$') {
            return self.inner.deliver(channel, frame);
        }
        let count = self.received.fetch_add(1, Ordering::SeqCst) + 1;
        match self.wrong {
            Wrong::LosesOneInTwenty if count.is_multiple_of(20) => {}
            Wrong::DeliversTwice => {
                let again = from_another(&frame);
                self.inner.deliver(channel, frame);
                self.inner.deliver(channel, again);
            }
            Wrong::SwapsTwo => self.swap(channel, frame),
            Wrong::Mangles => self.inner.deliver(channel, mangled(&frame)),
            Wrong::CutsOff if frame.len() > 100_000 => self.inner.deliver(channel, frame.slice(..100_000)),
            Wrong::LosesEmpty if frame.len() == EMPTY => {}
            Wrong::SkipsThePublisher if origin(&frame) == self.own.load(Ordering::SeqCst) => {}
            Wrong::CrossesChannels => {
                if let Some((parent, _)) = channel.rsplit_once('.') {
                    self.inner.deliver(parent, frame.clone());
                }
                self.inner.deliver(channel, frame);
            }
            Wrong::StarvesOthers if self.starves(channel) => {}
            _ => self.inner.deliver(channel, frame),
        }
    }

    /// Every second one waits for the next.
    fn swap(&self, channel: &str, frame: Bytes) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = held.pop_front();
        if waiting.is_none() && self.received.load(Ordering::SeqCst).is_multiple_of(4) {
            held.push_back((channel.to_owned(), frame));
            return;
        }
        drop(held);
        self.inner.deliver(channel, frame);
        waiting.into_iter().for_each(|(channel, frame)| self.inner.deliver(&channel, frame));
    }

    /// Whether another channel had so much that this one gets nothing.
    fn starves(&self, channel: &str) -> bool {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        *busy.entry(channel.to_owned()).or_default() += 1;
        busy[channel] <= 30 && busy.values().any(|count| *count > 100)
    }
}

/// The sink of the inner link's inbox.
struct Receiving(Arc<FaultyInbox>);

impl Sink for Receiving {
    fn deliver(&self, arrival: Arrival<'_>) {
        apart(&arrival.frame).into_iter().for_each(|frame| self.0.frame(arrival.channel, frame));
    }

    fn gap(&self, missing: Missing<'_>) {
        Sink::gap(&self.0.inner, missing);
    }

    fn unsubscribed(&self, channels: &[ChannelName]) {
        self.0.inner.unsubscribed(channels);
    }

    fn suspended(&self, channels: &[ChannelName]) {
        self.0.inner.suspended(channels);
    }

    fn lost(&self, error: Error) {
        match &*self.0.heal.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(heal) => heal(),
            None => self.0.inner.lost(error),
        }
    }
}

/// The frames of a bundle; anything else is one.
pub(super) fn apart(arrived: &Bytes) -> Vec<Bytes> {
    if !arrived.starts_with(b"\xB5\x01\x01\x00") {
        return vec![arrived.clone()];
    }
    let (mut rest, mut frames) = (arrived.slice(4..), Vec::new());
    while let Some(length) = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) {
        frames.push(rest.slice(4..4 + length));
        rest = rest.slice(4 + length..);
    }
    frames
}

/// The node that posted what arrived.
pub(super) fn origin(arrived: &Bytes) -> u64 {
    let frame = apart(arrived).into_iter().next();
    let bytes = frame.as_ref().and_then(|frame| frame.get(4..12)?.try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}

/// A frame without type, headers and payload.
const EMPTY: usize = 35;

fn from_another(frame: &[u8]) -> Bytes {
    let mut frame = frame.to_vec();
    frame.iter_mut().skip(4).take(8).for_each(|byte| *byte ^= 0x55);
    frame.into()
}

fn mangled(frame: &[u8]) -> Bytes {
    let mut frame = frame.to_vec();
    if frame.len() > EMPTY {
        frame.iter_mut().next_back().into_iter().for_each(|last| *last ^= 1);
    }
    frame.into()
}
