//! Status: the line under the board, and who is where.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use broker::Model;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How often a server says how many people it has.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
/// A server that has said nothing for so long is gone.
const GONE: Duration = Duration::from_secs(7);
/// More servers than this are not counted: names on the wire are anybody's.
const SERVERS: usize = 1000;

/// How many people a server has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, Model)]
#[model(name = "people")]
pub(crate) struct People {
    pub(crate) server: u64,
    pub(crate) here: u32,
}

/// What a page shows under the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Model)]
pub(crate) struct Status {
    pub(crate) backend: String,
    /// Whether other servers are received.
    pub(crate) connected: bool,
    /// Why not, in a sentence.
    pub(crate) trouble: Option<String>,
    pub(crate) here: u32,
    pub(crate) everywhere: u32,
    pub(crate) servers: u32,
    pub(crate) gaps: u64,
}

/// Who is where.
#[derive(Debug, Default)]
pub(crate) struct Census(HashMap<u64, (u32, Instant)>);

impl Census {
    pub(crate) fn note(&mut self, people: People, now: Instant) {
        if self.0.len() < SERVERS || self.0.contains_key(&people.server) {
            self.0.insert(people.server, (people.here, now));
        }
    }

    /// How many servers, and people on them, besides this one.
    pub(crate) fn others(&mut self, now: Instant) -> (u32, u32) {
        self.0.retain(|_, (_, received)| now.duration_since(*received) < GONE);
        let people = self.0.values().fold(0_u32, |sum, (here, _)| sum.saturating_add(*here));
        (self.0.len() as u32, people)
    }
}

/// One person more, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Present(watch::Sender<Status>);

impl Present {
    pub(crate) fn new(status: watch::Sender<Status>) -> Self {
        status.send_modify(|status| {
            status.here += 1;
            status.everywhere += 1;
        });
        Self(status)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.send_modify(|status| {
            status.here = status.here.saturating_sub(1);
            status.everywhere = status.everywhere.saturating_sub(1);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_expires_and_names_are_bounded() {
        let (mut census, began) = (Census::default(), Instant::now());
        census.note(People { server: 1, here: 3 }, began);
        census.note(People { server: 2, here: 4 }, began + GONE);
        assert_eq!(census.others(began + GONE / 2), (2, 7));
        assert_eq!(census.others(began + GONE + GONE / 2), (1, 4));
        for server in 0..5000 {
            census.note(People { server, here: u32::MAX }, began + GONE);
        }
        assert_eq!(census.others(began + GONE), (SERVERS as u32, u32::MAX));
    }
}
