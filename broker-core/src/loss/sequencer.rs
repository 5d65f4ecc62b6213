//! Sequencer: which number a message gets in its channel, and what has been posted since the last digest.
//!
//! Numbers are given when a message is handed to the link, so that a post that fails before has none, and the numbers
//! have the order of the wire.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
};

use foldhash::fast::RandomState;

use crate::{
    ChannelName,
    driver::Outgoing,
    wire::{digest::Span, encoded::Encoded, frame::SequenceHeader, names::Names},
};

/// How many channels have a counter. One more, and the node forgets them all and begins a new epoch.
const COUNTERS: usize = 65_536;

/// How many numbers that were taken back wait for later ones of their channel. One more is missed.
const WAITING: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sequencer {
    names: Names,
    number: u64,
    epoch: u32,
    counters: HashMap<ChannelName, Counter, RandomState>,
    /// Posted on since the last digest.
    used: Vec<ChannelName>,
    /// Taken back while later numbers of the channel were under way: they are free when those are taken back, too.
    waiting: BTreeSet<(ChannelName, u64)>,
}

/// The number that a message got.
#[derive(Debug)]
pub(crate) struct Number {
    channel: ChannelName,
    epoch: u32,
    sequence: u64,
}

#[derive(Debug)]
struct Counter {
    wire_name: ChannelName,
    last: u64,
    /// The last number that a digest has covered.
    digested: u64,
}

impl Sequencer {
    pub(crate) fn new(names: Names) -> Self {
        Self {
            names,
            number: 0,
            epoch: 1,
            counters: HashMap::default(),
            used: Vec::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// The name of a channel, shared if it has a counter.
    pub(crate) fn share_name(&self, channel: &str) -> ChannelName {
        let known = self.counters.get_key_value(channel);
        known.map_or_else(|| ChannelName::internal(channel), |(name, _)| name.clone())
    }

    /// Whether a message on this channel begins a new epoch: then what was posted in the present one is to be covered
    /// first, by a digest ahead of it.
    pub(crate) fn would_begin_epoch(&self, channel: &ChannelName) -> bool {
        self.counters.len() >= COUNTERS && !self.counters.contains_key(channel)
    }

    /// Gives the next number.
    pub(crate) fn assign(&mut self, channel: ChannelName, frame: Encoded) -> (Outgoing, Number) {
        if self.would_begin_epoch(&channel) {
            self.counters = HashMap::default();
            self.used = Vec::new();
            self.waiting = BTreeSet::new();
            self.epoch += 1;
        }
        self.number += 1;
        // Cheap: names are shared.
        let counter = self.counters.entry(channel.clone()).or_insert_with_key(|channel| Counter {
            wire_name: self.names.share_to_wire(channel),
            last: 0,
            digested: 0,
        });
        if counter.last == counter.digested {
            self.used.push(channel.clone());
        }
        counter.last += 1;
        let header = SequenceHeader { number: self.number, epoch: self.epoch, sequence: counter.last };
        let number = Number { channel, epoch: self.epoch, sequence: counter.last };
        (frame.numbered(header, counter.wire_name.clone()), number)
    }

    /// Takes a number back whose message was certainly not sent, so that it is not missed. It is free when all later ones
    /// of its channel are taken back, too, before a digest has covered them.
    pub(crate) fn reuse(&mut self, number: &Number) {
        if number.epoch != self.epoch {
            return;
        }
        let Some(counter) = self.counters.get_mut(&number.channel) else { return };
        if number.sequence <= counter.digested || number.sequence > counter.last {
            return;
        }
        if number.sequence < counter.last {
            if self.waiting.len() < WAITING {
                self.waiting.insert((number.channel.clone(), number.sequence));
            }
            return;
        }
        counter.last -= 1;
        while !self.waiting.is_empty()
            && counter.last > counter.digested
            && self.waiting.remove(&(number.channel.clone(), counter.last))
        {
            counter.last -= 1;
        }
    }

    /// What has been posted since this was asked last.
    pub(crate) fn take_spans(&mut self) -> Vec<Span> {
        let mut spans = Vec::new();
        // What a digest covers is counted.
        self.waiting.clear();
        for channel in mem::take(&mut self.used) {
            let Some(counter) = self.counters.get_mut(&channel) else { continue };
            let (first, last) = (counter.digested + 1, counter.last);
            counter.digested = last;
            if first <= last {
                spans.push(Span { channel, epoch: self.epoch, first, last });
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeId, Post, wire::frame};

    fn name(text: &str) -> ChannelName {
        ChannelName::internal(text)
    }

    fn post(sequencer: &mut Sequencer, channel: &str) -> SequenceHeader {
        let frame = Encoded::of(&Post::new("x"), NodeId::from_u64(1));
        let (outgoing, _) = sequencer.assign(sequencer.share_name(channel), frame);
        assert_eq!(outgoing.channel.as_str(), format!("app.{channel}"));
        frame::decode(&outgoing.frame()).unwrap().1
    }

    fn span(channel: &str, epoch: u32, first: u64, last: u64) -> Span {
        Span { channel: name(channel), epoch, first, last }
    }

    #[test]
    fn every_channel_counts_for_itself_and_a_span_has_what_is_new() {
        let mut sequencer = Sequencer::new(Names::new("app"));
        assert_eq!(post(&mut sequencer, "a"), SequenceHeader { number: 1, epoch: 1, sequence: 1 });
        assert_eq!(post(&mut sequencer, "a"), SequenceHeader { number: 2, epoch: 1, sequence: 2 });
        assert_eq!(post(&mut sequencer, "b"), SequenceHeader { number: 3, epoch: 1, sequence: 1 });
        assert_eq!(sequencer.take_spans(), [span("a", 1, 1, 2), span("b", 1, 1, 1)]);
        assert_eq!(sequencer.take_spans(), []);
        assert_eq!(post(&mut sequencer, "a").sequence, 3);
        assert_eq!(sequencer.take_spans(), [span("a", 1, 3, 3)]);
    }

    #[test]
    fn unsent_numbers_are_reused() {
        let mut sequencer = Sequencer::new(Names::new(""));
        let give = |sequencer: &mut Sequencer| {
            let frame = Encoded::of(&Post::new("x"), NodeId::from_u64(1));
            sequencer.assign(name("a"), frame).1
        };
        let numbers = [give(&mut sequencer), give(&mut sequencer), give(&mut sequencer)];
        sequencer.reuse(&numbers[1]);
        assert_eq!(sequencer.take_spans(), [span("a", 1, 1, 3)], "one that others follow stays");
        sequencer.reuse(&numbers[0]);
        sequencer.reuse(&numbers[2]);
        assert_eq!(give(&mut sequencer).sequence, 4, "a digest has covered it");
        let numbers = [give(&mut sequencer), give(&mut sequencer)];
        numbers.iter().rev().for_each(|number| sequencer.reuse(number));
        assert_eq!(sequencer.take_spans(), [span("a", 1, 4, 4)]);
        let number = give(&mut sequencer);
        assert_eq!(number.sequence, 5);
        sequencer.reuse(&number);
        assert_eq!(sequencer.take_spans(), []);
        assert_eq!(give(&mut sequencer).sequence, 5);
        assert_eq!(sequencer.take_spans(), [span("a", 1, 5, 5)]);
    }

    #[test]
    fn a_number_is_free_when_those_behind_it_are() {
        let mut sequencer = Sequencer::new(Names::new(""));
        let give = |sequencer: &mut Sequencer| {
            let frame = Encoded::of(&Post::new("x"), NodeId::from_u64(1));
            sequencer.assign(name("a"), frame).1
        };
        // The outcomes of two batches, of which each is taken back from its end.
        let numbers: Vec<_> = (0..5).map(|_| give(&mut sequencer)).collect();
        [2, 1, 4, 3].iter().for_each(|n| sequencer.reuse(&numbers[*n]));
        assert_eq!(give(&mut sequencer).sequence, 2);
        assert!(sequencer.waiting.is_empty());
        // One in between was sent.
        let numbers: Vec<_> = (0..3).map(|_| give(&mut sequencer)).collect();
        [0, 2].iter().for_each(|n| sequencer.reuse(&numbers[*n]));
        assert_eq!(give(&mut sequencer).sequence, 5);
        assert_eq!(sequencer.take_spans(), [span("a", 1, 1, 5)]);
        assert!(sequencer.waiting.is_empty());
    }

    #[test]
    fn an_epoch_begins_when_the_counters_are_used_up() {
        let mut sequencer = Sequencer::new(Names::new("app"));
        for channel in 0..COUNTERS {
            let channel = format!("c{channel}");
            assert!(!sequencer.would_begin_epoch(&name(&channel)));
            assert_eq!(post(&mut sequencer, &channel).epoch, 1);
        }
        assert_eq!(
            post(&mut sequencer, "c0"),
            SequenceHeader { number: COUNTERS as u64 + 1, epoch: 1, sequence: 2 }
        );
        assert!(sequencer.would_begin_epoch(&name("more")));
        assert_eq!(sequencer.take_spans().len(), COUNTERS);
        assert_eq!(post(&mut sequencer, "more").epoch, 2);
        assert_eq!((sequencer.counters.len(), sequencer.used.len()), (1, 1));
        let again = post(&mut sequencer, "c0");
        assert_eq!((again.epoch, again.sequence), (2, 1));
    }
}
