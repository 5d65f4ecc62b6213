//! `cargo xtask lint`: what must be clean before a change lands.

use crate::run;

/// Each feature of the published crates alone, for a build of everything hides what one of them lacks.
const COMBINATIONS: &[(&str, &str)] = &[
    ("broker", ""),
    ("broker", "memory"),
    ("broker", "nats"),
    ("broker", "rabbitmq"),
    ("broker", "rabbitmq,tls"),
    ("broker", "redis"),
    ("broker", "redis,tls"),
    ("broker", "msgpack"),
    ("broker", "metrics"),
    ("broker", "full"),
    ("broker-core", ""),
    ("broker-core", "msgpack"),
    ("broker-core", "metrics"),
    ("broker-nats", ""),
    ("broker-rabbitmq", ""),
    ("broker-rabbitmq", "tls"),
    ("broker-redis", ""),
    ("broker-redis", "tls"),
];

pub(crate) fn run() -> Result<(), String> {
    run::run(&mut run::cargo(&["fmt", "--all", "--check"]))?;
    clippy(&["--workspace", "--all-features"])?;
    for (package, features) in COMBINATIONS {
        clippy(&["--package", package, "--no-default-features", "--features", features])?;
    }
    let mut doc = run::cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
    run::run(doc.env("RUSTDOCFLAGS", "-Dwarnings"))
}

fn clippy(selection: &[&str]) -> Result<(), String> {
    let mut command = run::cargo(&["clippy", "--all-targets"]);
    run::run(command.args(selection).args(["--", "-D", "warnings"]))
}
