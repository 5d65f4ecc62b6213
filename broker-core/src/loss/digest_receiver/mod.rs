//! DigestReceiver: which digests of other nodes have been received through one link, and so what is missing, which nodes
//! have not answered a question yet, and which have fallen silent.
//!
//! # What a subscription has to know of a node
//!
//! A lost message that no later one reveals is found by a digest: "I have posted these since my last digest". That proves a
//! loss on a channel only if all of them were posted after the channel was subscribed, so if the *last* digest was made
//! after it. For a node that posts all the time one is soon there; one that is quiet sends none, and then its first
//! messages are lost silently. So whoever has subscribed **asks**: one frame to `$digests`, a random number and nothing
//! more. Every node answers with a digest, an empty one if need be, that names the number.
//!
//! This needs no names of channels and no numbers in the answers. The answer is made after the question, which is made
//! after the confirmation; so *whatever* the node posts behind it, on *whatever* channel, was posted later than the
//! subscription, and the next digest lists it completely. That holds for a node that has never posted on the channel, and
//! for one of which nothing was heard; it holds whatever way the frames take, and it never counts a message that is older
//! than the subscription, because nothing is concluded from the numbers in the answer itself. A digest that was sent before
//! the subscription, and arrives behind it, does not have the number. A node that starts later posts an empty digest before
//! its first message, and one that appears without having answered is asked. What a node posts before it answers cannot be
//! told from what it posted before the subscription: it is neither before nor after it, as far as these two nodes know. An
//! own message is: a node answers its own question when it asks.
//!
//! A question or an answer may be lost: whoever has posted digests through this link and has not answered is asked again,
//! [`TRIES`] times in all, each time after twice as long. The first question of a link is asked twice in any case, for
//! those of whom nothing was heard. Who never answers is gone.
//!
//! # What it costs
//!
//! A question is 35 bytes, an answer 56 and 8 for each question. A node asks, and answers, at most once in 10 ms for each
//! node that it knows ([`PACE`]), so each node receives at most about 100 questions and 100 answers a second, however many
//! ask: with 1,000 nodes all of which subscribe all the time that is 3.5 KB/s of questions, and 63 KB/s of answers at 64
//! questions in each, those of the askers to themselves included; the server delivers 200,000 frames a second in all. The
//! answers are there after 2 s, and if all ask, after 10 s; whose question is not among the 64 has the next heartbeat and
//! the digest behind it. Three nodes answer at once, one time in 30 ms.
//!
//! # Silence
//!
//! A node owes a digest from the first message that is heard of it until an empty digest settles that. The digests behind a
//! message list it, and an empty one follows them. So an empty one that comes behind a message, and none that lists any in
//! between, is older: on a cluster, where the two take different connections, the message has overtaken it. It settles
//! nothing, unless a digest is missing before it or had failed: then it was that one which listed the message. When nothing of a
//! node that owes arrives for [`SILENT`] times the interval that its digests name, or the longer time between two looks here, and for
//! [`PATIENCE`] at least, it was killed, and what it has posted since the last one is unknown: that is a gap of unknown size
//! on every channel. If it has only paused, the gap was needless: its digests are counted as before. A node that closes says so.
//!
//! A node takes up to 64 bytes in the table. With more than [`NODES`] those that are gone are forgotten, or all.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, time::Duration};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::{NodeId, wire::digest::Digest};

/// How many nodes are remembered. With more, those that are gone are forgotten; if there are none, all, and counting
/// begins anew.
const NODES: usize = 65_536;
/// How often a node is asked that does not answer.
const TRIES: u32 = 5;
/// How many questions of this node are remembered: an answer names one of these.
const ASKS: usize = 8;
/// The time between two questions, and between two answers, for each node of the cluster.
const PACE: Duration = Duration::from_millis(10);
/// A digest of more entries than that, about 4 KiB, counts as several: what all of them take is bounded, and not only how
/// many there are.
const ENTRIES: usize = 128;
/// After so many intervals without a word a node that owes a digest has fallen silent.
const SILENT: u32 = 3;
/// In milliseconds, and not sooner than this: a node on a busy machine, or one whose link comes back, is silent for as long.
const PATIENCE: u32 = 4000;
/// How many nodes are known to have been heard since the last look, without a search.
const RECENT: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct DigestReceiver {
    own: NodeId,
    nodes: HashMap<NodeId, Node, RandomState>,
    /// Heard of since the last look, each at the place that its lowest bits name.
    recent: [NodeId; RECENT],
    /// How many digests were received since the last query; a long one counts as several. Those that answer a question
    /// do not: whoever is asked all the time would wait ever longer with those that nobody asks for.
    pub(crate) count: u32,
    asks: Asks,
}

/// What this node has asked, through this link.
#[derive(Debug, Default)]
struct Asks {
    /// The numbers of the last questions, and the probe epochs that they began.
    sent: [(u64, u64); ASKS],
    count: u32,
    last: Option<Instant>,
}

/// What was received from a node.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Of its last digest.
    number: u64,
    /// Its last digest was made after this probe epoch began: what was subscribed before may expect all that follows.
    made_after: u64,
    /// The round it belongs to, and after which probe epoch everything was posted that the round covers.
    begin: u64,
    since: Option<u64>,
    /// The round answers a question.
    answers: bool,
    /// The interval of its digests, in milliseconds.
    interval: u32,
    /// How long nothing of it has arrived, in milliseconds, as of the last look; and whether something has since.
    silent: u32,
    heard: bool,
    /// Something was heard that no empty digest has settled.
    owes: bool,
    /// A message was heard, and no digest since that can have listed it.
    posted: bool,
    /// It does not answer: it is not waited for.
    gone: bool,
}

/// What a digest proves beyond what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// A digest before it is missing, and so anything may be.
    pub(crate) missing: bool,
    /// All that it covers was posted after this probe epoch began: a channel subscribed before that should
    /// have received it. `None` when that is unknown.
    pub(crate) since: Option<u64>,
    /// The digest itself was made after this one began.
    pub(crate) made_after: u64,
}

impl DigestReceiver {
    pub(crate) fn new(own: NodeId) -> Self {
        let recent = std::array::from_fn(vacant);
        Self { own, nodes: HashMap::default(), recent, count: 0, asks: Asks::default() }
    }

    /// A digest arrived. `back` is the newest probe epoch that had come back by then: what arrives behind that was sent
    /// to a link that had everything.
    pub(crate) fn receive(&mut self, origin: NodeId, number: u64, digest: &Digest, back: u64) -> Proof {
        let (begin, after) = (digest.begin, digest.after);
        let answered = self.asks.epoch_of(&digest.answers).unwrap_or(0);
        let last = self.nodes.get(&origin).copied();
        let answers =
            !digest.answers.is_empty() || last.is_some_and(|last| last.answers && last.begin == begin);
        if !answers {
            let long = u32::try_from(digest.spans.len() / ENTRIES).unwrap_or(u32::MAX);
            self.count = self.count.saturating_add(long).saturating_add(1);
        }
        let made_after = back.max(answered).max(last.map_or(0, |last| last.made_after));
        let proof = match last {
            None => Proof { missing: false, since: None, made_after },
            Some(last) => {
                let next = if last.begin == begin { last.number.saturating_add(1) } else { begin };
                let missing = after > last.number || number > next;
                let since = if last.begin == begin { last.since } else { Some(last.made_after) };
                // Only what was posted after the last digest received is known to be that.
                let known = !missing && (last.begin == begin || after == last.number);
                Proof { missing, since: since.filter(|_| known), made_after }
            }
        };
        let posted = self.take_posted(origin, last)
            && !proof.missing
            && digest.spans.is_empty()
            && last.is_none_or(|last| begin <= last.number.saturating_add(1));
        if digest.next == 0 {
            self.nodes.remove(&origin);
            return proof;
        }
        self.make_room(origin);
        let node = Node {
            number,
            made_after,
            begin,
            answers,
            since: proof.since,
            interval: digest.next,
            silent: 0,
            heard: true,
            owes: posted || !digest.spans.is_empty(),
            posted,
            gone: false,
        };
        self.nodes.insert(origin, node);
        proof
    }

    /// Whether a message of the node was heard that no digest can have listed so far. It is noted anew from here on.
    fn take_posted(&mut self, origin: NodeId, last: Option<Node>) -> bool {
        let place = slot(origin);
        let recent = self.recent[place] == origin;
        if recent {
            self.recent[place] = vacant(place);
        }
        // Of a node without a digest nothing else says that it was heard; one of many may be forgotten.
        last.map_or(recent, |last| last.posted)
    }

    fn make_room(&mut self, origin: NodeId) {
        if self.nodes.len() >= NODES && !self.nodes.contains_key(&origin) {
            self.nodes.retain(|_, node| !node.gone);
            if self.nodes.len() >= NODES {
                self.nodes = HashMap::default();
            }
        }
    }

    /// A message of a node arrived, and no repeat. Most of the time one has before, since the last look.
    #[inline]
    pub(crate) fn received_from(&mut self, origin: NodeId) {
        if self.recent[slot(origin)] != origin {
            self.note_received_from(origin);
        }
    }

    #[cold]
    fn note_received_from(&mut self, origin: NodeId) {
        self.recent[slot(origin)] = origin;
        // One without a digest so far sends none, perhaps.
        if let Some(node) = self.nodes.get_mut(&origin) {
            (node.heard, node.owes, node.posted, node.gone) = (true, true, true, false);
        }
    }

    /// Looks for nodes that have fallen silent; `passed` is the time since the last look. Whether there is one: what it has
    /// posted is unknown.
    pub(crate) fn look(&mut self, passed: Duration) -> bool {
        // A node without a digest stays: its first digest may be on its way, behind the message.
        for (place, origin) in self.recent.iter_mut().enumerate() {
            if self.nodes.contains_key(origin) {
                *origin = vacant(place);
            }
        }
        let passed = u32::try_from(passed.as_millis()).unwrap_or(u32::MAX);
        let mut silent = false;
        for (origin, node) in &mut self.nodes {
            node.silent = if node.heard { 0 } else { node.silent.saturating_add(passed) };
            node.heard = false;
            let limit = node.interval.max(passed).saturating_mul(SILENT).max(PATIENCE);
            if node.owes && node.silent >= limit && *origin != self.own {
                (node.owes, node.gone, silent) = (false, true, true);
            }
        }
        silent
    }

    /// The probe epoch that the last question began; 0 without one.
    pub(crate) fn newest_ask(&self) -> u64 {
        self.asks.sent.iter().map(|(_, probe_epoch)| *probe_epoch).max().unwrap_or(0)
    }

    /// When the next question may be asked.
    pub(crate) fn next_ask(&self) -> Option<Instant> {
        self.asks.last.map(|last| last + self.pace())
    }

    /// This node asks, and begins a probe epoch with it.
    pub(crate) fn ask(&mut self, ask: u64, probe_epoch: u64) {
        let Asks { sent, count, last } = &mut self.asks;
        sent[*count as usize % ASKS] = (ask, probe_epoch);
        *count = count.wrapping_add(1);
        *last = Some(Instant::now());
    }

    /// Whether to ask once more, after so many tries: there is a node whose last digest may be older than what was subscribed
    /// before this probe epoch. Those that do not answer are given up.
    pub(crate) fn ask_again(&mut self, probe_epoch: u64, tries: u32) -> bool {
        let mut open = self.asks.count < 2;
        for node in self.nodes.values_mut().filter(|node| node.made_after < probe_epoch && !node.gone) {
            node.gone = tries >= TRIES;
            open |= !node.gone;
        }
        open && tries < TRIES
    }

    /// The time between two questions, and between two answers, so that nobody receives many more than a hundred
    /// a second.
    pub(crate) fn pace(&self) -> Duration {
        let present = self.nodes.values().filter(|node| !node.gone).count();
        PACE * present.max(1) as u32 // there are at most NODES
    }
}

impl Asks {
    /// The newest probe epoch whose question is among those that are answered.
    fn epoch_of(&self, answers: &[u64]) -> Option<u64> {
        let answered = self.sent.iter().filter(|(ask, epoch)| *epoch != 0 && answers.contains(ask));
        answered.map(|(_, epoch)| *epoch).max()
    }
}

/// What marks an empty place: the id of a node that belongs at the next one.
fn vacant(place: usize) -> NodeId {
    NodeId::from_u64(place as u64 + 1)
}

fn slot(node: NodeId) -> usize {
    node.as_u64() as usize % RECENT
}
