//! What a server hands over as a frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_core::fuzzing::frame(bytes));
