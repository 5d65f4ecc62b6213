//! Oracle: whether everything that the nodes said may be true at once, if nothing was lost in silence.
//!
//! For each subscriber and each publisher on a channel: what was accepted after the one was subscribed has been received,
//! in order and once; or a gap was told where it is missing, between the messages of that publisher before and after.
//! A gap of unknown size tells of any number of messages; one of *n* of *n* messages in all, of whichever publishers. A gap
//! tells of nothing whose post began after it was received: by its place alone the gap of a reconnect would excuse a
//! listener that hears nothing from then on. What failed for certain has not been received.

use std::{fmt, ops::Range};

use super::history::{Gap, History, Posted, Received, Totals};

/// What the oracle found.
#[derive(Debug)]
pub struct Verdict {
    totals: Totals,
    /// What all gaps tell that name a number, and how many do not.
    reported: u64,
    unknown: usize,
    /// Accepted, not received, and not reported. Must be 0.
    unexplained: u64,
    /// Received after a later one. Must be 0.
    disorder: u64,
    /// Received twice. Must be 0.
    duplicates: u64,
    /// Received although its post was reported as not sent. Must be 0.
    undead: u64,
    /// Microseconds during which nodes were not connected.
    disconnected: u64,
    examples: Vec<String>,
}

/// How many examples of what is wrong are kept.
const EXAMPLES: usize = 10;

/// A hole in what was received of one publisher: it may be told by some of the gaps.
#[derive(Clone, Debug)]
struct Hole<'a> {
    publisher: u32,
    posted: &'a Posted,
    /// The numbers that are missing and that no gap told of so far.
    numbers: Range<u64>,
    /// The gaps that may tell of them, by their places.
    gaps: Range<usize>,
}

impl Hole<'_> {
    fn missing(&self) -> u64 {
        self.posted.accepted(self.numbers.start, self.numbers.end)
    }

    /// A gap tells of up to `budget` messages of this hole; of how many it does.
    fn told(&mut self, gap: Gap, budget: u64) -> u64 {
        let (first, until) = (self.numbers.start, self.numbers.end.min(self.posted.began_after(gap.at)));
        let told = self.posted.accepted(first, until).min(budget);
        if told > 0 {
            self.numbers.start = self.posted.behind(first, until, told);
        }
        told
    }
}

/// Judges a history.
#[must_use]
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict {
        totals: history.totals(),
        reported: 0,
        unknown: 0,
        unexplained: 0,
        disorder: 0,
        duplicates: 0,
        undead: 0,
        disconnected: history.connected.values().map(|said| disconnected(said)).sum(),
        examples: Vec::new(),
    };
    let mut received: Vec<_> = history.received.iter().collect();
    received.sort_by_key(|(key, _)| **key);
    for ((node, channel), received) in received {
        verdict.reported += received.gaps.iter().filter_map(|gap| gap.missed).sum::<u64>();
        verdict.unknown += received.gaps.iter().filter(|gap| gap.missed.is_none()).count();
        let name = format!("node {node} on channel {channel}");
        verdict.look_at_repeats(received, &name);
        let mut holes = Vec::new();
        for ((publisher, _), posted) in history.posted.iter().filter(|((_, there), _)| there == channel) {
            verdict.look_at_undead(received, *publisher, posted, &name);
            holes.extend(holes_of(received, *publisher, posted, history.done.contains(node)));
        }
        verdict.look_at_holes(holes, &received.gaps, &name);
    }
    verdict
}

/// What is missing of one publisher's accepted messages.
fn holes_of<'a>(received: &Received, publisher: u32, posted: &'a Posted, ended: bool) -> Vec<Hole<'a>> {
    if received.since == 0 {
        return Vec::new();
    }
    let (mut holes, mut next, mut from) = (Vec::new(), posted.began_after(received.since), 0);
    let all = received.gaps.len();
    let hole = |numbers, gaps| Hole { publisher, posted, numbers, gaps };
    for (at, ((first, last), behind)) in received.ranges.get(&publisher).into_iter().flatten().enumerate() {
        // What is lost before the first message may be found out later, by a digest.
        let until = if at == 0 { all } else { *behind };
        holes.push(hole(next..*first, from..until));
        (next, from) = (next.max(last + 1), *behind);
    }
    if ended {
        holes.push(hole(next..posted.known, from..all));
    }
    holes.retain(|hole| hole.missing() > 0);
    holes
}

/// What of the holes no gap tells of. Gaps in their order, each to the holes that end first.
fn unreported<'a>(mut holes: Vec<Hole<'a>>, gaps: &[Gap]) -> Vec<Hole<'a>> {
    holes.sort_by_key(|hole| (hole.gaps.end, hole.gaps.start));
    for (at, gap) in gaps.iter().enumerate() {
        let mut budget = gap.missed.unwrap_or(u64::MAX);
        for hole in holes.iter_mut().filter(|hole| hole.gaps.contains(&at)) {
            let told = hole.told(*gap, budget);
            if gap.missed.is_some() {
                budget -= told;
            }
        }
    }
    holes.retain(|hole| hole.missing() > 0);
    holes
}

/// How long somebody was not connected, after the first time and before the last.
fn disconnected(said: &[(bool, u64)]) -> u64 {
    let pairs = said.iter().zip(said.iter().skip(1));
    pairs
        .filter(|((before, _), (after, _))| !before && *after)
        .map(|((_, lost), (_, back))| back - lost)
        .sum()
}

impl Verdict {
    /// Whether everything that must be zero is.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.unexplained + self.disorder + self.duplicates + self.undead == 0 && self.totals.delivered > 0
    }

    fn look_at_repeats(&mut self, received: &Received, name: &str) {
        for (publisher, number) in &received.backwards {
            let ranges = received.ranges.get(publisher).into_iter().flatten();
            let twice = ranges.clone().any(|((first, last), _)| (first..=last).contains(&number));
            if twice {
                self.duplicates += 1;
            } else {
                self.disorder += 1;
            }
            self.example(format!(
                "{name}: {number} of publisher {publisher} {}",
                if twice { "twice" } else { "late" }
            ));
        }
    }

    fn look_at_undead(&mut self, received: &Received, publisher: u32, posted: &Posted, name: &str) {
        for ((first, last), _) in received.ranges.get(&publisher).into_iter().flatten() {
            for (number, _) in posted.failed.range(first..=last).filter(|(_, perhaps)| !**perhaps) {
                self.undead += 1;
                self.example(format!(
                    "{name}, of publisher {publisher}: {number} was received, and had failed for certain"
                ));
            }
        }
    }

    fn look_at_holes(&mut self, holes: Vec<Hole<'_>>, gaps: &[Gap], name: &str) {
        for hole in unreported(holes, gaps) {
            let (missing, Hole { publisher, numbers, gaps: places, .. }) = (hole.missing(), &hole);
            self.unexplained += missing;
            let around = gaps.get(places.start.saturating_sub(1)..gaps.len().min(places.end + 1));
            self.example(format!(
                "{name}, of publisher {publisher}: {missing} unexplained in {numbers:?}, gaps around it {around:?}"
            ));
        }
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { sent, failed, delivered } = self.totals;
        writeln!(f, "  sent                {sent}")?;
        writeln!(f, "  accepted            {}", sent.saturating_sub(failed))?;
        writeln!(f, "  delivered           {delivered}")?;
        writeln!(
            f,
            "  reported missing    {} by number, and {} gaps of unknown size",
            self.reported, self.unknown
        )?;
        for (name, count) in [
            ("unexplained", self.unexplained),
            ("order violations", self.disorder),
            ("duplicates", self.duplicates),
            ("received, failed", self.undead),
        ] {
            writeln!(f, "  {name:<19} {count}{}", if count > 0 { "   MUST BE 0" } else { "" })?;
        }
        writeln!(f, "  time disconnected   {:.1} s, over all nodes", self.disconnected as f64 / 1e6)?;
        self.examples.iter().try_for_each(|example| writeln!(f, "    {example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::record::Record;

    /// Node 1 posted on channel 0 and node 2 received it; both came to their end. What else happened is in the lines.
    fn verdict(posted: u64, lines: &str) -> Verdict {
        let mut history = History::default();
        let marks = [(0, 1), (100, 1), (200, posted + 1)];
        for (at, next) in marks {
            history.note(1, Record::Posted { channel: 0, at, next, known: next });
        }
        history.note(2, Record::Subscribed { channel: 0, at: 50 });
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (node, record) = line.split_once(' ').unwrap();
            history.note(node.parse().unwrap(), Record::parse(record).unwrap());
        }
        history.note(2, Record::Done);
        judge(&history)
    }

    fn unexplained(posted: u64, lines: &str) -> u64 {
        let verdict = verdict(posted, lines);
        assert_eq!(verdict.is_good(), verdict.unexplained == 0, "{verdict}");
        verdict.unexplained
    }

    #[test]
    fn a_complete_history_is_accepted() {
        assert_eq!(unexplained(10, "2 H 0 1 1 4\n 2 H 0 1 5 10"), 0);
    }

    #[test]
    fn a_silent_loss_is_unexplained_anywhere() {
        assert_eq!(unexplained(10, "2 H 0 1 1 4\n 2 H 0 1 7 10"), 2);
        assert_eq!(unexplained(10, "2 H 0 1 3 10"), 2);
        assert_eq!(unexplained(10, "2 H 0 1 1 8"), 2);
        assert_eq!(verdict(10, "").unexplained, 10);
    }

    #[test]
    fn a_gap_explains_only_the_loss_around_it() {
        for missed in ["0", "2", "5"] {
            assert_eq!(unexplained(10, &format!("2 H 0 1 1 4\n 2 G 0 {missed} 300\n 2 H 0 1 7 10")), 0);
            assert_eq!(unexplained(10, &format!("2 H 0 1 1 8\n 2 G 0 {missed} 300")), 0, "the end");
            assert_eq!(
                unexplained(10, &format!("2 H 0 1 3 10\n 2 G 0 {missed} 300")),
                0,
                "the beginning, reported late"
            );
        }
        assert_eq!(unexplained(10, "2 H 0 1 1 4\n 2 G 0 1 300\n 2 H 0 1 7 10"), 1, "it reports one");
        assert_eq!(unexplained(10, "2 H 0 1 1 4\n 2 H 0 1 7 8\n 2 G 0 0 300\n 2 H 0 1 9 10"), 2, "too late");
        assert_eq!(unexplained(10, "2 H 0 1 1 2\n 2 G 0 0 300\n 2 H 0 1 3 4\n 2 H 0 1 7 10"), 2, "too early");
    }

    #[test]
    fn a_gap_explains_nothing_that_was_posted_after_it() {
        // Numbers from 11 on were posted after 200.
        let verdict = |gap_at| {
            let mut history = History::default();
            for (at, next) in [(0, 1), (100, 1), (200, 11), (400, 21)] {
                history.note(1, Record::Posted { channel: 0, at, next, known: next });
            }
            history.note(2, Record::Subscribed { channel: 0, at: 50 });
            history.note(2, Record::Received { channel: 0, publisher: 1, first: 1, last: 4 });
            history.note(2, Record::Gap { channel: 0, missed: None, at: gap_at });
            history.note(2, Record::Done);
            judge(&history).unexplained
        };
        assert_eq!(verdict(200), 10, "deaf since the gap");
        assert_eq!(verdict(150), 10, "what began between two marks may have begun before it");
        assert_eq!(verdict(201), 0);
        assert_eq!(verdict(100), 16);
    }

    #[test]
    fn each_gap_explains_its_number_once() {
        let two = "2 H 0 1 1 2\n 2 G 0 2 300\n 2 H 0 1 5 6\n 2 G 0 1 300\n 2 H 0 1 9 10";
        assert_eq!(unexplained(10, two), 1);
        let shared = "2 G 0 3 300\n 2 H 0 1 4 6\n 2 G 0 3 300\n 2 H 0 1 10 10";
        assert_eq!(unexplained(10, shared), 0);
    }

    #[test]
    fn unaccepted_and_earlier_posts_need_not_arrive() {
        assert_eq!(unexplained(10, "1 F 0 5 0\n 1 F 0 6 1\n 2 H 0 1 1 4\n 2 H 0 1 7 10"), 0);
        let late = "2 S 0 150\n 2 H 0 1 10 10";
        assert_eq!(verdict(9, late).unexplained, 0, "no number above 9 is known");
        let mut history = History::default();
        for (at, next) in [(0, 1), (100, 6), (200, 11)] {
            history.note(1, Record::Posted { channel: 0, at, next, known: next });
        }
        history.note(2, Record::Subscribed { channel: 0, at: 50 });
        history.note(2, Record::Received { channel: 0, publisher: 1, first: 8, last: 10 });
        assert_eq!(
            judge(&history).unexplained,
            2,
            "from 6 on everything is posted later than the subscription"
        );
    }

    #[test]
    fn a_killed_node_need_not_have_received_the_end() {
        let mut history = History::default();
        for (at, next) in [(0, 1), (100, 1), (200, 11)] {
            history.note(1, Record::Posted { channel: 0, at, next, known: next });
        }
        history.note(2, Record::Subscribed { channel: 0, at: 50 });
        history.note(2, Record::Received { channel: 0, publisher: 1, first: 1, last: 4 });
        assert!(judge(&history).is_good());
        history.note(2, Record::Received { channel: 0, publisher: 1, first: 6, last: 6 });
        assert_eq!(judge(&history).unexplained, 1);
    }

    #[test]
    fn repeats_late_and_refused_messages_are_found() {
        let twice = verdict(10, "2 H 0 1 1 10\n 2 B 0 1 7");
        assert_eq!((twice.duplicates, twice.disorder, twice.is_good()), (1, 0, false));
        let late = verdict(10, "2 H 0 1 1 6\n 2 G 0 0 300\n 2 H 0 1 8 10\n 2 B 0 1 7");
        assert_eq!((late.duplicates, late.disorder, late.is_good()), (0, 1, false));
        let undead = verdict(10, "1 F 0 5 0\n 2 H 0 1 1 10");
        assert_eq!((undead.undead, undead.is_good()), (1, false));
    }

    #[test]
    fn disconnected_time_lies_between_two_connected_times() {
        let said = [(true, 10), (false, 100), (true, 150), (false, 300)];
        assert_eq!(disconnected(&said), 50);
        assert_eq!(disconnected(&[(false, 5), (true, 9)]), 4);
    }
}
