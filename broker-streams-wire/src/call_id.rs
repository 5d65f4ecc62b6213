//! CallId: which call a frame is about. The client chooses it.

use std::fmt;

/// The id of a call: the text of a UUID, as the client has written it.
///
/// ```
/// use broker_streams_wire::CallId;
///
/// let id = CallId::new("6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11").expect("the text of a UUID");
/// assert_eq!(id.as_str(), "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11");
/// assert!(CallId::new("6b1c0f0e8f0a4a8e9a502f0c9f5f0a11").is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId([u8; 36]);

impl CallId {
    /// The id of a text; `None` if that is not the text of a UUID.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let bytes: [u8; 36] = text.as_bytes().try_into().ok()?;
        let fits = bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        fits.then_some(Self(bytes))
    }

    /// The id that 16 random bytes give: a UUID of version 4.
    #[must_use]
    pub fn from_random(mut random: [u8; 16]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let mut text = [b'-'; 36];
        let places = (0..36).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
        let digits = random.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
        for (place, digit) in places.zip(digits) {
            text[place] = HEX[usize::from(digit)];
        }
        Self(text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII was let in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::CallId;

    #[test]
    fn random_bytes_give_the_text_of_a_uuid() {
        let id = CallId::from_random([0xff; 16]);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(CallId::new(id.as_str()), Some(id));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a1", "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a1g"] {
            assert_eq!(CallId::new(text), None, "{text}");
        }
    }
}
