//! Register: the identified sessions that live here, and the revocations of the recent past. One lock for both, so
//! that a session either finds the revocation when it registers, or is found by it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use super::{
    Doubt, Identity, Revocation, Revoked,
    record::{Record, RecordId},
};
use crate::{
    CloseReason, NodeId, Result,
    gate::Gate,
    session::Shared as Session,
    sync::{Mutex, MutexGuard},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Register {
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
    cuts: Vec<Cut>,
}

/// What a record means for identities: whom it hits, and up to when they must have begun.
#[derive(Debug)]
struct Cut {
    id: RecordId,
    record: Bytes,
    what: Revoked,
    /// When it was made or heard here. A check that began later found the token revoked, or a new one.
    heard: Instant,
    /// When it took effect, with the allowance for the clock of whoever said so. For a check of this process, which
    /// `heard` limits too, the clock of this process is exact: `None` for a revocation that was made here, now.
    limit: SystemTime,
    limit_here: Option<SystemTime>,
}

impl Cut {
    fn hits(&self, identity: &Identity) -> bool {
        let began = identity.authenticated_at;
        let in_time = match began.here {
            Some(here) => here <= self.heard && self.limit_here.is_none_or(|limit| began.wall <= limit),
            None => began.wall <= self.limit,
        };
        in_time && self.what.hits(identity)
    }

    /// Whether it hits everyone whom `other` hits.
    fn covers(&self, other: &Self) -> bool {
        let here = match (self.limit_here, other.limit_here) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own >= other,
        };
        here && self.what == other.what && self.heard >= other.heard && self.limit >= other.limit
    }
}

impl Register {
    pub(crate) fn new(node: NodeId, skew: Duration, retention: Duration) -> Self {
        Self { state: Mutex::default(), node, skew, retention }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a session in; or says what of its identity was revoked since its check began.
    pub(crate) fn admit(&self, id: u64, identity: &Identity, session: &Arc<Session>) -> Result<(), Revoked> {
        let mut state = self.lock();
        state.forget_old(self.retention);
        let user = state.users.entry(identity.user.clone()).or_default();
        if let Some(cut) = user.cuts.iter().find(|cut| cut.hits(identity)) {
            return Err(cut.what.clone());
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

    /// Makes a revocation of this node: closes whom it hits here, and returns its record. Who begins a check after
    /// this returned is not hit.
    pub(crate) fn revoke(&self, revocation: Revocation) -> Result<(RecordId, Bytes)> {
        let heard = Instant::now();
        let number = {
            let mut state = self.lock();
            state.numbers += 1;
            state.numbers
        };
        let limit_here = revocation.effective;
        let record = Record::new(revocation, RecordId { node: self.node, number });
        let (id, bytes) = (record.id, record.encode()?);
        // When this returns no call of a listener that was cut off begins any more.
        Gate::wait_for_calls(&self.cut(record, bytes.clone(), heard, limit_here));
        while Instant::now() <= heard {
            std::hint::spin_loop(); // a coarse clock: the next line has to be later
        }
        Ok((id, bytes))
    }

    /// A record that was heard, or read in the log. Returns its id.
    pub(crate) fn hear(&self, bytes: &Bytes) -> Result<RecordId, &'static str> {
        let record = Record::decode(bytes)?;
        let (id, limit) = (record.id, self.with_skew(record.at));
        // Copied: it may be a slice of a large buffer, and lives as long as the retention.
        drop(self.cut(record, Bytes::copy_from_slice(bytes), Instant::now(), Some(limit)));
        Ok(id)
    }

    fn with_skew(&self, at: SystemTime) -> SystemTime {
        at.checked_add(self.skew).unwrap_or(at)
    }

    /// Closes whom a record hits. The gates of their listeners.
    fn cut(
        &self,
        record: Record,
        bytes: Bytes,
        heard: Instant,
        limit_here: Option<SystemTime>,
    ) -> Vec<Arc<Gate>> {
        let Record { id, at, user: name, what } = record;
        let limit = self.with_skew(at);
        let cut = Cut { id, record: bytes, what, heard, limit, limit_here };
        let mut state = self.lock();
        state.forget_old(self.retention);
        if !state.seen.insert(id) {
            return Vec::new();
        }
        state.ages.push_back((heard, id, name.clone()));
        let user = state.users.entry(name).or_default();
        let hit = user.sessions.extract_if(|_, (identity, _)| cut.hits(identity));
        let hit: Vec<Arc<Session>> = hit.filter_map(|(_, (_, session))| session.upgrade()).collect();
        let what = cut.what.clone();
        user.cuts.retain(|older| !cut.covers(older));
        user.cuts.push(cut);
        drop(state);
        let reason = CloseReason::AuthenticationRevoked(what);
        let close = |session: &Arc<Session>| session.close(&reason);
        hit.iter().flat_map(close).collect()
    }

    /// Closes every identified session whose check began before a moment: nobody can tell whether it still holds.
    pub(crate) fn doubt(&self, before: Instant, why: Doubt) {
        let wall = super::AuthenticatedAt::from(before).wall;
        let old = |identity: &Identity| match identity.authenticated_at.here {
            Some(here) => here < before,
            None => identity.authenticated_at.wall < wall,
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
            drop(session.close(&CloseReason::AuthenticationInDoubt(why)));
        }
    }

    /// The records that are remembered. Of several that mean the same only the last.
    pub(crate) fn remembered(&self) -> Vec<(RecordId, Bytes)> {
        let mut state = self.lock();
        state.forget_old(self.retention);
        let cuts = state.users.values().flat_map(|user| &user.cuts);
        cuts.map(|cut| (cut.id, cut.record.clone())).collect()
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
                user.cuts.retain(|cut| cut.id != id);
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
        if self.users.get(name).is_some_and(|user| user.sessions.is_empty() && user.cuts.is_empty()) {
            self.users.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
