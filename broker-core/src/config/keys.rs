//! Keys: what a URL's query may set of the options.

/// See [`Options::URL_KEYS`](crate::Options::URL_KEYS).
pub(super) const KEYS: &[&str] = &[
    "prefix",
    "queue_capacity",
    "queue_bytes",
    "outbox_bytes",
    "max_payload",
    "heartbeat",
    "heartbeat_timeout",
    "digest_interval",
    "connect_timeout",
    "subscribe_timeout",
    "publish_timeout",
    "unsubscribe_delay",
    "drain_timeout",
    "backoff_min",
    "backoff_max",
    "close_timeout",
    "revoke_timeout",
    "revocation_retention",
    "revocation_poll",
    "revocation_lease",
    "clock_skew",
    "on_log_break",
    "on_unlogged_gap",
    "codec",
];
