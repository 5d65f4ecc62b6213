//! What a URL may say, and how what does not fit is named.

use broker_core::ErrorKind;

use super::*;

fn parse(url: &str) -> Result<Address> {
    Address::parse(&BrokerUrl::parse(url).unwrap())
}

#[track_caller]
fn refused(url: &str, part: &str) {
    let error = parse(url).expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains(part), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn hosts_and_ports() {
    for (url, place) in [
        ("nats://example.net", "example.net:4222"),
        ("nats://127.0.0.1:7000/", "127.0.0.1:7000"),
        ("tls://a,[::1]:7000,10.0.0.1?prefix=shop", "one of a:4222, [::1]:7000, 10.0.0.1:4222"),
    ] {
        assert_eq!(parse(url).unwrap().peer.place(), place);
    }
    let servers = parse("nats://[::1]:7000,b").unwrap().servers;
    let parts: Vec<_> = servers.iter().map(|server| (server.host.as_str(), server.port)).collect();
    assert_eq!(parts, [("::1", 7000), ("b", 4222)]);
    let encrypts = |url: &str| {
        let address = parse(url).unwrap();
        let server = address.client_addr(&address.servers[0]).unwrap();
        (server.tls_required(), address.encryption)
    };
    assert_eq!(encrypts("nats://b"), (false, Encryption::None));
    assert_eq!(encrypts("tls://b?tls_first=false"), (true, Encryption::AfterGreeting));
    assert_eq!(encrypts("tls://b?tls_first=true"), (true, Encryption::First));
    refused("nats://b?tls_first=true", "only for tls://");
    refused("tls://b?tls_first=yes", "give true or false");
}

#[test]
fn one_way_to_sign_in() {
    for (url, who) in [
        ("nats://h", "a client without credentials"),
        ("nats://ada:s3cret@h", "the user \"ada\""),
        ("nats://s3cret@h", "the token"),
        ("nats://h?nkey=/seed", "the nkey in the file nkey=/seed"),
        ("nats://h?creds=/creds", "the credentials in the file creds=/creds"),
    ] {
        let address = parse(url).unwrap();
        assert_eq!(address.peer.who(), who, "{url}");
        assert!(!format!("{address:?}").contains("s3cret"), "{address:?}");
    }
    for url in ["nats://s3cret:@h", "nats://h?nkey=SUAs3cret", "nats://h?creds=s3cret"] {
        let address = parse(url).unwrap();
        assert!(!format!("{address:?} {}", address.peer.who()).contains("s3cret"), "{address:?}");
    }
    refused("nats://:s3cret@h", "a token stands alone");
    refused("nats://s3cret@h?nkey=/seed", "give one");
    refused("nats://ada:s3cret@h?creds=/creds", "give one");
    refused("nats://h?creds=/creds&nkey=/seed", "give one");
}

#[test]
fn keys_have_their_meaning() {
    let address = parse("tls://h?ca=/ca&cert=/cert&key=/key&inbox=_INBOX_shop").unwrap();
    assert_eq!(address.inbox, "_INBOX_shop");
}

#[test]
fn invalid_combinations_are_named() {
    refused("nats:", "nats://127.0.0.1:4222");
    refused("nats://h/path", "has a path");
    refused("nats://h?tls=true", "`tls`");
    refused("nats://h?ca=/ca", "only for tls://");
    refused("tls://h?key=/key", "give both");
    refused("nats://h?inbox=a.*", "wildcards");
}

#[test]
fn only_a_place_is_taken_from_an_announcement() {
    let address = parse("tls://ada:s3cret@h").unwrap();
    for (place, server) in
        [("10.0.0.1:4222", "10.0.0.1:4222"), ("[::1]:7", "[::1]:7"), ("n1.example:4222", "n1.example:4222")]
    {
        assert_eq!(address.announced(place).unwrap().to_string(), server);
    }
    let long = "a".repeat(300);
    for place in
        ["", ":", "a:b", "eve@h:1", "eve:pw@h:1", "h:1/x", "a:1,b:2", "h:99999", "h:1?ca=/x", "a b:1", &long]
    {
        assert!(address.announced(place).is_none(), "{place}");
    }
}

#[test]
fn only_who_can_prove_himself_is_signed_in_at() {
    let eve = ServerAddr::new("eve.example", 4222);
    for (url, there) in [
        ("nats://ada:s3cret@h", true), // whoever is on the way has read it already
        ("tls://ada:s3cret@h", false),
        ("tls://ada:s3cret@h,eve.example:1", true),
        ("tls://ada:s3cret@h?ca=/ca", true),
        ("tls://ada:s3cret@h?tls_first=true", true),
    ] {
        let address = parse(url).unwrap();
        assert_eq!(address.may_sign_in(&eve), there, "{url}");
        assert!(address.may_sign_in(&ServerAddr::new("h", 7)), "{url}");
    }
}
