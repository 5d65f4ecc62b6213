//! A URL with a secret in it, made of any bytes, and all that anybody is shown of it.
//!
//! Used by the fuzz target `url`, and by a test of the facade that needs no fuzzer. The oracle: with another
//! secret of the same form, every text is the same.

use std::{error::Error as StdError, fmt::Write};

use broker::{Config, Error, Options};
use broker_core::{Backend, BrokerUrl};

/// What may stand between the letters and digits of a secret, as hosting services make them.
const BETWEEN: &[u8; 16] = b"/?#@:,%+&=.[]\\ -";
/// No digit of a percent-encoded byte is among them, nor a letter of a key that errors may name.
const LETTERS: &[u8; 20] = b"GHIJKLMNOPQRSTUVWXYZ";
/// Each stays on its side of 8, so that a percent-encoded byte stays ASCII or does not become it.
const DIGITS: [&[u8; 10]; 2] = [b"0123456789", b"0214365798"];

/// One byte of the input as a character of the secret: of the one, or of the other.
fn character(byte: u8, other: bool) -> char {
    match byte % 50 {
        n @ 0..20 => LETTERS[(usize::from(n) + usize::from(other) * 7) % 20].into(),
        n @ 20..30 => DIGITS[usize::from(other)][usize::from(n) - 20].into(),
        n @ 30..46 => BETWEEN[usize::from(n) - 30].into(),
        _ if other => 'ü',
        _ => 'é',
    }
}

/// A URL in one of the forms that people write. `tail` is what follows the secret's place, and is no secret.
fn url(form: u8, scheme: &str, secret: &str, tail: &str) -> String {
    // In some places a part of the secret would be something else, for every reader of URLs: a user's name before a
    // colon, a host behind an `@`, a file's path, a key in small letters.
    let without = |parts: &[char]| secret.replace(parts, "");
    let (place, colons) = (tail.replace('@', ""), &[':']);
    match form % 16 {
        0..3 => format!("{scheme}://ada:{secret}@{tail}"),
        3 | 4 => format!("{scheme}://:{secret}@{tail}"),
        5 | 6 => format!("{scheme}://{}@{place}", without(colons)),
        7 => format!("{scheme}://{}:@{place}", without(colons)),
        8 => format!("{scheme}://a,bob:{secret}@{tail}"),
        9 => format!("{scheme}://bob:x@a,bob:{secret}@{tail}"),
        10 => format!("{scheme}://host?token={}&{tail}", without(&['%'])),
        11 => format!("{scheme}://host?{}&{tail}", without(&['%'])),
        12 => {
            let key = ["nkey", "creds", "ca", "key"][usize::from(form / 16) % 4];
            format!("{scheme}://host?{key}={}", without(&['/', '.', '%', '&', '@', '#']))
        }
        13 => format!("{scheme}://ada:G{}", without(&['@'])),
        14 => format!("ada:{secret}@{tail}"),
        _ => format!("G{}", without(colons)),
    }
}

/// # Panics
/// Something that is shown depends on the secret.
pub(crate) fn check(bytes: &[u8], backends: &[Backend]) {
    let [form, scheme, rest @ ..] = bytes else { return };
    let schemes: Vec<&str> =
        backends.iter().flat_map(|backend| backend.schemes).map(|scheme| scheme.name).collect();
    let scheme = schemes[usize::from(*scheme) % schemes.len()];
    let (secret, tail) = rest.split_at(rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len()));
    let tail = String::from_utf8_lossy(tail.get(1..).unwrap_or_default());
    let with = |other| {
        let secret: String = secret.iter().map(|byte| character(*byte, other)).collect();
        url(*form, scheme, &secret, &tail)
    };
    let (one, other) = (with(false), with(true));
    let (texts, others) = (shown(&one, backends), shown(&other, backends));
    let differing = texts.lines().zip(others.lines()).find(|(text, other)| text != other);
    assert!(texts == others, "of {one:?} and {other:?}: {differing:?}");
}

/// All that anybody is shown of a URL: by itself, in a configuration, in errors, in the drivers made from it.
pub(crate) fn shown(raw: &str, backends: &[Backend]) -> String {
    let mut config = Config::default();
    raw.clone_into(&mut config.url);
    let mut shown = format!("{config:?}\n{config:#?}\n");
    match BrokerUrl::parse(raw) {
        Err(error) => add(&mut shown, &error),
        Ok(url) => {
            let _ = write!(shown, "{url}\n{url:?}\n{url:#?}\n");
            if let Err(error) = Options::default().with_url(&url).and_then(|options| options.check()) {
                add(&mut shown, &error);
            }
            for backend in backends {
                match (backend.open)(&url) {
                    Ok(driver) => _ = write!(shown, "{driver:?}\n{driver:#?}\n"),
                    Err(error) => add(&mut shown, &error),
                }
            }
        }
    }
    // Outside of a runtime nothing is opened; what goes before that is what `connect` does.
    if let Err(error) = broker::open(raw, Options::default()) {
        add(&mut shown, &error);
    }
    shown
}

/// Every form of an error, and every cause of it.
pub(crate) fn add(shown: &mut String, error: &Error) {
    let _ = write!(shown, "{error}\n{error:?}\n{error:#?}\n{}\n", error.public_message());
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(shown, "{error}\n{error:?}\n");
        cause = error.source();
    }
}
