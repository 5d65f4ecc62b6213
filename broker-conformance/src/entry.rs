//! Entry: how the suite comes to one backend.

use broker_core::{Backend, driver::Capabilities};
use futures_util::future::BoxFuture;

use crate::{
    case::{Case, Need},
    cases,
    harness::Harness,
};

/// One backend for the suite. A test binary makes its entries and gives them to [`main`](crate::main).
///
/// [`new`](Self::new) has what every backend needs, the other methods what some do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The backend under test.
    pub backend: Backend,
    /// What its links promise beyond the contract. Cases that need more do not apply; a case fails when a link promises
    /// something else.
    pub capabilities: Capabilities,
    /// Starts a cluster for one case.
    pub start: Start,
    /// Whether a server can be had; if not, why, and what to do about it.
    pub available: fn() -> BoxFuture<'static, Result<(), String>>,
    /// Why it cannot give what a case needs; `None` when it can.
    pub lacks: fn(Need) -> Option<&'static str>,
    /// Ends what outlives a case. Called once, when no case runs any more.
    pub end: fn(),
    /// The cases about this backend alone, beside [those for all](cases::all).
    pub own: &'static [&'static [Case]],
    name: &'static str,
    /// The cases that run where nobody names it; all, unless it is on request.
    unasked: Option<&'static [&'static str]>,
}

/// Starts a cluster for a case with these needs.
pub type Start = fn(&'static [Need]) -> BoxFuture<'static, Result<Box<dyn Harness>, String>>;

impl Entry {
    /// A backend whose server can always be had, and gives whatever a case needs.
    #[must_use]
    pub const fn new(backend: Backend, capabilities: Capabilities, start: Start) -> Self {
        Self {
            backend,
            capabilities,
            start,
            available: || Box::pin(async { Ok(()) }),
            lacks: |_| None,
            end: || {},
            own: &[],
            name: backend.name,
            unasked: None,
        }
    }

    /// Gives it another name than its backend's: for a second entry of a backend, in another topology.
    #[must_use]
    pub const fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Leaves it out where nobody names it, but for these cases: `BROKER_TEST_BACKENDS=acme-cluster` runs all.
    #[must_use]
    pub const fn on_request(mut self, but: &'static [&'static str]) -> Self {
        self.unasked = Some(but);
        self
    }

    /// Asks this whether a server can be had. Where none can, the cases are ignored with the reason.
    #[must_use]
    pub const fn available(mut self, available: fn() -> BoxFuture<'static, Result<(), String>>) -> Self {
        self.available = available;
        self
    }

    /// Asks this why the server cannot give what a case needs. Such a case is ignored with the reason. What follows
    /// from the [capabilities](Self::capabilities) need not be said here.
    #[must_use]
    pub const fn lacks(mut self, lacks: fn(Need) -> Option<&'static str>) -> Self {
        self.lacks = lacks;
        self
    }

    /// Calls this when no case runs any more: servers that cases share end here.
    #[must_use]
    pub const fn end(mut self, end: fn()) -> Self {
        self.end = end;
        self
    }

    /// Runs these cases as well, on this backend alone.
    #[must_use]
    pub const fn own(mut self, cases: &'static [&'static [Case]]) -> Self {
        self.own = cases;
        self
    }

    /// The name in the names of cases: `acme`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Every case for this backend: those for all backends, and its own.
    pub fn cases(&self) -> impl Iterator<Item = Case> + use<> {
        cases::all().chain(self.own.iter().copied().flatten().copied())
    }

    /// Those of them that run where nobody names it.
    ///
    /// # Errors
    /// One is listed that is no case.
    pub(crate) fn unasked(&self) -> Result<Vec<Case>, String> {
        let Some(names) = self.unasked else { return Ok(self.cases().collect()) };
        let case = |name: &&str| {
            let found = self.cases().find(|case| case.name == *name);
            found.ok_or_else(|| format!("{}: no case is called `{name}`", self.name))
        };
        names.iter().map(case).collect()
    }
}

#[cfg(test)]
mod tests {
    use broker_core::driver::{Confirmation, Reach};

    use super::*;

    const ENTRY: Entry = Entry::new(
        broker_memory::BACKEND,
        Capabilities::new(Reach::Process).confirmation(Confirmation::Accepted),
        |_| Box::pin(async { Err("no cluster".to_owned()) }),
    );

    #[test]
    fn few_cases_of_an_entry_on_request_run_unasked_and_all_of_another() {
        let names = |entry: Entry| {
            entry.unasked().map(|cases| cases.into_iter().map(|case| case.name).collect::<Vec<_>>())
        };
        assert_eq!(names(ENTRY).unwrap().len(), ENTRY.cases().count());
        assert_eq!(names(ENTRY.on_request(&[])).unwrap(), [""; 0]);
        assert_eq!(
            names(ENTRY.on_request(&["subscribed_means_subscribed"])).unwrap(),
            ["subscribed_means_subscribed"]
        );
        let error = names(ENTRY.named("acme").on_request(&["a_typo"])).unwrap_err();
        assert!(error.contains("acme") && error.contains("`a_typo`"), "{error}");
    }
}
