//! Registry: the identified sessions that live here, and the revocations of the recent past. One lock for both, so
//! that a session either finds the revocation when it registers, or is found by it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::{
    AuthenticatedAt, Clock, Identity, Revocation, Revoked, Uncertainty,
    record::{Record, RecordId},
};
use crate::{
    CloseReason, NodeId, Result,
    runtime::{
        gate::Gate,
        sync::{Mutex, MutexGuard},
    },
    session::Shared as Session,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    node: NodeId,
    skew: Duration,
    retention: Duration,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<String, User>,
    /// Every record of the retention, so that one that is met twice counts once.
    seen: HashSet<RecordId>,
    /// The same in the order in which they came, and whose they are, to forget them again.
    ages: VecDeque<(Instant, RecordId, String)>,
    numbers: u64,
}

#[derive(Debug, Default)]
struct User {
    sessions: HashMap<u64, (Identity, Weak<Session>)>,
    rules: Vec<RevocationRule>,
}

/// What a record means for identities: whom it hits, and up to when they must have begun. A check that began after it was
/// made or received here found the token revoked, or a new one; so that limits whatever was dated here.
#[derive(Debug)]
struct RevocationRule {
    id: RecordId,
    record: Bytes,
    what: Revoked,
    /// By the clock of any server: when it took effect, with the allowance for the clock of whoever said so.
    by_any: SystemTime,
    /// By the clock of this server.
    by_own: SystemTime,
    /// By the monotonic clock of this process; `None`: before it began.
    here: Option<Instant>,
}

/// One moment, by both clocks of this process. They are not read at once: of the wall clock there is a time that is no
/// later than the moment, and one that is no earlier.
#[derive(Clone, Copy, Debug)]
struct Moment {
    mono: Instant,
    no_later: SystemTime,
    no_earlier: SystemTime,
}

impl Moment {
    fn now() -> Self {
        let mono = Instant::now();
        Self { mono, no_later: AuthenticatedAt::from(mono).wall, no_earlier: SystemTime::now() }
    }

    /// When the wall clock was there, by the monotonic clock, and as if it had never been set since: whoever signed in
    /// while it was wrong is compared by what it says now.
    fn when(self, wall: SystemTime) -> Option<Instant> {
        match self.no_later.duration_since(wall) {
            Ok(ago) => self.mono.checked_sub(ago),
            Err(_) => Some(self.mono),
        }
    }
}

/// Why a session is not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) what: Revoked,
    /// How long a new authentication would be refused as well, if it were dated as this one is, in whole seconds.
    pub(crate) wait: Option<Duration>,
}

impl RevocationRule {
    /// Of a record that is known here from a moment on; `limit`: when it took effect by the clock of this server, where
    /// that is not that moment.
    fn new(
        record: Record,
        bytes: Bytes,
        received: Moment,
        skew: Duration,
        limit: Option<SystemTime>,
    ) -> Self {
        Self {
            id: record.id,
            record: bytes,
            what: record.what,
            by_any: with_skew(record.at, skew),
            by_own: limit.map_or(received.no_earlier, |limit| limit.min(received.no_earlier)),
            here: limit.map_or(Some(received.mono), |limit| received.when(limit)),
        }
    }

    fn hits(&self, identity: &Identity) -> bool {
        let AuthenticatedAt { wall, clock } = identity.authenticated_at;
        let in_time = match clock {
            // By the wall clock of then, too: the other one stands still while the machine sleeps.
            Clock::Process(here) => self.here.is_some_and(|limit| here <= limit) || wall <= self.by_own,
            Clock::Server => wall <= self.by_own,
            Clock::Any => wall <= self.by_any,
        };
        in_time && self.what.hits(identity)
    }

    /// Whether it hits everyone whom `other` hits.
    fn covers(&self, other: &Self) -> bool {
        self.what == other.what
            && self.by_any >= other.by_any
            && self.by_own >= other.by_own
            && self.here >= other.here
    }

    /// How long a new identity that is dated like this one would be hit, too. Many tokens have whole seconds: the first
    /// that is not hit is of the next one.
    fn wait(&self, identity: &Identity, now: SystemTime) -> Option<Duration> {
        let until = match identity.authenticated_at.clock {
            Clock::Process(_) => return None,
            Clock::Server => self.by_own,
            Clock::Any => self.by_any,
        };
        let second = until.duration_since(UNIX_EPOCH).ok()?.as_secs().checked_add(1)?;
        let free = UNIX_EPOCH.checked_add(Duration::from_secs(second))?;
        free.duration_since(now).ok().filter(|wait| !wait.is_zero() && self.what.hits(identity))
    }
}

fn with_skew(at: SystemTime, skew: Duration) -> SystemTime {
    at.checked_add(skew).unwrap_or(at)
}

impl Registry {
    pub(crate) fn new(node: NodeId, skew: Duration, retention: Duration) -> Self {
        Self { state: Mutex::default(), node, skew, retention }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in; or says what of its identity was revoked since its check began.
    pub(crate) fn admit(&self, id: u64, identity: &Identity, session: &Arc<Session>) -> Result<(), Refused> {
        let mut state = self.lock();
        state.forget_old(self.retention);
        let user = state.users.entry(identity.user.clone()).or_default();
        if let Some(rule) = user.rules.iter().find(|rule| rule.hits(identity)) {
            let now = SystemTime::now();
            let wait = user.rules.iter().filter_map(|rule| rule.wait(identity, now)).max();
            return Err(Refused { what: rule.what.clone(), wait });
        }
        user.sessions.insert(id, (identity.clone(), Arc::downgrade(session)));
        Ok(())
    }

    /// A session is gone.
    pub(crate) fn forget(&self, id: u64, identity: &Identity) {
        let mut state = self.lock();
        if let Some(user) = state.users.get_mut(&identity.user) {
            let session = user.sessions.remove(&id);
            state.tidy(&identity.user);
            drop(state);
            drop(session);
        }
    }

    /// Makes a revocation of this node: closes whom it hits here, and returns its record. A check that begins after
    /// this returned is not affected.
    pub(crate) fn revoke(&self, revocation: Revocation) -> Result<(RecordId, Bytes)> {
        let received = Moment::now();
        let number = self.next_number();
        let limit = revocation.effective;
        let record = Record::new(revocation, RecordId { node: self.node, number });
        let (id, bytes) = (record.id, record.encode()?);
        // When this returns no call of a listener that was cut off begins any more.
        Gate::wait_for_calls(&self.apply(record, bytes.clone(), received, limit));
        // Coarse clocks: the next line has to be later. One that was set back is not waited for.
        while Instant::now() <= received.mono || SystemTime::now() == received.no_earlier {
            std::hint::spin_loop();
        }
        Ok((id, bytes))
    }

    /// A record that was received, or read in the log. Returns its id.
    pub(crate) fn receive(&self, bytes: &Bytes) -> Result<RecordId, &'static str> {
        let record = Record::decode(bytes)?;
        let (id, limit) = (record.id, with_skew(record.at, self.skew));
        // Copied: it may be a slice of a large buffer, and lives as long as the retention.
        drop(self.apply(record, Bytes::copy_from_slice(bytes), Moment::now(), Some(limit)));
        Ok(id)
    }

    /// A revocation by a program that is no node, and gives no date: it holds from now on, for what began before.
    pub(crate) fn receive_undated(&self, revocation: Revocation) -> Result<()> {
        let number = self.next_number();
        let received = Moment::now();
        let record = Record::new(revocation, RecordId { node: self.node, number });
        let bytes = record.encode()?;
        drop(self.apply(record, bytes, received, None));
        Ok(())
    }

    fn next_number(&self) -> u64 {
        let mut state = self.lock();
        state.numbers += 1;
        state.numbers
    }

    /// Closes whom a record hits. The gates of their listeners.
    fn apply(
        &self,
        record: Record,
        bytes: Bytes,
        received: Moment,
        limit: Option<SystemTime>,
    ) -> Vec<Arc<Gate>> {
        let (id, name) = (record.id, record.user.clone());
        let rule = RevocationRule::new(record, bytes, received, self.skew, limit);
        let mut state = self.lock();
        state.forget_old(self.retention);
        if !state.seen.insert(id) {
            return Vec::new();
        }
        state.ages.push_back((received.mono, id, name.clone()));
        let user = state.users.entry(name).or_default();
        let hit = user.sessions.extract_if(|_, (identity, _)| rule.hits(identity));
        let hit: Vec<Arc<Session>> = hit.filter_map(|(_, (_, session))| session.upgrade()).collect();
        let what = rule.what.clone();
        user.rules.retain(|older| !rule.covers(older));
        user.rules.push(rule);
        drop(state);
        let reason = CloseReason::AuthenticationRevoked(what);
        let close = |session: &Arc<Session>| session.close(&reason);
        hit.iter().flat_map(close).collect()
    }

    /// Closes every identified session whose check began before a moment: it is uncertain whether it is still valid.
    pub(crate) fn close_uncertain(&self, before: Instant, why: Uncertainty) {
        let wall = AuthenticatedAt::from(before).wall;
        let old = |identity: &Identity| match identity.authenticated_at.clock {
            Clock::Process(here) => here < before,
            Clock::Server | Clock::Any => identity.authenticated_at.wall < wall,
        };
        let state = self.lock();
        let sessions = state.users.values().flat_map(|user| user.sessions.values());
        let old = sessions.filter(|(identity, _)| old(identity));
        let old: Vec<Arc<Session>> = old.filter_map(|(_, session)| session.upgrade()).collect();
        drop(state);
        if !old.is_empty() {
            tracing::warn!("{} identified sessions are closed: {why}", old.len());
        }
        for session in old {
            drop(session.close(&CloseReason::AuthenticationUncertain(why)));
        }
    }

    /// The records that are remembered. Of several that mean the same only the last.
    pub(crate) fn remembered(&self) -> Vec<(RecordId, Bytes)> {
        let mut state = self.lock();
        state.forget_old(self.retention);
        let rules = state.users.values().flat_map(|user| &user.rules);
        rules.map(|rule| (rule.id, rule.record.clone())).collect()
    }

    /// Forgets what is older than the retention.
    pub(crate) fn forget_old(&self) {
        self.lock().forget_old(self.retention);
    }
}

impl State {
    fn forget_old(&mut self, retention: Duration) {
        while self.ages.front().is_some_and(|(when, ..)| when.elapsed() > retention) {
            let Some((_, id, name)) = self.ages.pop_front() else { break };
            self.seen.remove(&id);
            if let Some(user) = self.users.get_mut(&name) {
                user.rules.retain(|rule| rule.id != id);
            }
            self.tidy(&name);
        }
        // What a burst took is given back. Each for itself: users go later than records, where sessions hold them.
        let roomy = |capacity: usize, len: usize| capacity > 1024 && len < capacity / 4;
        if roomy(self.seen.capacity(), self.seen.len()) {
            self.seen.shrink_to_fit();
        }
        if roomy(self.ages.capacity(), self.ages.len()) {
            self.ages.shrink_to_fit();
        }
        if roomy(self.users.capacity(), self.users.len()) {
            self.users.shrink_to_fit();
        }
    }

    /// Takes a user out of whom nothing is left.
    fn tidy(&mut self, name: &str) {
        if self.users.get(name).is_some_and(|user| user.sessions.is_empty() && user.rules.is_empty()) {
            self.users.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
