//! Sync: the locks, counters and threads of the hub, of sessions and of the registry. Those of the standard library; and
//! with `--cfg shuttle` those of a model checker, which runs the tests in `hub/shuttle_tests.rs` and `session/shuttle_tests.rs` in many
//! different orders.

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic},
    thread::yield_now,
};
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic},
    thread::yield_now,
};

#[cfg(not(shuttle))]
thread_local! {
    static MARK: u8 = const { 0 };
}
#[cfg(shuttle)]
shuttle::thread_local! {
    // Never of size zero, and never moved.
    static MARK: Box<u8> = Box::new(0);
}

/// What tells this thread from all others that live; never 0. It is the place of what each thread has one of.
#[inline]
pub(crate) fn thread_mark() -> usize {
    #[cfg(not(shuttle))]
    let mark = MARK.try_with(|mark| std::ptr::from_ref(mark).addr());
    #[cfg(shuttle)]
    let mark = MARK.try_with(|mark| std::ptr::from_ref(&**mark).addr());
    // A thread that ends has lost its mark, and begins no call.
    mark.unwrap_or(usize::MAX)
}
