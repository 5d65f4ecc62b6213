//! The one test binary over all our backends, and over their clusters where they are named.

use std::process::ExitCode;

use integration_tests::{
    harness::{ENTRIES, clusters::CLUSTERS},
    servers,
};

fn main() -> ExitCode {
    let code = broker_conformance::main(&[ENTRIES, CLUSTERS].concat());
    servers::end();
    code
}
