//! Limits: how long a frame, a name and a record of the log may be, so that every backend takes them.

/// The longest frame core ever sends, in bytes: fits into the default limit of every backend (NATS: 1 MiB).
/// A longer one that arrives is foreign, and malformed.
pub const MAX_FRAME: usize = 1_000_000;

/// The longest name of a channel on the wire, in bytes, with the prefix in it: fits into the limit of every backend
/// (AMQP: 255).
pub const MAX_NAME: usize = 251;

/// The longest record, in bytes.
pub const MAX_RECORD: usize = 64 << 10;
