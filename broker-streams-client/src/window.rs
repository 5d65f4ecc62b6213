//! Window: how far the sender of a stream may be ahead of its receiver, counted in both directions.

use std::collections::VecDeque;

use tokio::time::Instant;

/// The frames of the method's stream, as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Frames that may be ahead of what was acknowledged. `None`: the server knows no windows.
    window: Option<u64>,
    /// The number of the last frame that came over the wire.
    position: u64,
    /// The highest number that ever came. Up to it, a frame that comes again is known.
    have: u64,
    /// The last number that the server was told.
    acknowledged: u64,
}

/// What a frame that arrived is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    New,
    /// It came before the socket was lost.
    Known,
    /// The server is further ahead than it may be.
    TooFar,
}

impl Arrivals {
    pub(crate) fn new(window: Option<u64>) -> Self {
        Self { window, ..Self::default() }
    }

    /// Counts a frame. The last frames of a stream, a fault and the close, are always let in.
    pub(crate) fn count(&mut self, is_last: bool) -> Arrival {
        self.position += 1;
        if self.position <= self.have {
            return Arrival::Known;
        }
        self.have = self.position;
        match self.window {
            Some(window) if !is_last && self.position > self.acknowledged + window => Arrival::TooFar,
            _ => Arrival::New,
        }
    }

    /// The server was told a number.
    pub(crate) fn acknowledge(&mut self, got: u64) {
        self.acknowledged = self.acknowledged.max(got);
    }

    /// The server goes on behind a number, and may take it for an acknowledgement.
    pub(crate) fn resume(&mut self, position: u64) {
        self.position = position;
        self.acknowledge(position);
    }

    pub(crate) fn have(&self) -> u64 {
        self.have
    }
}

/// What the application has consumed of the method's stream, and when the server has to be told.
#[derive(Debug)]
pub(crate) struct Consumption {
    consumed: u64,
    told: u64,
    /// Bytes consumed since then.
    bytes: usize,
    last: Option<Instant>,
    rule: Option<Rule>,
}

#[derive(Debug)]
struct Rule {
    frames: u64,
    bytes: usize,
}

impl Consumption {
    pub(crate) const fn new() -> Self {
        Self { consumed: 0, told: 0, bytes: 0, last: None, rule: None }
    }

    /// Begins to count a call, with half of what the server may send ahead as the mark.
    pub(crate) fn begin(&mut self, limits: Option<(u64, usize)>) {
        *self = Self::new();
        self.rule =
            limits.map(|(window, bytes)| Rule { frames: (window / 2).max(1), bytes: (bytes / 2).max(1) });
    }

    /// Counts a frame. `true` if the owner of the socket has something to do: to tell the server, or to set a
    /// timer.
    pub(crate) fn consume(&mut self, bytes: usize) -> bool {
        self.consumed += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.rule.is_none() {
            return false;
        }
        self.last = Some(Instant::now());
        self.is_due() || self.consumed == self.told + 1
    }

    /// Whether half of a window was consumed since the server was told. Large values count by their bytes,
    /// lest the server wait for the timer after each.
    pub(crate) fn is_due(&self) -> bool {
        self.rule
            .as_ref()
            .is_some_and(|rule| self.consumed - self.told >= rule.frames || self.bytes >= rule.bytes)
    }

    /// The time of the last consumption, if the server does not know of it.
    pub(crate) fn untold(&self) -> Option<Instant> {
        self.last.filter(|_| self.rule.is_some() && self.consumed > self.told)
    }

    /// The number itself.
    pub(crate) const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The number to tell the server.
    pub(crate) fn tell(&mut self) -> u64 {
        self.told = self.consumed;
        self.bytes = 0;
        self.consumed
    }
}

/// The frames of an input that the server has not acknowledged. `T` is what is kept of each.
#[derive(Debug)]
pub(crate) struct Departures<T> {
    limits: Option<(u64, usize)>,
    acknowledged: u64,
    unacknowledged: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Departures<T> {
    /// `limits`: frames and bytes. `None`: the server knows no windows, and nothing is kept.
    pub(crate) const fn new(limits: Option<(u64, usize)>) -> Self {
        Self { limits, acknowledged: 0, unacknowledged: VecDeque::new(), bytes: 0 }
    }

    /// Whether one more frame may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.limits.is_none_or(|(window, bytes)| {
            (self.unacknowledged.len() as u64) < window
                && (self.bytes < bytes || self.unacknowledged.is_empty())
        })
    }

    pub(crate) fn sent(&mut self, bytes: usize, kept: T) {
        if self.limits.is_some() {
            self.bytes = self.bytes.saturating_add(bytes);
            self.unacknowledged.push_back((bytes, kept));
        }
    }

    /// The server has consumed so many. A number that is repeated, or that was never sent, does no harm.
    pub(crate) fn acknowledge(&mut self, got: u64) {
        while self.acknowledged < got {
            let Some((bytes, _)) = self.unacknowledged.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(bytes);
            self.acknowledged += 1;
        }
    }

    /// Takes what the server has not received, to be sent again: all behind a number. What it has received
    /// and not consumed is still under way.
    pub(crate) fn take_back(&mut self, received: u64) -> impl DoubleEndedIterator<Item = T> + use<T> {
        let there = usize::try_from(received.saturating_sub(self.acknowledged)).unwrap_or(usize::MAX);
        let missing = self.unacknowledged.split_off(there.min(self.unacknowledged.len()));
        let bytes: usize = missing.iter().map(|(bytes, _)| bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        missing.into_iter().map(|(_, kept)| kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_a_window_ahead_of_what_it_was_told() {
        let mut arrivals = Arrivals::new(Some(2));
        assert_eq!(arrivals.count(false), Arrival::New);
        assert_eq!(arrivals.count(false), Arrival::New);
        arrivals.acknowledge(1);
        assert_eq!(arrivals.count(false), Arrival::New);
        assert_eq!(arrivals.count(true), Arrival::New, "a close");
        assert_eq!(arrivals.count(false), Arrival::TooFar);
    }

    #[test]
    fn what_came_before_the_loss_is_known() {
        let mut arrivals = Arrivals::new(Some(8));
        for _ in 0..5 {
            arrivals.count(false);
        }
        arrivals.resume(3);
        assert_eq!([arrivals.count(false), arrivals.count(false)], [Arrival::Known, Arrival::Known]);
        assert_eq!(arrivals.count(false), Arrival::New);
        assert_eq!(arrivals.have(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_told_at_half_a_window_or_of_half_its_bytes() {
        let mut consumption = Consumption::new();
        consumption.begin(Some((4, 100)));
        assert!(consumption.consume(1), "a timer is to be set");
        assert!(!consumption.is_due());
        assert!(consumption.consume(1) && consumption.is_due());
        assert_eq!(consumption.tell(), 2);
        assert!(consumption.untold().is_none());
        assert!(consumption.consume(50) && consumption.is_due());
    }

    #[test]
    fn an_input_has_room_within_both_limits() {
        let mut departures = Departures::new(Some((2, 10)));
        departures.sent(100, 'a');
        assert!(!departures.has_room(), "too many bytes");
        departures.acknowledge(1);
        assert!(departures.has_room());
        departures.sent(1, 'b');
        departures.sent(1, 'c');
        assert!(!departures.has_room(), "too many frames");
        departures.acknowledge(2);
        departures.sent(1, 'd');
        assert_eq!(departures.take_back(3).collect::<String>(), "d", "the server has c");
        assert_eq!(departures.take_back(0).collect::<String>(), "c");
        departures.acknowledge(u64::MAX);
    }
}
