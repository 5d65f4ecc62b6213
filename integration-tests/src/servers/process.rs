//! Process: a server program that a test starts, signals, kills and starts again.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use broker_conformance::wait::eventually;

use crate::servers::{Host, LIMIT, Needs};

/// Whether this machine has the program that the tests of a backend start.
///
/// # Errors
/// It has not: how to get it.
pub(crate) fn on_path(needs: &Needs) -> Result<(), String> {
    on_path_from(&needs.program, needs.apt.as_deref().unwrap_or(&needs.program))
}

/// Where the program is that the tests of a backend start: on the `PATH`, or where its package has it.
///
/// # Errors
/// This machine has not got it: how to get it.
pub(crate) fn find(needs: &Needs) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(needs.folders());
    let found = dirs.map(|dir| dir.join(&needs.program)).find(|program| program.is_file());
    match found {
        Some(program) => Ok(program),
        None => Err(on_path(needs).err().unwrap_or_default()),
    }
}

/// The same, for a program of a package.
pub(crate) fn on_path_from(program: &str, package: &str) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return Ok(());
    }
    Err(format!(
        "no `{program}` on the PATH: run `cargo xtask test`, which installs it, or install the package {package}"
    ))
}

/// A process that may run or not. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    program: String,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Not running yet.
    pub(crate) fn new(program: &str) -> Self {
        Self { program: program.to_owned(), child: Mutex::new(None) }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it; what it prints goes into `log`, which begins anew.
    pub(crate) fn start(&self, command: &mut Command, log: &Path) -> Result<(), String> {
        if self.ended()?.is_none() {
            return Err(format!("the {} is still running", self.program));
        }
        let file = fs::File::create(log);
        let both = file.and_then(|file| Ok((file.try_clone()?, file)));
        let (output, errors) = both.map_err(|error| format!("{}: {error}", log.display()))?;
        let child = command.stdout(output).stderr(errors).spawn();
        *self.child() = Some(child.map_err(|error| format!("{}: {error}", self.program))?);
        Ok(())
    }

    /// How the process ended, if it has.
    pub(crate) fn ended(&self) -> Result<Option<ExitStatus>, String> {
        let mut child = self.child();
        let Some(running) = child.as_mut() else { return Ok(Some(ExitStatus::default())) };
        let status = running.try_wait().map_err(|error| format!("{}: {error}", self.program))?;
        if status.is_some() {
            *child = None;
        }
        Ok(status)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) -> Result<(), String> {
        let pid = self.pid().ok_or_else(|| format!("the {} is not running", self.program))?;
        signal(name, &[pid])
    }

    /// Its number, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Writes a line to a [leashed](leashed) program.
    pub(crate) fn tell(&self, line: &str) -> Result<(), String> {
        let mut child = self.child();
        let leash = child.as_mut().and_then(|child| child.stdin.as_mut());
        let leash = leash.ok_or_else(|| format!("the {} does not listen", self.program))?;
        writeln!(leash, "{line}").map_err(|error| format!("{}: {error}", self.program))
    }

    /// Lets a [leashed](leashed) program end by itself, and waits for that.
    pub(crate) fn let_go(&self) {
        if let Some(mut child) = self.child().take() {
            // Closes its input first.
            let _ = child.wait();
        }
    }

    pub(crate) async fn wait_until_gone(&self) -> Result<(), String> {
        eventually(&format!("{} to end", self.program), LIMIT, || async {
            self.ended()?.map(drop).ok_or_else(|| "still running".to_owned())
        })
        .await
    }
}

#[async_trait]
impl Host for Process {
    /// Freezes it, and waits until none of its threads runs any more: the signal alone is only on its way.
    async fn pause(&self) -> Result<(), String> {
        self.signal("STOP")?;
        stand_still(self.pid().unwrap_or_default())
            .await
            .map_err(|error| format!("{}: {error}", self.program))
    }

    async fn stop(&self) -> Result<(), String> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.signal("TERM")?;
        // A paused process gets the signal only when it goes on; one that has ended already is fine.
        let _ = self.signal("CONT");
        self.wait_until_gone().await
    }

    async fn kill(&self) -> Result<(), String> {
        if let Some(child) = self.child().as_mut() {
            child.kill().map_err(|error| format!("{}: {error}", self.program))?;
        }
        self.wait_until_gone().await
    }

    async fn resume(&self) -> Result<(), String> {
        self.signal("CONT")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            // Either fails only for a process that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to processes. The shell's own `kill` needs no further program and no unsafe code.
pub(crate) fn signal(name: &str, pids: &[u32]) -> Result<(), String> {
    if pids.is_empty() {
        return Ok(());
    }
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let status = Command::new("sh").args(["-c", &format!("kill -s {name} {pids} 2>/dev/null")]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("kill -s {name} {pids}: {status}")),
        Err(error) => Err(format!("sh: {error}")),
    }
}

/// Waits until none of the threads of a process that was stopped runs any more: the signal alone is only on its way.
pub(crate) async fn stand_still(pid: u32) -> Result<(), String> {
    eventually("to stand still", LIMIT, || async {
        // Where there is no such directory nobody can tell.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(()) };
        let mut states =
            threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        // The name before the state is in parentheses, and may hold anything.
        let stopped =
            |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 'Z', 'X']));
        if states.all(stopped) { Ok(()) } else { Err("still running".to_owned()) }
    })
    .await
}

/// The last lines of a log, for an error.
pub(crate) fn last_lines(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}

/// A command whose program ends by itself when this process does, also when that is killed: it reads from a
/// pipe whose other end is here, and nothing ever comes.
pub(crate) fn leashed(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::piped());
    command
}
