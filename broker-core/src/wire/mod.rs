//! Wire: the bytes and the names that nodes exchange. `docs/wire-format.md` specifies them.

pub(crate) mod bundle;
pub(crate) mod digest;
pub(crate) mod encoded;
pub(crate) mod frame;
pub(crate) mod limits;
pub(crate) mod names;
pub(crate) mod outgoing;
