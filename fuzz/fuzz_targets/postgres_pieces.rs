//! What PostgreSQL hands over as payloads of NOTIFY, by whomever.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| broker_postgres::fuzzing::pieces(bytes));
