//! A port of this machine, for a server that a test starts.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// One after the other, from a random one on: what this process has given out is not given out again for long, so that a server
/// that is down keeps its port from the other tests.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0) / 2));

/// A port of this machine that nobody listens on.
///
/// Taken from below the range from which the system picks ports for connections, so that a server that is
/// down for a while finds its port free again. Another process may still be faster: then try again.
///
/// # Errors
/// Every port tried was taken.
pub fn free_port() -> Result<u16, String> {
    for _ in 0..1000 {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + u16::try_from(next % 12_000).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port between 20000 and 32000".to_owned())
}
