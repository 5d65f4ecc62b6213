//! URLs, which come from configuration files: none panics, and nothing that is shown depends on a secret.
#![no_main]

use broker_core::Backend;

#[path = "../secret_url.rs"]
mod secret_url;

const BACKENDS: &[Backend] = &[
    broker_memory::BACKEND,
    broker_nats::BACKEND,
    broker_postgres::BACKEND,
    broker_rabbitmq::BACKEND,
    broker_redis::BACKEND,
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = secret_url::shown(text, BACKENDS);
    }
    secret_url::check(bytes, BACKENDS);
});
