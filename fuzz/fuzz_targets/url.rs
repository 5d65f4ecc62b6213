//! URLs, which come from configuration files: none panics, and no password is ever shown.
#![no_main]

use std::fmt::Debug;

use broker_core::{Backend, BrokerUrl, Options};

const BACKENDS: &[Backend] =
    &[broker_memory::BACKEND, broker_nats::BACKEND, broker_rabbitmq::BACKEND, broker_redis::BACKEND];
const PASSWORD: &str = "s3cr3t-marker";

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Where it stands by itself it is no password.
    if text.contains(PASSWORD) {
        return;
    }
    open(text);
    // The same with secrets where secrets stand.
    let (scheme, rest) = text.split_once('\n').unwrap_or(("redis", text));
    if scheme.chars().all(|c| c.is_ascii_lowercase() || c == '+') {
        open(&format!("{scheme}://user:{PASSWORD}@{rest}"));
        // With another `@` it would be the beginning of a user's name, which may be shown.
        if !rest.contains('@') {
            open(&format!("nats://{PASSWORD}@{rest}"));
        }
    }
});

fn open(raw: &str) {
    let url = match BrokerUrl::parse(raw) {
        Ok(url) => url,
        Err(error) => return check(raw, &error, &error.to_string()),
    };
    check(raw, &url, &url.to_string());
    if let Err(error) = Options::default().with_url(&url).and_then(|options| options.check()) {
        check(raw, &error, &error.to_string());
    }
    for backend in BACKENDS.iter().filter(|backend| backend.schemes.contains(&url.scheme())) {
        match (backend.open)(&url) {
            Ok(driver) => check(raw, &driver, driver.name()),
            Err(error) => check(raw, &error, &error.to_string()),
        }
    }
}

fn check(raw: &str, value: &dyn Debug, shown: &str) {
    let debug = format!("{value:?}");
    assert!(!debug.contains(PASSWORD) && !shown.contains(PASSWORD), "{raw:?}: {shown} {debug}");
}
