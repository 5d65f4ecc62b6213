//! WakeList: what is left to do once no lock is held: wake, and drop. Both may run foreign code.

use std::task::Waker;

use super::Entry;
use crate::runtime::user_code::contain;

/// See the module.
#[derive(Debug, Default)]
#[must_use = "subscribers wait to be woken"]
pub(crate) struct WakeList {
    pub(crate) wakers: Few<Waker>,
    pub(crate) garbage: Few<Entry>,
    /// An entry was put where no subscriber will read it: the hub has ended meanwhile.
    pub(crate) too_late: bool,
}

impl WakeList {
    #[inline]
    pub(crate) fn finish(self) {
        self.wakers.for_each(|waker| contain("a waker", || waker.wake()));
        self.garbage.for_each(|entry| contain("a message that was dropped", || drop(entry)));
    }
}

/// Some values, most of the time none or one: each post has two of these, and looks at both.
#[derive(Debug)]
pub(crate) struct Few<T> {
    first: Option<T>,
    /// None until there is one more: an empty `Vec` would be dropped by a call.
    more: Option<Vec<T>>,
}

impl<T> Default for Few<T> {
    #[inline]
    fn default() -> Self {
        Self { first: None, more: None }
    }
}

impl<T> Extend<T> for Few<T> {
    #[inline]
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

impl<T> Few<T> {
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        if self.first.is_none() {
            self.first = Some(value);
        } else {
            self.more.get_or_insert_default().push(value);
        }
    }

    /// One of them, if there are some.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.more.as_mut().and_then(Vec::pop).or_else(|| self.first.take())
    }

    #[inline]
    fn for_each(self, mut each: impl FnMut(T)) {
        if let Some(first) = self.first {
            each(first);
            self.more.into_iter().flatten().for_each(each);
        }
    }
}
