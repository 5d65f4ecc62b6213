//! Sync: the locks and counters of the hub, of sessions and of the register. Those of the standard library; and with
//! `--cfg shuttle` those of a model checker, which runs the tests in `hub/model.rs` and `session/model.rs` in many
//! different orders.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
