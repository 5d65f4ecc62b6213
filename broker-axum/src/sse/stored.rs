//! Stored: what an application has kept, sent before the stream, and the ids by which the stream's messages are compared.

use std::collections::HashSet;

/// See the module.
pub(super) struct Stored<T> {
    /// `None` once all of it was sent.
    values: Option<Box<dyn Iterator<Item = T> + Send>>,
    sent: HashSet<String>,
}

impl<T> Stored<T> {
    pub(super) fn new(values: impl Iterator<Item = T> + Send + 'static) -> Self {
        Self { values: Some(Box::new(values)), sent: HashSet::new() }
    }

    /// The next value, and its id if there is a function that makes it.
    pub(super) fn next(
        &mut self,
        make_id: Option<&mut impl FnMut(&T) -> String>,
    ) -> Option<(T, Option<String>)> {
        let Some(value) = self.values.as_mut()?.next() else {
            self.values = None;
            return None;
        };
        let id = make_id.map(|make_id| make_id(&value));
        self.sent.extend(id.clone());
        Some((value, id))
    }

    pub(super) fn has_sent(&self, id: &str) -> bool {
        self.sent.contains(id)
    }
}
