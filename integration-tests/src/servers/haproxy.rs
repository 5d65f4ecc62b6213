//! HaProxy: a load balancer before several Redis servers, which leads to the one that calls itself a master.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
};

use broker_conformance::{free_port, wait::eventually};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::servers::{
    LIMIT,
    process::{Process, last_lines, on_path_from},
};

const PROGRAM: &str = "haproxy";

/// Whether this machine has the program.
///
/// # Errors
/// It has not: how to get it.
pub fn available() -> Result<(), String> {
    on_path_from(PROGRAM, PROGRAM)
}

/// An `haproxy` process with a directory of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct HaProxy {
    addr: SocketAddr,
    process: Process,
    dir: TempDir,
}

impl HaProxy {
    /// Starts it, and waits until it has found the one master: before that it leads to any server.
    ///
    /// # Errors
    /// The program is missing, did not start, or finds no master.
    pub async fn start(servers: &[SocketAddr]) -> Result<Self, String> {
        available()?;
        let dir = tempfile::Builder::new().prefix("haproxy-").tempdir();
        let dir = dir.map_err(|error| format!("no temporary directory: {error}"))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let proxy = Self { addr, process: Process::new(PROGRAM), dir };
        let config = proxy.dir.path().join("haproxy.cfg");
        fs::write(&config, proxy.config(servers)).map_err(|error| format!("haproxy.cfg: {error}"))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-db").arg("-f").arg(&config).stdin(Stdio::null());
        let log = proxy.dir.path().join("haproxy.log");
        proxy.process.start(&mut command, &log)?;
        let found = eventually("haproxy to find the master", LIMIT, || proxy.has_one_master()).await;
        found.map_err(|error| format!("{error}\n{}", last_lines(&log)))?;
        Ok(proxy)
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("stats.sock")
    }

    fn config(&self, servers: &[SocketAddr]) -> String {
        let mut text = format!(
            "global\n  stats socket {}\ndefaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n  \
             timeout check 1s\nlisten redis\n  bind {}\n  option tcp-check\n  tcp-check connect\n  \
             tcp-check send info\\ replication\\r\\n\n  tcp-check expect string role:master\n",
            self.socket().display(),
            self.addr
        );
        for (number, server) in servers.iter().enumerate() {
            text += &format!(
                "  server s{number} {server} check inter 100ms fall 2 rise 1 on-marked-down shutdown-sessions\n"
            );
        }
        text
    }

    async fn has_one_master(&self) -> Result<(), String> {
        let ask = async {
            let mut socket = UnixStream::connect(self.socket()).await?;
            socket.write_all(b"show stat\n").await?;
            let mut table = String::new();
            socket.read_to_string(&mut table).await?;
            Ok::<_, std::io::Error>(table)
        };
        let table = ask.await.map_err(|error| error.to_string())?;
        let servers = table.lines().filter(|line| line.starts_with("redis,s"));
        // Until a check has succeeded or failed, a server counts as up without one.
        let up = |line: &&str| line.contains(",UP,") && line.contains(",L7OK,");
        let down = |line: &&str| line.contains(",DOWN,");
        let (all, up, down) =
            (servers.clone().count(), servers.clone().filter(up).count(), servers.filter(down).count());
        if up == 1 && up + down == all { Ok(()) } else { Err(table) }
    }
}
