//! Template: the data of a new server with its users, made once for a run. Each server begins with a copy.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use tempfile::TempDir;
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{
    account::Account,
    config::{CONTROL, USERS},
};
use crate::servers::files::remove;

static TEMPLATE: Mutex<Option<Arc<Template>>> = Mutex::const_new(None);

#[derive(Debug)]
struct Template(TempDir);

/// Puts new data in the place of others.
pub(crate) async fn copy_to(place: PathBuf, programs: PathBuf, account: Account) -> Result<(), String> {
    let mut template = TEMPLATE.lock().await;
    let found = match &*template {
        Some(template) => Arc::clone(template),
        None => {
            let made = spawn_blocking(move || Template::make(&programs, account)).await;
            let made = made.map_err(|error| error.to_string())??;
            Arc::clone(template.insert(Arc::new(made)))
        }
    };
    drop(template);
    replace(place, found.data()).await
}

/// Removes the template, once no case runs any more.
pub(crate) fn end() {
    drop(TEMPLATE.try_lock().ok().and_then(|mut template| template.take()));
}

/// Puts a copy of one directory of data in the place of another. Owner and permissions are part of it: the server looks
/// at them.
pub(crate) async fn replace(old: PathBuf, new: PathBuf) -> Result<(), String> {
    let copied = spawn_blocking(move || {
        remove(&old)?;
        finish(Command::new("cp").arg("-a").arg(new).arg(old))
    });
    copied.await.map_err(|error| error.to_string())?
}

impl Template {
    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn make(programs: &Path, account: Account) -> Result<Self, String> {
        let template = Self(new_dir(account)?);
        let mut init = account.command(&programs.join("initdb"));
        init.args(["--no-sync", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "-U", CONTROL, "-D"]);
        finish(init.arg(template.data()))?;
        for statement in USERS {
            // Without a server: a process that runs one statement and ends.
            let mut single = account.command(&programs.join("postgres"));
            single.args(["--single", "-F", "-D"]).arg(template.data()).args(["-c", "exit_on_error=on"]);
            let mut echo = Command::new("echo").arg(statement).stdout(Stdio::piped()).spawn();
            let said = echo.as_mut().ok().and_then(|echo| echo.stdout.take());
            let said = said.ok_or_else(|| "no `echo`".to_owned())?;
            let outcome = finish(single.arg("postgres").stdin(said));
            let _ended = echo.map(|mut echo| echo.wait());
            outcome?;
        }
        Ok(template)
    }
}

/// A directory of that user's.
pub(crate) fn new_dir(account: Account) -> Result<TempDir, String> {
    let dir = tempfile::Builder::new().prefix("postgres-").tempdir();
    let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
    account.own(dir.path())?;
    Ok(dir)
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program}: {}: {}", output.status, said.trim_end()))
}
