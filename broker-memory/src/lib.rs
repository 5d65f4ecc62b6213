//! The in-process backend.
//!
//! `memory:` is a bus of one broker's own: the embedded default, where a global post reaches every session of the
//! process. `memory://name` is a bus shared by every broker of that name in the process: a real cluster for tests
//! and development, with faults of its own ([`Bus`]). Nothing outlives the process.
//!
//! The revocation log is kept by the bus, exactly as long as asked, and is gone with it.
//!
//! `Ok` of a global post means that the message is in the queue of every listener, or about to be put there.

mod bus;
mod link;
mod log;

use std::sync::Arc;

use async_trait::async_trait;
use broker_core::{
    Backend, BrokerUrl, Result,
    driver::{ConnectContext, Driver, Link, Scheme},
};

pub use bus::{Bus, Line, SavedLogs};

/// The backend `memory`: scheme `memory:`, own URL key `line`.
pub const BACKEND: Backend = Backend { name: "memory", schemes: &[Scheme::local("memory")], open };

fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    url.allow_keys(&["line"])?;
    if url.username().or(url.password()).is_some() || url.port().is_some() || !url.path().is_empty() {
        return Err(url.invalid("has more than a name; write it as memory: or memory://name"));
    }
    let bus = url.host().map_or_else(Bus::private, Bus::named);
    Ok(Arc::new(MemoryDriver { bus, line: url.key("line").unwrap_or_default().into() }))
}

#[derive(Debug)]
struct MemoryDriver {
    bus: Bus,
    line: Box<str>,
}

#[async_trait]
impl Driver for MemoryDriver {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        Ok(Box::new(link::MemoryLink::open(&self.bus, &self.line, context.inbox).await?))
    }
}
