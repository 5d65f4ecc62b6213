//! The conformance suite on this backend: one server program for each case.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    free_port,
    harness::{Harness, is_core_own},
    line::{Line, ProxyLines},
    wait::{eventually, within},
    watch::Watch,
};
use broker_core::{
    Backend,
    driver::{Capabilities, Confirmation, OrderGuarantee, PermissionScope, Reach},
};
use custom_backend::BACKEND;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PROMISED: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

const ENTRY: Entry = Entry::new(BACKEND, PROMISED, |needs| {
    Box::pin(async {
        Ok(Box::new(Cluster::start(needs.contains(&Need::Durable)).await?) as Box<dyn Harness>)
    })
});

fn main() -> ExitCode {
    broker_conformance::main(&[ENTRY])
}

/// How long the program may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Cluster {
    durable: bool,
    port: u16,
    server: Mutex<Program>,
    lines: ProxyLines,
    watch: Watch,
    files: TempDir,
}

impl Cluster {
    async fn start(durable: bool) -> Result<Self, String> {
        let files = TempDir::new().map_err(text)?;
        let port = free_port()?;
        let server = Mutex::new(Program::start(port, &files.path().join("data"))?);
        let cluster =
            Self { durable, port, server, lines: ProxyLines::default(), watch: Watch::new(), files };
        cluster.await_server().await?;
        Ok(cluster)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn data(&self) -> PathBuf {
        self.files.path().join("data")
    }

    fn saved(&self) -> PathBuf {
        self.files.path().join("saved")
    }

    fn server(&self) -> MutexGuard<'_, Program> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn await_server(&self) -> Result<(), String> {
        let answer = async || self.operator("CLIENTS", &[]).await.map(|_| ());
        eventually("the server to answer", START_LIMIT, answer).await
    }

    /// A command of the operator, and its answer.
    async fn operator(&self, command: &str, bytes: &[u8]) -> Result<String, String> {
        let exchange = async {
            let mut socket = TcpStream::connect(self.address()).await?;
            socket.write_all(format!("OPERATOR\n{command}\n").as_bytes()).await?;
            socket.write_all(bytes).await?;
            socket.shutdown().await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = within("an answer to the operator", exchange).await?.map_err(text)?;
        match answer.strip_suffix('\n') {
            Some(answer) if !answer.starts_with("NO ") => Ok(answer.to_owned()),
            _ => Err(format!("`{command}`: {answer}")),
        }
    }

    async fn order(&self, command: &str) -> Result<(), String> {
        self.operator(command, &[]).await.map(|_| ())
    }
}

#[async_trait]
impl Harness for Cluster {
    fn backend(&self) -> Backend {
        BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        PROMISED
    }

    fn url(&self) -> String {
        format!("lines://{}", self.address())
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add(self.address(), |address| format!("lines://{address}")).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.server().kill();
        Ok(())
    }

    async fn start_server(&self) -> Result<(), String> {
        if !self.durable {
            fs::remove_dir_all(self.data()).map_err(text)?;
        }
        *self.server() = Program::start(self.port, &self.data())?;
        self.await_server().await
    }

    async fn pause_server(&self) -> Result<(), String> {
        self.server().signal("-STOP")
    }

    async fn resume_server(&self) -> Result<(), String> {
        self.server().signal("-CONT")
    }

    async fn drop_links(&self) -> Result<(), String> {
        self.order("CUT").await
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let names = self.operator("CHANNELS", &[]).await?;
        Ok(Some(names.split_whitespace().filter(|name| !is_core_own(name)).map(str::to_owned).collect()))
    }

    async fn connections(&self) -> Result<usize, String> {
        self.operator("CLIENTS", &[]).await?.parse().map_err(text)
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        if channel.contains(char::is_whitespace) {
            // The protocol has no such names.
            return Ok(());
        }
        self.operator(&format!("PUB {channel} {}", bytes.len()), bytes).await.map(|_| ())
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.order("WIPE").await
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.order("TRIM").await
    }

    async fn save_data(&self) -> Result<(), String> {
        copy(&self.data(), &self.saved()).map_err(text)
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.kill_server().await?;
        fs::remove_dir_all(self.data()).and_then(|()| copy(&self.saved(), &self.data())).map_err(text)?;
        self.start_server().await
    }

    async fn allow_only(&self, start: &str) -> Result<(), String> {
        self.order(&format!("ALLOW start {start}")).await
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        self.order("ALLOW nothing").await
    }

    async fn allow_everything(&self) -> Result<(), String> {
        self.order("ALLOW everything").await
    }
}

/// The server program. It ends with this, and with this process.
#[derive(Debug)]
struct Program(Child);

impl Program {
    fn start(port: u16, data: &Path) -> Result<Self, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_line-server"));
        let spawned = command.arg(port.to_string()).arg(data).stdin(Stdio::piped()).spawn();
        spawned.map(Self).map_err(text)
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status().map_err(text)?;
        if status.success() { Ok(()) } else { Err(format!("kill {signal}: {status}")) }
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
