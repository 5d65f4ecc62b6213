//! Running other programs: each command is printed first, and a failure of it is a failure here.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use clap::Args;

/// Options of another program, passed on as they are.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Passed {
    /// `--help` says which.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    pub(crate) arguments: Vec<String>,
}

impl Passed {
    pub(crate) fn ask_for_help(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--help" || argument == "-h")
    }
}

/// `cargo` with these arguments, at the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    // Cargo tells its children which cargo runs, so that a chosen toolchain stays chosen.
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // Nor is it this package that is built: build scripts would see a change, and build again.
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command
}

/// `cargo` with these arguments for `examples/custom-backend`, which is a workspace of its own.
pub(crate) fn cargo_of_custom_backend(args: &[&str]) -> Command {
    let mut command = cargo(args);
    command.current_dir(root().join("examples/custom-backend"));
    command.env("CARGO_TARGET_DIR", root().join("target/custom-backend"));
    command
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Runs a command; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let line = announce(command);
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{line}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("failed: {line} ({status})")) }
}

/// Runs a command, hands each line that it prints to `each`, and says whether it succeeded. Lines of its two outputs
/// come as they are printed.
pub(crate) fn run_by_line(command: &mut Command, each: impl Fn(Pipe, &str) + Sync) -> Result<(), String> {
    let line = announce(command);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("{line}: {error}"))?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let each = &each;
        if let Some(output) = output {
            scope.spawn(move || lines(output, |line| each(Pipe::Output, line)));
        }
        if let Some(errors) = errors {
            scope.spawn(move || lines(errors, |line| each(Pipe::Errors, line)));
        }
    });
    let status = child.wait().map_err(|error| format!("{line}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("failed: {line} ({status})")) }
}

/// Which output of a program a line comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pipe {
    Output,
    Errors,
}

impl Pipe {
    /// Prints the line to the same output of this program.
    pub(crate) fn print(self, line: &str) {
        match self {
            Self::Output => println!("{line}"),
            Self::Errors => eprintln!("{line}"),
        }
    }
}

fn lines(from: impl Read, mut each: impl FnMut(&str)) {
    for bytes in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        each(&String::from_utf8_lossy(&bytes));
    }
}

/// Whether a command succeeds, in silence. A missing program is a no.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Prints the command as one would type it, and returns that line.
fn announce(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables =
        variables.map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| match arg.to_string_lossy() {
        plain if plain.is_empty() || plain.contains(' ') => format!("'{plain}'"),
        plain => plain.into_owned(),
    });
    let words: Vec<String> = variables.chain([program]).chain(args).collect();
    let line = words.join(" ");
    println!("$ {line}");
    // What the child prints comes after this line, also into a file.
    let _ = io::stdout().flush();
    line
}
