//! What a URL holds, and that nothing shows its secrets.

use super::*;
use crate::Options;
use proptest::prelude::*;

#[test]
fn parts_are_decoded() {
    let url = BrokerUrl::parse("rediss://ad%61:p%40ss%2Fw%23@example.net:7000/2?ca=%2Fetc%2Fca.pem").unwrap();
    assert_eq!(url.scheme(), "rediss");
    assert_eq!(url.username(), Some("ada"));
    assert_eq!(url.password(), Some("p@ss/w#"));
    assert_eq!((url.host(), url.port(), url.path()), (Some("example.net"), Some(7000), "2"));
    assert_eq!(url.key("ca"), Some("/etc/ca.pem"));
}

#[test]
fn memory_needs_no_host() {
    let url = BrokerUrl::parse("memory:").unwrap();
    assert_eq!((url.scheme(), url.host(), url.path()), ("memory", None, ""));
    assert_eq!(BrokerUrl::parse("memory://shared").unwrap().host(), Some("shared"));
}

#[test]
fn several_hosts_share_everything_else() {
    let raw = "nats://ada:s3cret,p%40ss@a,[::1]:4223,10.0.0.1:4224/path,x?prefix=a,b";
    let url = BrokerUrl::parse(raw).unwrap();
    let hosts: Vec<_> = url.hosts().collect();
    assert_eq!(hosts, [("a", None), ("[::1]", Some(4223)), ("10.0.0.1", Some(4224))]);
    assert_eq!((url.host(), url.port()), (Some("a"), None));
    assert_eq!((url.username(), url.password()), (Some("ada"), Some("s3cret,p@ss")));
    assert_eq!((url.path(), url.key("prefix")), ("path,x", Some("a,b")));
    assert_eq!(url.to_string(), "nats://a,[::1]:4223,10.0.0.1:4224/path,x");
    assert_eq!(BrokerUrl::parse("memory:").unwrap().hosts().len(), 0);
}

#[test]
fn several_hosts_must_be_hosts_and_be_allowed() {
    for raw in ["nats://a,", "nats://,b", "nats://a,,b", "nats://a,b:x", "nats://a,b c", "nats://a,b:99999"] {
        assert!(BrokerUrl::parse(raw).is_err(), "{raw}");
    }
    let url = BrokerUrl::parse("redis://:hunter2@a,b/").unwrap();
    let error = url.allow_keys(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("`redis://a,b`"), "{error}");
    assert!(url.allow_keys_and_hosts(&[]).is_ok());
}

#[test]
fn an_unknown_key_is_named_with_the_valid_ones() {
    let url = BrokerUrl::parse("redis://localhost/?tmeout=5s").unwrap();
    let error = url.allow_keys(&["ca"]).unwrap_err().to_string();
    assert!(error.contains("`tmeout`") && error.contains("ca, prefix"), "{error}");
}

#[test]
fn neither_errors_nor_debug_show_a_secret() {
    for raw in [
        "redis://ada:hunter2@localhost:99999/",
        "redis://ada:hunter2@/",
        "redis:ada:hunter2@localhost",
        "redis://:hunter2?x@localhost:x",
        "redis://a:hunter2/@local host/?token=hunter2",
        "redis://localhost/?a=1&a=2&token=hunter2",
        "redis://localhost:bad/?token=hunter2@x&b=hunter2",
        "redis://:hunter2@localhost/?token=hunter2&a=x&token=y",
        "nats://ada:hunter2@a,b:99999",
        "nats://ada:hunter2@a,,b?token=hunter2",
        "nats://ada:hunter2,x@a,b",
        "nats://ada:hunter2@a,bob:hunter2@b",
    ] {
        match BrokerUrl::parse(raw) {
            Ok(url) => assert!(!format!("{url} {url:?}").contains("hunter2"), "{raw}"),
            Err(error) => assert!(!format!("{error} {error:?}").contains("hunter2"), "{raw}: {error}"),
        }
    }
}

/// Every byte of it, as a URL may write it.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn hosts() -> impl Strategy<Value = Vec<(String, Option<u16>)>> {
    let host =
        prop_oneof!["[a-z][a-z0-9-]{0,10}[a-z]", Just("[::1]".to_owned()), Just("10.0.0.1".to_owned())];
    prop::collection::vec((host, any::<Option<u16>>()), 1..4)
}

proptest! {
    #[test]
    fn every_part_is_read_unchanged_and_no_secret_is_shown(
        scheme in "(redis|rediss|nats|amqp|memory)",
        user in "\\PC{1,12}",
        password in ".{0,20}",
        hosts in hosts(),
        path in "[a-z0-9_-]{0,8}",
        value in ".{0,20}",
    ) {
        let places: Vec<_> = hosts.iter().map(|(host, port)| match port {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        }).collect();
        let (user, password) = (format!("user-{user}"), format!("secret-{password}"));
        let (name, word, kept) = (percent(&user), percent(&password), percent(&value));
        let raw = format!("{scheme}://{name}:{word}@{}/{path}?key={kept}&token={word}", places.join(","));
        let url = BrokerUrl::parse(&raw).unwrap();
        prop_assert_eq!(url.scheme(), scheme);
        prop_assert_eq!((url.username(), url.password()), (Some(&*user), Some(&*password)));
        prop_assert_eq!(url.hosts().map(|(host, port)| (host.to_owned(), port)).collect::<Vec<_>>(), hosts);
        prop_assert_eq!((url.path(), url.key("key")), (&*path, Some(&*value)));

        let shown = format!("{url} {url:?} {}", url.allow_keys(&["token"]).unwrap_err());
        prop_assert!(!shown.contains("secret-") && !shown.contains("user-"), "{}", shown);
        let again = BrokerUrl::parse(&url.to_string()).unwrap();
        prop_assert_eq!(again.to_string(), url.to_string());
        prop_assert_eq!((again.hosts, again.path), (url.hosts, url.path));
    }

    #[test]
    fn any_text_parses_or_is_refused(raw in ".{0,80}") {
        let _ = BrokerUrl::parse(&raw);
    }
}

/// Everything a person is shown who gives this text as a URL.
fn shown(raw: &str) -> String {
    match BrokerUrl::parse(raw) {
        Ok(url) => {
            let keys = url.allow_keys_and_hosts(&["ca"]).err();
            let options = Options::default().with_url(&url).err();
            format!("{url} {url:?} {url:#?} {keys:?} {options:?}")
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            format!("{error} {error:?} {error:#?}")
        }
    }
}

/// Passwords as hosting services make them, in every place where one may stand.
#[test]
fn a_url_is_read_unchanged_or_refused() {
    for word in [
        "abc+def==",
        "s3kr%t",
        "s3kr@t",
        "p@s@s",
        "a:b",
        "a,b",
        "a b",
        "a&b=c",
        "a\\b",
        "[a]",
        "ä€",
        "%2fa%40%3a",
    ] {
        let decoded = if word.starts_with("%2f") { "/a@:" } else { word };
        for raw in
            [format!("redis://ada:{word}@host:7/2?prefix=x"), format!("redis://:{word}@host:7/2?prefix=x")]
        {
            let url = BrokerUrl::parse(&raw).unwrap();
            assert_eq!(url.password(), Some(decoded), "{raw}");
            assert_eq!((url.host(), url.port(), url.path()), (Some("host"), Some(7), "2"), "{raw}");
        }
    }
    for word in [
        "s3kr/t0k",
        "s3kr#t0k",
        "s3kr?t0k",
        "123/s3kr",
        "123?s3kr",
        "123#s3kr",
        "/s3kr",
        "?s3kr",
        "s3kr/",
        "12/3",
        "s3kr/p@t0k",
        "s3kr@1/t0k",
        "x=s3kr?a=b&t0k",
        "//s3kr",
        "s3kr://t0k",
    ] {
        for raw in [
            format!("redis://ada:{word}@host:7/2"),
            format!("redis://:{word}@host"),
            format!("nats://{word}@host:4222"),
            format!("nats://{word}@a,b"),
            format!("nats://a,ada:{word}@b"),
            format!("amqp://ada:{word}@host/vhost?prefix=x"),
            format!("redis+unix://:{word}@/run/redis.sock"),
        ] {
            let error = BrokerUrl::parse(&raw).expect_err(&raw);
            for hint in ["the part before the last `@`", "%2F", "%3F", "%23", "%40"] {
                assert!(error.message().contains(hint), "{raw}: {error}");
            }
            let shown = shown(&raw);
            let pieces = word.split(['/', '?', '#', '@', '&', '=', ':']).filter(|piece| piece.len() > 1);
            for piece in pieces.chain([word]).filter(|piece| piece.len() > 1 && *piece != "//") {
                assert!(!shown.contains(piece), "{raw} shows {piece}: {shown}");
            }
        }
    }
}

/// Whether it belongs to a password nobody can tell, and how to write it is said.
#[test]
fn an_at_sign_in_path_or_query_is_written_percent_encoded() {
    for raw in
        ["redis://h/x?ca=/a@b", "redis://u:p@h/?ca=/a@b", "redis+unix:///run/a@b", "memory:?prefix=a@b"]
    {
        let error = BrokerUrl::parse(raw).unwrap_err();
        assert!(error.message().contains("in the path or the query write `@` as %40"), "{error}");
        let url = BrokerUrl::parse(&raw.replace("a@b", "a%40b")).unwrap();
        assert!(url.path() == "run/a@b" || url.query().any(|(_, value)| value.ends_with("a@b")), "{url}");
    }
    assert_eq!(BrokerUrl::parse("amqp://h/a%40b%20%3f%0a").unwrap().to_string(), "amqp://h/a%40b%20%3F%0A");
}

#[test]
fn a_list_of_hosts_has_one_scheme_and_one_user() {
    for raw in [
        "nats://ada:s3cret@a,bob:s3cret@b",
        "nats://ada:s3cret@a:4222,nats://ada:s3cret@b:4222",
        "nats://s3cret@a,s3cret@b",
        "nats://a:4222,nats://b:4222",
    ] {
        let error = BrokerUrl::parse(raw).expect_err(raw);
        assert!(error.message().contains("one scheme, one user and one password"), "{error}");
        assert!(!shown(raw).contains("s3cret"), "{error}");
    }
}

#[test]
fn errors_quote_the_input_and_suggest_the_correction() {
    for (raw, parts) in [
        ("", &["the url is empty", "scheme://"][..]),
        ("  ", &["the url is empty"]),
        ("localhost", &["`localhost` has no scheme", "redis://localhost"]),
        ("localhost:6379", &["`localhost:6379` has no scheme; did you mean redis://localhost:6379?"]),
        ("127.0.0.1:6379", &["`127.0.0.1:6379` has no scheme; did you mean redis://127.0.0.1:6379?"]),
        ("redis:6379/", &["`redis:6379` has no scheme; did you mean redis://redis:6379?"]),
        ("[::1]:4222", &["did you mean nats://[::1]:4222?"]),
        ("rabbit.example.net:5672", &["did you mean amqp://rabbit.example.net:5672?"]),
        ("127.0.0.1:7000", &["`127.0.0.1:7000` has no scheme; put one before it"]),
        ("redis:/host", &["`redis…`", "the scheme `redis` must be followed by `://`"]),
        ("redis:/host:7", &["must be followed by `://`", "did you mean redis://host:7?"]),
        ("redis:localhost", &["must be followed by `://`", "did you mean redis://localhost?"]),
        (
            "redis//localhost",
            &["the scheme `redis` must be followed by `://`", "did you mean redis://localhost?"],
        ),
        ("memory:x", &["url `memory…`: write it as memory: or memory://name"]),
        ("memory:/", &["url `memory…`: write it as memory: or memory://name"]),
        ("redis://ada:s3cret@local host:6379", &["`redis://***@***`", "host"]),
        ("redis://ada:s3cret@localhost:99999", &["`redis://***@***`", "port"]),
        ("nats://ada:s3cret@a,b:x", &["`nats://***@a,***`", "one of its hosts", "port"]),
        ("redis://h:7?a=1&a=2", &["`redis://h:7`", "key `a` is given twice"]),
        ("redis://h:7/%ff", &["`redis://h:7`", "UTF-8"]),
        ("redis://::1", &["brackets"]),
        ("redis://:s3\ncret@h", &["control character"]),
    ] {
        let error = BrokerUrl::parse(raw).expect_err(raw);
        for part in parts {
            assert!(error.message().contains(part), "{raw:?} has not {part:?}: {error}");
        }
        assert!(!error.message().contains("s3cret"), "{error}");
    }
    // The end of a line of a file is no part of a URL.
    assert_eq!(BrokerUrl::parse("redis://:p@h\n").unwrap().password(), Some("p"));
}

/// With the host, the scheme or the key forgotten.
#[test]
fn a_possibly_misplaced_secret_is_not_shown() {
    for raw in [
        "s3cret",
        "ada:s3cret",
        "ada:s3cret@host",
        "ada:123/s3cret",
        "s3cret@host:6379",
        ":s3cret@host",
        "redis:ada:s3cret@localhost",
        "redis:s3cret",
        "redis/s3cret",
        "redis://:s3cret",
        "redis://ada:s3cret",
        "redis://ada:s3cret/0",
        "redis://ada:x,s3cret",
        "redis://ada:x#s3cret",
        "redis://ada:1#s3cret",
        "redis://host?s3cret",
        "redis://host?s3cret==",
        "redis://host?S3CRET=s3cret",
        "redis://host?s3cret&s3cret",
        "redis://host?=s3cret&=s3cret",
        "redis://host?token=s3cret",
    ] {
        let shown = shown(raw);
        assert!(!shown.to_lowercase().contains("s3cret"), "{raw}: {shown}");
    }
}
