//! URLs, which come from configuration files: none panics, and nothing that is shown depends on a secret.
#![no_main]

use std::fmt::Write;

use broker_core::{Backend, BrokerUrl, Options};

const BACKENDS: &[Backend] =
    &[broker_memory::BACKEND, broker_nats::BACKEND, broker_rabbitmq::BACKEND, broker_redis::BACKEND];

libfuzzer_sys::fuzz_target!(|text: &str| {
    shown(text);
    let (scheme, rest) = text.split_once('\n').unwrap_or(("redis", text));
    if !scheme.chars().all(|c| c.is_ascii_lowercase() || c == '+') {
        return;
    }
    // The same with one password and with another: whoever reads what is shown cannot tell which it was.
    let with = |password: &str| shown(&format!("{scheme}://user:{password}@{rest}"));
    assert_eq!(with("s3cr3t-one"), with("an0ther-77"), "{text:?}");
    // A token of NATS; with another `@` it would be the beginning of a user's name, which may be shown.
    if !rest.contains('@') {
        let with = |token: &str| shown(&format!("nats://{token}@{rest}"));
        assert_eq!(with("s3cr3t-one"), with("an0ther-77"), "{text:?}");
    }
});

/// All that anybody is shown of a URL: by itself, in errors, in the driver made from it.
fn shown(raw: &str) -> String {
    let url = match BrokerUrl::parse(raw) {
        Ok(url) => url,
        Err(error) => return format!("{error} {error:?}"),
    };
    let mut shown = format!("{url} {url:?}");
    let mut add = |text: String| {
        let _ = write!(shown, " {text}");
    };
    if let Err(error) = Options::default().with_url(&url).and_then(|options| options.check()) {
        add(format!("{error} {error:?}"));
    }
    for backend in BACKENDS.iter().filter(|backend| backend.schemes.contains(&url.scheme())) {
        match (backend.open)(&url) {
            Ok(driver) => add(format!("{driver:?}")),
            Err(error) => add(format!("{error} {error:?}")),
        }
    }
    shown
}
