//! A port of this machine, for a server that a test starts.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

/// A port of this machine that nobody listens on.
///
/// Taken from below the range from which the system picks ports for connections, so that a server that is
/// down for a while finds its port free again. Another process may still be faster: then try again.
///
/// # Errors
/// Every port tried was taken.
pub fn free_port() -> Result<u16, String> {
    for attempt in 0..1000_u32 {
        let random = RandomState::new().hash_one(attempt);
        let port = 20_000 + u16::try_from(random % 12_000).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no free port between 20000 and 32000".to_owned())
}
