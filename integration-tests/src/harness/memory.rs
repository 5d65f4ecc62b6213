//! MemoryHarness: a bus of this process, with its own faults.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    harness::{Harness, is_core_own},
    line::Line,
    watch::Watch,
};
use broker_core::{
    Backend, Capabilities, Confirmation, OrderGuarantee, PermissionScope, Reach, driver::Driver,
};
use broker_memory::{Bus, SavedLogs};

use crate::faulty::{FaultyDriver, faults::Wrong};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Process)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_memory::BACKEND, CAPABILITIES, |_| {
    Box::pin(async { Ok(Box::new(MemoryHarness::new(Wrong::Nothing)) as Box<dyn Harness>) })
});

#[derive(Debug)]
pub(crate) struct MemoryHarness {
    wrong: Wrong,
    bus: Bus,
    name: String,
    lines: AtomicU64,
    watch: Watch,
    saved: Mutex<Option<SavedLogs>>,
}

impl MemoryHarness {
    /// With a driver that has this wrong.
    pub(crate) fn new(wrong: Wrong) -> Self {
        static BUSES: AtomicU64 = AtomicU64::new(1);
        let name = format!("case{}", BUSES.fetch_add(1, Ordering::Relaxed));
        Self {
            wrong,
            bus: Bus::named(&name),
            name,
            lines: AtomicU64::new(1),
            watch: Watch::new(),
            saved: Mutex::default(),
        }
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    fn backend(&self) -> Backend {
        broker_memory::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn around(&self, driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
        if self.wrong == Wrong::Nothing { driver } else { FaultyDriver::around(driver, self.wrong) }
    }

    fn url(&self) -> String {
        format!("memory://{}", self.name)
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        let name = format!("n{}", self.lines.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}?line={name}", self.url());
        Ok(Arc::new(MemoryLine { line: self.bus.line(&name), url }))
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.bus.cut();
        Ok(())
    }

    async fn start_server(&self) -> Result<(), String> {
        self.bus.heal();
        Ok(())
    }

    async fn pause_server(&self) -> Result<(), String> {
        self.bus.stall();
        Ok(())
    }

    async fn resume_server(&self) -> Result<(), String> {
        self.bus.heal();
        Ok(())
    }

    async fn drop_links(&self) -> Result<(), String> {
        self.bus.drop_links();
        Ok(())
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        Ok(Some(self.bus.channels().into_iter().filter(|name| !is_core_own(name)).collect()))
    }

    async fn connections(&self) -> Result<usize, String> {
        Ok(self.bus.links())
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        self.bus.publish_raw(channel, bytes.to_vec());
        Ok(())
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.bus.wipe_logs();
        Ok(())
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.bus.trim_logs();
        Ok(())
    }

    async fn save_data(&self) -> Result<(), String> {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.bus.save_logs());
        Ok(())
    }

    async fn restore_data(&self) -> Result<(), String> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.kill_server().await?;
        self.bus.restore_logs(&saved.ok_or("nothing was saved")?);
        self.start_server().await
    }

    async fn allow_only(&self, start: &str) -> Result<(), String> {
        self.bus.allow_only(start);
        Ok(())
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.bus.allow_nothing();
        Ok(())
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.bus.allow_everything();
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryLine {
    line: broker_memory::Line,
    url: String,
}

impl Line for MemoryLine {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn cut(&self) {
        self.line.cut();
    }

    fn stall(&self) {
        self.line.stall();
    }

    fn heal(&self) {
        self.line.heal();
    }
}

/// As with a real wire: what hangs on it ends with it.
impl Drop for MemoryLine {
    fn drop(&mut self) {
        self.line.cut();
    }
}
