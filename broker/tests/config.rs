//! A configuration file, good and bad, and what a URL may say.

use broker::{Config, ErrorKind, Options};

fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(Config::default().url, "memory:");
}

#[test]
fn the_example_file_shows_the_defaults() {
    let config = parse(include_str!("../examples/broker.toml")).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn an_unknown_key_is_named_with_the_valid_ones() {
    let error = parse("uri = \"memory:\"").unwrap_err();
    assert!(error.contains("uri") && error.contains("url"), "{error}");
    let error = parse("[options]\nqueue = 7").unwrap_err();
    assert!(error.contains("queue") && error.contains("queue_capacity"), "{error}");
}

#[test]
fn an_invalid_duration_is_refused_with_an_example() {
    let error = parse("[options]\nheartbeat = \"soon\"").unwrap_err();
    assert!(error.contains("soon") && error.contains("5s"), "{error}");
}

#[test]
fn debug_does_not_show_the_url() {
    let config = parse("url = \"redis://ada:hunter2@localhost\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_invalid_url_is_refused_with_the_remedy() {
    for (url, word) in [
        ("", "scheme://"),
        ("localhost", "as in redis://localhost"),
        ("localhost:6379", "did you mean redis://localhost:6379?"),
        ("127.0.0.1:4222", "did you mean nats://127.0.0.1:4222?"),
        ("redis:/localhost", "did you mean redis://localhost?"),
        ("redis//host", "must be followed by `://`"),
        ("mysql://localhost", "this build has: memory"),
        ("memory:?prefix=a@b", "%40"),
        ("memory:x", "memory://name"),
        ("memory:?lime=1", "lime"),
        ("memory:?heartbeat=soon", "heartbeat"),
        ("memory:?prefix=a.b", "prefix"),
        ("memory://name:80", "memory://name"),
        ("memory:/", "memory://name"),
        ("memory:?heartbeat=0s", "= `0s`"),
        ("valkey://localhost", "write redis://"),
        ("gopher://localhost", "gopher"),
    ] {
        let error = broker::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
        assert!(error.to_string().contains(word), "{url}: {error}");
    }
}

#[test]
fn outside_a_runtime_it_is_an_error() {
    let error = broker::open("memory:", Options::default()).unwrap_err();
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}
