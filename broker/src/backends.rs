//! The backends of this build: the one file of the workspace that asks for features.

use std::sync::Arc;

use broker_core::{Backend, BrokerUrl, Error, ErrorKind, Result, driver::Driver};

/// Compiled in.
pub(crate) const BACKENDS: &[Backend] = &[
    #[cfg(feature = "memory")]
    broker_memory::BACKEND,
    #[cfg(feature = "nats")]
    broker_nats::BACKEND,
    #[cfg(feature = "redis")]
    broker_redis::BACKEND,
    #[cfg(feature = "rabbitmq")]
    broker_rabbitmq::BACKEND,
    #[cfg(feature = "postgres")]
    broker_postgres::BACKEND,
];

/// Every scheme this project knows, with the feature that brings it.
const KNOWN: &[(&str, &str)] = &[
    ("memory", "memory"),
    ("nats", "nats"),
    ("tls", "nats"),
    ("redis", "redis"),
    ("rediss", "redis` and `tls"),
    ("redis+unix", "redis"),
    ("redis+sentinel", "redis"),
    ("rediss+sentinel", "redis` and `tls"),
    ("redis+cluster", "redis"),
    ("rediss+cluster", "redis` and `tls"),
    ("amqp", "rabbitmq"),
    ("amqps", "rabbitmq` and `tls"),
    ("postgres", "postgres"),
    ("postgresql", "postgres"),
];

/// Names of servers that are easily taken for a scheme, with the scheme to write instead.
const INSTEAD: &[(&str, &str)] = &[
    ("valkey", "redis"),
    ("valkeys", "rediss"),
    ("rabbitmq", "amqp"),
    ("pg", "postgres"),
    ("psql", "postgres"),
];

/// Makes the driver for a URL.
pub(crate) fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    install_crypto();
    let scheme = url.scheme();
    match BACKENDS.iter().find(|backend| backend.scheme(scheme).is_some()) {
        Some(backend) => (backend.open)(url).map_err(|error| error.with_backend(backend.name)),
        None => Err(missing(scheme)),
    }
}

fn missing(scheme: &str) -> Error {
    if let Some((_, feature)) = KNOWN.iter().find(|(known, _)| *known == scheme) {
        let message = format!(
            "url scheme `{scheme}`: this build lacks it; turn on the feature `{feature}` of the crate broker-rs"
        );
        return Error::new(ErrorKind::Unsupported, message);
    }
    if let Some((_, instead)) = INSTEAD.iter().find(|(name, _)| *name == scheme) {
        let message = format!("url scheme `{scheme}` is unknown; write {instead}:// instead");
        return Error::new(ErrorKind::InvalidInput, message);
    }
    let schemes: Vec<&str> =
        BACKENDS.iter().flat_map(|backend| backend.schemes).map(|scheme| scheme.name).collect();
    let schemes = schemes.join(", ");
    let message = format!("url scheme `{scheme}` is unknown; this build has: {schemes}");
    Error::new(ErrorKind::InvalidInput, message)
}

/// One crypto provider for every backend: without one rustls panics at the first connect, with two as well.
fn install_crypto() {
    #[cfg(any(feature = "nats", feature = "tls"))]
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> Error {
        open(&BrokerUrl::parse(url).expect("a url")).expect_err("no such backend")
    }

    #[test]
    fn the_name_of_a_server_is_corrected_to_its_scheme() {
        for (url, instead) in
            [("valkey://localhost", "write redis://"), ("valkeys://localhost", "write rediss://")]
        {
            let error = error(url);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(instead), "{error}");
        }
    }

    #[test]
    fn an_unknown_scheme_lists_the_compiled_ones() {
        let error = error("gopher://localhost");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("gopher"), "{error}");
        #[cfg(feature = "memory")]
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "redis"))]
    fn a_backend_that_is_off_names_its_feature() {
        let error = error("redis://localhost");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature `redis`"), "{error}");
    }
}
