//! Parts: a name of segments that may be any text, escaped so that two lists of parts never make the same name.

use std::fmt::{self, Write};

use super::ChannelName;
use crate::Result;

impl ChannelName {
    /// The name of these parts, each escaped and put between dots: `ChannelName::of(["room", room_id])`.
    ///
    /// Any text may be a part, what users enter above all: the name has only legal characters, and no part reaches into
    /// the name of another. It may be too long: one character becomes up to twelve bytes, so limit what users enter. Two lists of parts never make one name. Written as they are: letters, digits, and all else that is
    /// legal within a segment. Written as `%` and two digits, byte by byte, as in a URL: white space, control characters,
    /// and `.`, `*`, `>`, `#`, `%`; and `$` where the part begins with it. An empty part is a `%` alone.
    ///
    /// ```
    /// use broker::ChannelName;
    ///
    /// let name = ChannelName::of(["room", "Ada & Bob."])?;
    /// assert_eq!(name.as_str(), "room.Ada%20&%20Bob%2E");
    /// assert_eq!(name.parts().unwrap(), ["room", "Ada & Bob."]);
    /// # Ok::<(), broker::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for no parts, and for a name of more than
    /// [`MAX`](Self::MAX) bytes.
    pub fn of(parts: impl IntoIterator<Item = impl fmt::Display>) -> Result<Self> {
        Self::new(join(parts))
    }

    /// The parts of a name that [`of`](Self::of) has made; `None` for one that it cannot have made.
    #[must_use]
    pub fn parts(&self) -> Option<Vec<String>> {
        let parts: Vec<String> = self.as_str().split('.').map(unescape).collect::<Option<_>>()?;
        // There is one way to write each part.
        (join(&parts) == self.as_str()).then_some(parts)
    }
}

/// The parts, escaped, with dots between them.
pub(super) fn join(parts: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut name = String::new();
    for (number, part) in parts.into_iter().enumerate() {
        if number > 0 {
            name.push('.');
        }
        escape(&part.to_string(), &mut name);
    }
    name
}

fn escape(part: &str, name: &mut String) {
    if part.is_empty() {
        name.push('%');
    }
    for (at, c) in part.char_indices() {
        let reserved = matches!(c, '.' | '*' | '>' | '#' | '%') || (c == '$' && at == 0);
        if reserved || c.is_whitespace() || c.is_control() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string does not fail.
                let _ = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(c);
        }
    }
}

fn unescape(segment: &str) -> Option<String> {
    if segment == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = behind;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_be_illegal_or_ambiguous_is_escaped() {
        for (parts, name) in [
            (&["user", "42"][..], "user.42"),
            (&["a.b", "c"], "a%2Eb.c"),
            (&["a", "b.c"], "a.b%2Ec"),
            (&["", ""], "%.%"),
            (&["%"], "%25"),
            (&["$node", "x$"], "%24node.x$"),
            (&["a b", "c\u{a0}d"], "a%20b.c%C2%A0d"),
            (&["*", ">", "#", "\0"], "%2A.%3E.%23.%00"),
        ] {
            let made = ChannelName::of(parts).unwrap();
            assert_eq!(
                (made.as_str(), made.parts().unwrap()),
                (name, parts.iter().map(|p| (*p).to_owned()).collect())
            );
        }
        assert_eq!(
            ChannelName::of(["user".to_owned(), 42.to_string()]).unwrap(),
            ChannelName::of(["user", "42"]).unwrap()
        );
        assert!(ChannelName::of(<[&str; 0]>::default()).is_err());
        assert!(ChannelName::of(["x".repeat(201)]).is_err());
    }

    #[test]
    fn what_no_parts_make_has_none() {
        for name in ["a%", "a%2", "%2e", "%41", "%FF", "a%%", "%+1"] {
            assert_eq!(ChannelName::new(name).unwrap().parts(), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_parts_make_a_legal_name_and_come_back(parts in prop::collection::vec("\\PC{0,12}|[ .%$*>#\\x00-\\x1f]{0,6}", 1..4)) {
            let made = join(&parts);
            prop_assume!(made.len() <= ChannelName::MAX);
            prop_assert_eq!(ChannelName::new(&made).unwrap().parts(), Some(parts));
        }
    }
}
