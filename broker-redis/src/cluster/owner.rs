//! ClusterLog: the revocation log at the member that owns its slot, wherever that goes.
//!
//! It has a connection of its own, opened when the log is first used. When that connection ends nothing of the link is
//! lost: the next call opens another.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_core::{
    Error, ErrorKind, Result,
    driver::{DurableLog, ErrorContext, Inspection, LogCursor, LogPage, LogSpec, ServerAddr},
};
use bytes::Bytes;
use redis::{RedisError, aio::MultiplexedConnection};
use tokio::sync::OnceCell;

use super::{
    atlas::{Atlas, within},
    member::Member,
    slots::{redirect, slot_of},
};
use crate::{
    errors::translate_of_log,
    link::inspection,
    log::{Keeper, Log, Seen},
};

/// How often one call follows the log to another member.
const HOPS: usize = 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct ClusterLog {
    atlas: Arc<Atlas>,
    seen: Seen,
    owner: Mutex<Option<Arc<Owner>>>,
}

/// The member that owns the slot, as far as is known, and the connection to it once it is open.
#[derive(Debug)]
struct Owner {
    server: ServerAddr,
    member: OnceCell<Member>,
}

/// One call to the owner, and what it has shown of it.
struct Call<'a> {
    seen: &'a Seen,
    owner: Arc<Owner>,
    member: Member,
    moved: Mutex<Option<ServerAddr>>,
    broken: AtomicBool,
}

impl Keeper for Call<'_> {
    fn seen(&self) -> &Seen {
        self.seen
    }

    fn peer(&self) -> &ErrorContext {
        &self.member.peer
    }

    fn connection(&self) -> MultiplexedConnection {
        self.member.connection.clone()
    }

    fn failed(&self, error: &RedisError) -> Error {
        let moved = if error.code() == Some("MOVED") { error.redirect_node() } else { None };
        if let Some((place, _)) = moved {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = redirect(place, &self.member.server);
        }
        if error.code().is_none() {
            self.broken.store(true, Ordering::Relaxed);
        }
        translate_of_log(&self.member.peer, error)
    }
}

impl ClusterLog {
    pub(crate) fn new(atlas: Arc<Atlas>) -> Self {
        Self { atlas, seen: Seen::default(), owner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Owner>>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner: the one that was found last, or else that of a fresh map.
    async fn owner(&self, log: &LogSpec) -> Result<Arc<Owner>> {
        if let Some(owner) = &*self.lock() {
            return Ok(Arc::clone(owner));
        }
        let map = self.atlas.refresh().await?;
        let Some(server) = map.owner(slot_of(log.name.as_str())) else {
            let why = format!("no member of the cluster serves the slot of `{}` at present", log.name);
            return Err(Error::new(ErrorKind::Unavailable, why));
        };
        Ok(self.set(server.clone()))
    }

    /// It is at this member now.
    fn set(&self, server: ServerAddr) -> Arc<Owner> {
        let mut owner = self.lock();
        match &*owner {
            // Another call has found it, too.
            Some(known) if known.server == server => Arc::clone(known),
            _ => Arc::clone(owner.insert(Arc::new(Owner { server, member: OnceCell::new() }))),
        }
    }

    fn forget(&self, gone: &Arc<Owner>) {
        self.lock().take_if(|owner| Arc::ptr_eq(owner, gone));
    }

    /// Begins a call at the owner.
    async fn begin(&self, log: &LogSpec) -> Result<Call<'_>> {
        let owner = self.owner(log).await?;
        let open = || within(&owner.server, Member::ask_at(&self.atlas.address, &owner.server));
        let member = owner.member.get_or_try_init(open).await.inspect_err(|_| self.forget(&owner))?.clone();
        Ok(Call { seen: &self.seen, owner, member, moved: Mutex::default(), broken: AtomicBool::new(false) })
    }

    /// Whether a call is over. If not, the log is at another member by now.
    fn is_over<T>(&self, call: Call<'_>, outcome: &Result<T>) -> bool {
        if call.broken.load(Ordering::Relaxed) {
            self.forget(&call.owner);
        }
        match call.moved.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(server) if outcome.is_err() => {
                self.set(server);
                false
            }
            _ => true,
        }
    }

    /// Every member has named another one.
    fn nowhere(&self) -> Error {
        *self.lock() = None;
        let why = "the members of the cluster do not agree which of them keeps the revocation log";
        Error::new(ErrorKind::Unavailable, why)
    }

    /// What the server that keeps the log reports.
    pub(crate) async fn inspect(&self, log: &LogSpec, idle_limit: Option<Duration>) -> Inspection {
        match self.begin(log).await {
            Ok(call) => inspection(&call.member.connection).await.with_idle_limit(idle_limit),
            Err(_) => Inspection::default().with_idle_limit(idle_limit),
        }
    }

    /// Hangs up, if it was used.
    pub(crate) async fn close(&self) {
        let owner = self.lock().take();
        if let Some(member) = owner.as_ref().and_then(|owner| owner.member.get()) {
            member.quit().await;
        }
    }

    /// A call that was given up because it took too long may have done so because of the connection.
    fn late<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| {
            if error.kind() == ErrorKind::Timeout {
                *self.lock() = None;
            }
        })
    }

    /// Where errors say the log is.
    fn peer(&self) -> ErrorContext {
        let owner = self.lock().as_ref().map(|owner| owner.server.clone());
        let server = owner.or_else(|| self.atlas.address.hosts.first().cloned());
        let place = server.map_or_else(|| "the cluster".to_owned(), |server| server.to_string());
        ErrorContext::new("Redis", place, "")
    }
}

#[async_trait]
impl DurableLog for ClusterLog {
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        let append = async {
            for _ in 0..HOPS {
                let call = self.begin(log).await?;
                let outcome = Log { keeper: &call, log }.append(&record).await;
                if self.is_over(call, &outcome) {
                    return outcome;
                }
            }
            Err(self.nowhere())
        };
        self.late(log.within(&self.peer(), append).await)
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        let read = async {
            for _ in 0..HOPS {
                let call = self.begin(log).await?;
                let outcome = Log { keeper: &call, log }.read(after).await;
                if self.is_over(call, &outcome) {
                    return outcome;
                }
            }
            Err(self.nowhere())
        };
        self.late(log.within(&self.peer(), read).await)
    }
}
