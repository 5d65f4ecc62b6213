//! Which servers the conformance suite needs, and how to get those that are missing.

use std::{env, process::Command};

use crate::run::{run, succeeds};

/// A backend whose tests need a server.
pub(crate) struct Server {
    /// The backend's name, as in the names of its cases.
    pub(crate) backend: &'static str,
    /// The program that the tests start.
    program: &'static str,
    /// The package that has it.
    package: &'static str,
    /// Whether the suite can take it from a container image instead.
    pub(crate) has_image: bool,
}

/// Every backend with a server. `memory` needs none.
pub(crate) const SERVERS: &[Server] =
    &[Server { backend: "redis", program: "redis-server", package: "redis-server", has_image: true }];

/// Where the servers of a run come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The programs of this machine.
    Process,
    /// Containers.
    Docker,
    /// A server that the environment names.
    Existing,
}

/// Makes sure that these servers can be started, and says how.
pub(crate) fn provide(servers: &[&Server], docker: bool) -> Result<Source, String> {
    if docker {
        return if docker_answers() {
            Ok(Source::Docker)
        } else {
            Err("no Docker engine answers".to_owned())
        };
    }
    if env::var_os("BROKER_TEST_REDIS_URL").is_some() {
        return Ok(Source::Existing);
    }
    let missing: Vec<&Server> = servers.iter().copied().filter(|server| !on_path(server.program)).collect();
    if missing.is_empty() {
        return Ok(Source::Process);
    }
    let packages: Vec<&str> = missing.iter().map(|server| server.package).collect();
    if on_path("apt-get") && is_root() {
        install(&packages)?;
        return match missing.iter().find(|server| !on_path(server.program)) {
            None => Ok(Source::Process),
            Some(server) => Err(format!("the package {} has no `{}`", server.package, server.program)),
        };
    }
    if missing.iter().all(|server| server.has_image) && docker_answers() {
        println!(
            "xtask: not installed: {}; a Docker engine answers, so containers serve",
            packages.join(", ")
        );
        return Ok(Source::Docker);
    }
    let packages = packages.join(" ");
    Err(format!(
        "the tests need the programs of these packages: {packages}\n\
         as root: apt-get update && apt-get install -y --no-install-recommends {packages}\n\
         or start a Docker engine; or run without servers: cargo xtask test --backend memory"
    ))
}

/// Installs packages. Only the programs are wanted: a service that a package starts is not ours and not used.
fn install(packages: &[&str]) -> Result<(), String> {
    println!("xtask: installing {}", packages.join(", "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt(&["update", "--quiet"]).args(["-o", "Acquire::Retries=3"]))?;
    run(apt(&["install", "--quiet", "-y", "--no-install-recommends"]).args(packages))
}

fn on_path(program: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn docker_answers() -> bool {
    succeeds("docker", &["info"])
}
