//! Pooler: a `pgbouncer` before a server, which gives a connection of the server to a client for one transaction only.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use broker_conformance::{free_port, wait::eventually};
use tempfile::TempDir;

use super::{
    account::Account,
    config::{APP, CONTROL},
    control::PostgresControl,
    template::new_dir,
};
use crate::servers::{
    LIMIT,
    process::{Process, last_lines, on_path_from},
};

const PROGRAM: &str = "pgbouncer";

/// Whether this machine has the program.
///
/// # Errors
/// It has not: how to get it.
pub(crate) fn available() -> Result<(), String> {
    on_path_from(PROGRAM, PROGRAM)
}

/// See the module. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Pooler {
    process: Process,
    addr: SocketAddr,
    dir: TempDir,
}

impl Pooler {
    /// Starts one before the server at an address, and waits until that answers through it.
    pub(crate) async fn before(server: SocketAddr) -> Result<Self, String> {
        available()?;
        let account = Account::find()?;
        let port = free_port()?;
        let pooler = Self {
            process: Process::new(PROGRAM),
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            dir: new_dir(account)?,
        };
        let file = |name: &str| pooler.dir.path().join(name);
        let write = |name: &str, text: String| {
            fs::write(file(name), text).map_err(|error| format!("{name}: {error}"))?;
            account.own(&file(name))
        };
        write("users", format!("\"{APP}\" \"\"\n\"{CONTROL}\" \"\"\n"))?;
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n",
            server.ip(),
            server.port(),
            file("users").display()
        );
        write("settings", settings)?;
        let mut command = account.command(PROGRAM.as_ref());
        command.arg(file("settings")).stdin(Stdio::null());
        pooler.process.start(&mut command, &file("log"))?;
        let control = PostgresControl::at(pooler.addr);
        let answer = eventually("the pooler to answer", LIMIT, || async {
            match pooler.process.ended()? {
                Some(status) => Ok(Err(format!("it ended with {status}"))),
                None => control.ask(APP, "SELECT 1").await.map(Ok),
            }
        });
        match answer.await {
            Ok(Ok(_)) => Ok(pooler),
            Ok(Err(reason)) | Err(reason) => {
                Err(format!("{PROGRAM}: {reason}\n{}", last_lines(&file("log"))))
            }
        }
    }

    /// Where clients reach it.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}
