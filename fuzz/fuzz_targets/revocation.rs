//! What a server hands over as a revocation, from the log or in a nudge.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_core::fuzzing::revocation(bytes));
