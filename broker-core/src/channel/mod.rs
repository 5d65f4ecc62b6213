//! ChannelName: a name that is the same bytes in code, in `redis-cli`, as a NATS subject and as an AMQP routing key.

mod name;
mod parts;
mod typed;

pub use self::{
    name::ChannelName,
    typed::{AsChannel, AsChannelFor, AsChannelName, Channel},
};

use std::str::FromStr;

use crate::{Error, ErrorKind, Result};

impl ChannelName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], naming the input and the rule it breaks.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        check(name)?;
        Ok(Self::internal(name))
    }
}

/// The rules for a name, without making one: a local post needs no allocation.
pub(crate) fn check(name: &str) -> Result<()> {
    match broken_rule(name) {
        None => Ok(()),
        Some(rule) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("channel name {}: {rule}", shown(name))))
        }
    }
}

/// Const, so that a name in the source is checked by the compiler.
const fn broken_rule(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty; a name has 1 to 200 bytes");
    }
    if name.len() > ChannelName::MAX {
        return Some("is too long; a name has at most 200 bytes");
    }
    let mut rest = name.as_bytes();
    let mut empty_segment = true;
    while let Some((c, behind)) = first_char(rest) {
        rest = behind;
        match c {
            '.' if empty_segment => {
                return Some("has an empty segment; write something between and around the dots");
            }
            '.' => empty_segment = true,
            // The channels of the broker itself, behind any prefix: who has none would reach those of who has one.
            '$' if empty_segment => {
                return Some("has a segment that begins with `$`, which is reserved; begin it otherwise");
            }
            '*' | '>' | '#' => {
                return Some("has one of `*`, `>`, `#`, which are wildcards on some backends; leave it out");
            }
            c if c.is_whitespace() => return Some("has white space; use `-`, `_` or `.` instead"),
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => return Some("has a control character; leave it out"),
            _ => empty_segment = false,
        }
    }
    if empty_segment {
        Some("has an empty segment; write something between and around the dots")
    } else {
        None
    }
}

/// The first character of UTF-8, and what is behind it. `str::chars` is not const.
const fn first_char(text: &[u8]) -> Option<(char, &[u8])> {
    let (first, mut rest) = match text.split_first() {
        None => return None,
        Some((first, rest)) if *first < 0x80 => return Some((*first as char, rest)),
        Some((first, rest)) => (*first, rest),
    };
    // As many ones as bytes lead in the first byte; the others have six bits each.
    let more = first.leading_ones().saturating_sub(1);
    let mut code = first as u32 & (0x7f >> (more + 1));
    let mut left = more;
    while left > 0
        && let Some((next, behind)) = rest.split_first()
    {
        code = code << 6 | (*next as u32 & 0x3f);
        rest = behind;
        left -= 1;
    }
    match char::from_u32(code) {
        Some(c) => Some((c, rest)),
        None => Some((char::REPLACEMENT_CHARACTER, rest)),
    }
}

/// The rules for a prefix: those of a name, in one segment, short enough to leave room for the longest name.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    let rule = match prefix {
        "" => None,
        p if p.len() > 50 => Some("is too long; a prefix has at most 50 bytes"),
        p if p.contains('.') => Some("has a dot; a prefix is one segment, so that two prefixes never meet"),
        p => broken_rule(p),
    };
    match rule {
        None => Ok(()),
        Some(rule) => Err(Error::new(ErrorKind::InvalidInput, format!("prefix {}: {rule}", shown(prefix)))),
    }
}

/// Untrusted text in an error: escaped, and cut to a readable length.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

impl FromStr for ChannelName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<&str> for ChannelName {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn legal_names() {
        for name in
            ["a", "user.42", "pixel-added", "ümlaut.日本", "a:b/c?d", "x$", "a.b$.c", &"n".repeat(200)]
        {
            assert!(ChannelName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn illegal_names_name_the_input_and_the_rule() {
        let long = "n".repeat(201);
        for (name, rule) in [
            ("", "empty"),
            (long.as_str(), "too long"),
            ("$node", "reserved"),
            ("shop.$revocations", "reserved"),
            ("a.b.$", "reserved"),
            (".a", "segment"),
            ("a.", "segment"),
            ("a..b", "segment"),
            ("a b", "white space"),
            ("a\u{a0}b", "white space"),
            ("a\0b", "control"),
            ("a.*", "wildcards"),
            ("a.>", "wildcards"),
            ("a.#", "wildcards"),
        ] {
            let error = ChannelName::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(rule), "{name:?}: {error}");
        }
    }

    #[test]
    fn prefixes_are_one_short_segment() {
        assert!(check_prefix("").is_ok());
        assert!(check_prefix("shop").is_ok());
        for bad in ["a.b", "$a", "a b", &"p".repeat(51)] {
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
    }

    /// Segments of legal characters, with dots between them.
    fn legal() -> impl Strategy<Value = String> {
        let segment = "[^\\s\\p{Cc}.*>#$][^\\s\\p{Cc}.*>#]{0,8}";
        prop::collection::vec(segment, 1..5).prop_map(|segments| segments.join("."))
    }

    proptest! {
        #[test]
        fn characters_are_those_of_the_standard_library(name in "\\PC{0,60}|\\p{Any}{0,60}") {
            let mut rest = name.as_bytes();
            for expected in name.chars() {
                let (c, behind) = first_char(rest).unwrap();
                prop_assert_eq!((c, c.is_control()), (expected, matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}')));
                rest = behind;
            }
            prop_assert_eq!(first_char(rest), None);
        }

        #[test]
        fn legal_names_are_accepted_and_one_fault_refuses_them(
            name in legal(),
            at: prop::sample::Index,
            fault in prop::sample::select(vec![" ", "\t", "\u{2003}", "\0", "\u{85}", "*", ">", "#", ".."]),
        ) {
            let kept = ChannelName::new(&name).unwrap();
            prop_assert_eq!(kept.as_str(), &name);
            let places: Vec<_> = name.char_indices().map(|(place, _)| place).chain([name.len()]).collect();
            let mut broken = name.clone();
            broken.insert_str(*at.get(&places), fault);
            let padded = "n".repeat(ChannelName::MAX + 1 - name.len()) + &name;
            for broken in [broken, format!(".{name}"), format!("{name}."), format!("${name}"), format!("a.${name}"), padded] {
                prop_assert!(ChannelName::new(&broken).is_err(), "{:?}", broken);
            }
        }

        #[test]
        fn any_text_is_refused_or_kept_unchanged(name in ".{0,250}") {
            match ChannelName::new(&name) {
                Ok(kept) => prop_assert_eq!(kept.as_str(), name),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidInput),
            }
        }
    }
}
