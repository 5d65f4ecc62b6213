//! Malformed: what arrived and is not a readable message.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    sync::Arc,
};

/// How many characters of a reason are shown.
const MOST_SHOWN: usize = 300;

/// Something arrived on the channel that is not a message of ours, or not one this version can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(Arc<Unreadable>);

/// Behind a pointer, so that an event is small: nearly all of them are messages.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable {
    reason: Cow<'static, str>,
    length: usize,
}

impl Malformed {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>, length: usize) -> Self {
        Self(Arc::new(Unreadable { reason: reason.into(), length }))
    }

    /// What is wrong with it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// How many bytes arrived.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreadable { reason, length } = &*self.0;
        write!(f, "{length} bytes that are not a readable message: ")?;
        // A decoder may quote what it found.
        let (end, more) = match reason.char_indices().nth(MOST_SHOWN) {
            Some((end, _)) => (end, "…"),
            None => (reason.len(), ""),
        };
        for c in reason[..end].chars() {
            if c.is_control() { write!(f, "{}", c.escape_debug())? } else { f.write_char(c)? }
        }
        f.write_str(more)
    }
}

#[cfg(test)]
mod tests {
    use crate::{NodeId, Post, StreamError, message::Message};

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    enum Known {
        Here,
    }

    impl crate::Model for Known {
        const NAME: &'static str = "Known";
    }

    #[test]
    fn what_a_decoder_quotes_is_shown_on_one_line() {
        let found = format!("a\nb\u{1b}[2J{}", "x".repeat(5000));
        let mut post = Post::new(serde_json::to_vec(&found).unwrap());
        post.type_name = Some("Known".into());
        post.codec = crate::Codec::Json;
        let post = Message::from_post(post, NodeId::from_u64(1));
        let Err(StreamError::Malformed(malformed)) = post.into_decoded::<Known>() else { panic!("decoded") };
        let shown = malformed.to_string();
        assert!(shown.contains("a\\nb\\u{1b}[2J") && !shown.contains(char::is_control), "{shown}");
        assert!(shown.len() < 500, "{shown}");
    }
}
