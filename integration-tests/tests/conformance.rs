//! The one test binary over all our backends.

use std::process::ExitCode;

use integration_tests::{harness::ENTRIES, servers};

fn main() -> ExitCode {
    let code = broker_conformance::main(ENTRIES);
    servers::end();
    code
}
