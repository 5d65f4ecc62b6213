//! Headers: names and values that travel beside a payload.

use std::fmt;

use crate::{Error, ErrorKind, Result};

/// Names and values that travel beside a payload, in the order they were added. A name may occur more than once.
///
/// A name has 1 to 255 bytes, a value up to 65,535; all together at most [`Headers::MAX_BYTES`] in at most
/// [`Headers::MAX_COUNT`] pairs. They are checked when a message is posted.
///
/// ```
/// let mut headers = broker::Headers::new();
/// headers.insert("trace", "4bf92f35");
/// assert_eq!(headers.get("trace"), Some("4bf92f35"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Box<Pairs>>);

/// Boxed, and only where there are any: most messages have none, and every one would carry the room for them.
type Pairs = Vec<(String, String)>;

impl Headers {
    /// The most pairs a message may carry.
    pub const MAX_COUNT: usize = 64;
    /// The most bytes that all names and values may have together.
    pub const MAX_BYTES: usize = 16 << 10;

    /// No headers. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds a pair.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.get_or_insert_default().push((name.into(), value.into()));
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|pairs| pairs.iter()).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |pairs| pairs.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Checks the limits, before anything is sent.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { self.check_each() }
    }

    fn check_each(&self) -> Result<()> {
        if self.len() > Self::MAX_COUNT {
            let message = format!("{} headers; a message has at most {}", self.len(), Self::MAX_COUNT);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        for (name, _) in self.iter() {
            if name.is_empty() || name.len() > 255 {
                let name = crate::channel::shown(name);
                let message = format!("header name {name}: a name has 1 to 255 bytes");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        let bytes: usize = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > Self::MAX_BYTES {
            let most = Self::MAX_BYTES;
            let message =
                format!("headers of {bytes} bytes; the limit is {most} in total: put more into the payload");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        pairs.into_iter().for_each(|(name, value)| headers.insert(name, value));
        headers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{NodeId, Post, wire::frame};

    #[test]
    fn limits_are_checked_and_named() {
        let many: Headers = (0..65).map(|n| (n.to_string(), "")).collect();
        assert_eq!(many.check().unwrap_err().kind(), ErrorKind::TooLarge);
        let big: Headers = [("a", "x".repeat(Headers::MAX_BYTES))].into_iter().collect();
        assert_eq!(big.check().unwrap_err().kind(), ErrorKind::TooLarge);
        let nameless: Headers = [("", "x")].into_iter().collect();
        assert_eq!(nameless.check().unwrap_err().kind(), ErrorKind::InvalidInput);
        let fits: Headers = [("a", "x".repeat(Headers::MAX_BYTES - 1))].into_iter().collect();
        fits.check().unwrap();
    }

    fn pair() -> impl Strategy<Value = (String, String)> {
        let name = prop_oneof![80 => "\\PC{1,60}", 1 => "\\PC{0,90}"];
        let value = prop_oneof![80 => ".{0,30}", 1 => "x{16300,16400}"];
        (name, value)
    }

    proptest! {
        #[test]
        fn headers_within_the_limits_arrive_unchanged(
            pairs in prop::collection::vec(pair(), 0..70),
        ) {
            let headers: Headers = pairs.iter().cloned().collect();
            prop_assert!(headers.iter().eq(pairs.iter().map(|(name, value)| (&**name, &**value))));
            for (name, _) in &pairs {
                let first = pairs.iter().find(|(found, _)| found == name).map(|(_, value)| &**value);
                prop_assert_eq!(headers.get(name), first);
            }
            let names = pairs.iter().all(|(name, _)| (1..=255).contains(&name.len()));
            let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
            let legal = names && bytes <= Headers::MAX_BYTES && pairs.len() <= Headers::MAX_COUNT;
            prop_assert_eq!(headers.check().is_ok(), legal);
            if legal {
                let post = Post::new("payload").with_headers(headers.clone());
                let mut frame = frame::encode(&post, NodeId::from_u64(1));
                frame::write_header(&mut frame, frame::SequenceHeader { number: 1, epoch: 1, sequence: 1 });
                let (wire, _) = frame::decode(&frame.freeze()).unwrap();
                prop_assert_eq!((&wire.head.headers, &wire.payload[..]), (&headers, &b"payload"[..]));
            }
        }
    }
}
