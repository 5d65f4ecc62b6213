//! Mailbox: what the application's side tells the task that owns a socket.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use crate::calls::Call;

/// What waits for the task.
///
/// Its bounds: there are no more calls in it than the client may have, and each call's key is in it once at
/// most.
#[derive(Default)]
pub(crate) struct Mailbox {
    post: Mutex<Post>,
    task: AtomicWaker,
}

#[derive(Default)]
pub(crate) struct Post {
    /// Calls to be opened.
    pub(crate) calls: Vec<Call>,
    /// Keys of the calls that have something to do.
    pub(crate) ready: Vec<u64>,
    /// What the whole client wants.
    pub(crate) order: Option<Order>,
    /// The task takes no more calls.
    refuses: bool,
    /// There is no task any more.
    dead: bool,
}

/// What the whole client wants. A later order takes the place of an earlier one, unless that was stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Try to connect at once.
    Online,
    /// Show new credentials for the calls that are open.
    Authenticate,
    /// Close the socket: there is no network.
    Offline,
    /// End all calls, and close the socket.
    Close,
}

impl Mailbox {
    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a call to the task, or back if that takes no more. The task is told by [`wake`](Self::wake),
    /// when the caller holds no lock.
    pub(crate) fn open(&self, call: Call) -> Result<(), Box<Call>> {
        let mut post = self.post();
        if post.refuses {
            drop(post);
            return Err(Box::new(call));
        }
        post.calls.push(call);
        Ok(())
    }

    pub(crate) fn wake(&self) {
        self.task.wake();
    }

    /// A call has something to do. Its caller sees to it that this is said once until the task has looked.
    pub(crate) fn ready(&self, key: u64) {
        let mut post = self.post();
        if !post.dead {
            post.ready.push(key);
            drop(post);
            self.task.wake();
        }
    }

    pub(crate) fn order(&self, order: Order) {
        let mut post = self.post();
        post.order = post.order.max(Some(order));
        drop(post);
        self.task.wake();
    }

    /// Takes no more calls. Those that wait remain.
    pub(crate) fn refuse_calls(&self) {
        self.post().refuses = true;
    }

    /// Takes no more calls, provided that none waits.
    pub(crate) fn refuse_if_empty(&self) -> bool {
        let mut post = self.post();
        post.refuses |= post.calls.is_empty();
        post.refuses && post.calls.is_empty()
    }

    /// There is no task any more. Returns the calls that nobody has taken.
    pub(crate) fn close(&self) -> Vec<Call> {
        mem::replace(&mut *self.post(), Post { refuses: true, dead: true, ..Post::default() }).calls
    }

    /// Takes what waits. Ready only if there is something.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Post> {
        self.task.register(cx.waker());
        let mut post = self.post();
        if post.calls.is_empty() && post.ready.is_empty() && post.order.is_none() {
            return Poll::Pending;
        }
        let (refuses, dead) = (post.refuses, post.dead);
        Poll::Ready(mem::replace(&mut *post, Post { refuses, dead, ..Post::default() }))
    }
}
