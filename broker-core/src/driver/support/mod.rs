//! Support: what drivers would all write. Re-exported by [`driver`](super).

pub(super) mod error_context;
pub(super) mod inspection;
mod looks;
pub(super) mod reach;
pub(super) mod server_addr;
pub(super) mod tls;
