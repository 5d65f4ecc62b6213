//! How an error reads, and what its causes and its public text leave out.

use super::*;

#[test]
fn one_line_says_what_where_and_why() {
    let error = Error::new(ErrorKind::Unavailable, "connection refused at 127.0.0.1:1")
        .with_operation("publish")
        .with_backend("redis")
        .with_channel(ChannelName::new("news").unwrap());
    assert_eq!(
        error.to_string(),
        "publish on redis (channel `news`): unavailable: connection refused at 127.0.0.1:1"
    );
    assert!(error.is_transient());
}

#[test]
fn the_deepest_layer_names_the_operation() {
    let error = Error::new(ErrorKind::Timeout, "late").with_operation("subscribe").with_operation("connect");
    assert_eq!(error.operation(), Some("subscribe"));
}

#[test]
fn every_form_is_a_sentence() {
    let bare = || Error::new(ErrorKind::InvalidInput, "no good");
    let news = || ChannelName::new("news").unwrap();
    for (error, text) in [
        (bare(), "invalid input: no good"),
        (bare().with_operation("publish"), "publish: invalid input: no good"),
        (bare().with_backend("redis"), "redis: invalid input: no good"),
        (bare().with_backend("redis").with_operation("publish"), "publish on redis: invalid input: no good"),
        (bare().with_channel(news()), "channel `news`: invalid input: no good"),
        (
            bare().with_operation("publish").with_channel(news()),
            "publish (channel `news`): invalid input: no good",
        ),
        (bare().with_backend("redis").with_channel(news()), "redis (channel `news`): invalid input: no good"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

/// A cause as clients of servers have them: some say what their own cause says, some something else.
#[derive(Debug)]
struct Cause(&'static str, Option<Box<Cause>>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

/// What a reporter prints that prints every cause.
fn report(error: &Error) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        lines.push(error.to_string());
        cause = error.source();
    }
    lines
}

#[test]
fn the_causes_say_only_what_the_message_does_not() {
    let refused = |detail: &'static str| Cause("refused", Some(Box::new(Cause(detail, None))));
    let away =
        |detail| Error::new(ErrorKind::Unavailable, "no way to h:1: refused").with_source(refused(detail));
    assert_eq!(report(&away("refused")), ["unavailable: no way to h:1: refused"]);
    assert_eq!(report(&away("errno 7")), ["unavailable: no way to h:1: refused", "errno 7"]);
    // An error of ours that repeats another, which keeps its own cause.
    let message = format!("the backend is unavailable: {}", away("errno 7").message());
    let outer = Error::new(ErrorKind::Interrupted, message).with_source(away("errno 7"));
    let lines = ["interrupted: the backend is unavailable: no way to h:1: refused", "errno 7"];
    assert_eq!(report(&outer), lines);
    assert_eq!(format!("{outer:?}"), lines.join("\ncaused by: "));
    // What adds something stays.
    let other = Error::new(ErrorKind::Other, "stopped").with_source(away("errno 7"));
    assert_eq!(report(&other), ["failed: stopped", "unavailable: no way to h:1: refused", "errno 7"]);
}

#[test]
fn a_public_message_names_nothing_of_the_backend() {
    use ErrorKind::*;
    for kind in [
        InvalidInput,
        TooLarge,
        Codec,
        NoBackend,
        Unsupported,
        Unavailable,
        Interrupted,
        Timeout,
        Overloaded,
        Forbidden,
        Misconfigured,
        Protocol,
        Revoked,
        Closed,
        Other,
    ] {
        let bare = Error::new(kind, "").public_message();
        let error = Error::new(kind, "10.0.0.7:6379 refused the user \"ada\" (NOPERM)")
            .with_backend("redis")
            .with_operation("publish")
            .with_channel(ChannelName::new("shop.news").unwrap())
            .with_source(Cause("10.0.0.7", None));
        assert_eq!(error.public_message(), bare);
        assert!(!["redis", "shop", "10.0", "ada", "NOPERM"].iter().any(|part| bare.contains(part)), "{bare}");
    }
}
