//! Scope: how far a post goes.

/// How far a post goes. Follows Serverpod's message scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// This process only. It is in every listener's queue before the call returns, works while the
    /// backend is unavailable, and a typed value is neither encoded nor copied.
    Local,
    /// Every process, this one included, by one path and exactly once. `Ok` means that the backend took
    /// it; while the backend is unavailable it is an error; it never falls back to local.
    Global,
    /// [`Global`](Self::Global) where a backend is configured, else [`Local`](Self::Local). What is
    /// configured decides, not what is reachable.
    #[default]
    Auto,
}
