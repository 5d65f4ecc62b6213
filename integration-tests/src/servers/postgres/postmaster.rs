//! Postmaster: a server's first process and its children. Each child has a session of its own, so that a signal to the
//! group reaches the first alone.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use async_trait::async_trait;
use broker_conformance::wait::eventually;

use crate::servers::{
    Host, LIMIT,
    process::{Process, leashed, signal, stand_still},
};

/// See the module. Dropping it kills them all.
#[derive(Debug)]
pub(crate) struct Postmaster {
    first: Process,
    /// Ends the server when the process of the test has gone without that.
    leash: Process,
}

impl Postmaster {
    /// Not running yet.
    pub(crate) fn new() -> Self {
        Self { first: Process::new("postgres"), leash: Process::new("sh") }
    }

    /// Starts it; what it prints goes into `log`.
    pub(crate) fn start(&self, command: &mut Command, log: &Path) -> Result<(), String> {
        self.first.start(command, log)?;
        let Some(pid) = self.first.pid() else { return Err("postgres has no process".to_owned()) };
        // One is left of a server that has ended by itself.
        if self.leash.signal("KILL").is_ok() {
            self.leash.let_go();
        }
        let mut leash = leashed("sh");
        leash.args(["-c", &format!("cat; kill -s QUIT {pid}")]);
        self.leash.start(&mut leash, &log.with_extension("leash"))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Result<Option<ExitStatus>, String> {
        self.first.ended()
    }

    fn children(&self) -> Vec<u32> {
        let Some(pid) = self.first.pid() else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Stops the first process, so that there are no more children, and returns those that there are.
    async fn stop_first(&self) -> Result<Vec<u32>, String> {
        self.first.pause().await?;
        Ok(self.children())
    }
}

#[async_trait]
impl Host for Postmaster {
    async fn stop(&self) -> Result<(), String> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        // What may have been paused. It does not wait for its clients to go.
        self.resume().await?;
        self.leash.kill().await?;
        self.first.signal("INT")?;
        self.first.wait_until_gone().await
    }

    async fn kill(&self) -> Result<(), String> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.leash.kill().await?;
        let children = self.stop_first().await?;
        // Some may have ended by themselves.
        let _ = signal("KILL", &children);
        self.first.kill().await?;
        eventually("the server's processes to end", LIMIT, || async {
            let left = children.iter().filter(|pid| is_alive(**pid)).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
        })
        .await
    }

    async fn pause(&self) -> Result<(), String> {
        for child in self.stop_first().await? {
            // One that has ended meanwhile stands still.
            if signal("STOP", &[child]).is_ok() {
                stand_still(child).await?;
            }
        }
        Ok(())
    }

    async fn resume(&self) -> Result<(), String> {
        let _ = signal("CONT", &self.children());
        self.first.signal("CONT")
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        // The others, once the first can make no more. It goes with its own value, and so does the leash.
        let _ = self.leash.signal("KILL");
        if self.first.signal("STOP").is_ok() {
            let _ = signal("KILL", &self.children());
        }
    }
}

/// Whether there is such a process, and it has not ended: nobody may wait for it.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
