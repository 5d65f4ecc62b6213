//! What a plain program publishes, in each of the forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_core::fuzzing::raw(bytes));
