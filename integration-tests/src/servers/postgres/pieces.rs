//! Pieces: bytes on a channel as the driver's protocol has them, written a second time: how another program posts.

/// The longest payload is 7,999 bytes, of which 27 come before the base64.
const ROOM: usize = (7_999 - 27) / 4 * 3;

/// The statement that posts bytes on a channel, all in one transaction; `None` for a name that the protocol does not have.
/// Pieces of one number that begin later than those of another are apart from them.
pub(crate) fn posting(channel: &str, bytes: &[u8], first: u32) -> Option<String> {
    let length = u8::try_from(channel.len()).ok()?;
    // The server's texts have no such character; in a name it would be a part of the base64 only.
    let hash = channel.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let content = [&[length], channel.as_bytes(), bytes].concat();
    let count = content.chunks(ROOM).count();
    let mut statement = String::new();
    for (n, part) in content.chunks(ROOM).enumerate() {
        let kind = match n {
            0 if count == 1 => 'w',
            0 => 'b',
            _ if n + 1 == count => 'e',
            _ => 'm',
        };
        let counter = first.wrapping_add(n as u32);
        let separator = if n == 0 { "SELECT" } else { "," };
        statement += &format!(
            "{separator} pg_notify('broker_{}', '{kind}{hash:016x}.{counter:08x}.{}')",
            hash % 64,
            base64(part)
        );
    }
    Some(statement)
}

/// Without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let bits =
            part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for digit in 0..=part.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{base64, posting};

    #[test]
    fn base64_is_that_of_its_specification() {
        let cases = [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn a_post_is_one_statement_of_all_its_pieces() {
        let whole = posting("news", b"hello", 7);
        let expected = "SELECT pg_notify('broker_38', 'we5495bbaa03a6526.00000007.BG5ld3NoZWxsbw')";
        assert_eq!(whole.as_deref(), Some(expected));
        let pieces = posting("news", &[0; 1_000_000], 0).unwrap_or_default();
        assert_eq!(pieces.matches("pg_notify").count(), 168);
        assert_eq!(posting(&"x".repeat(256), b"", 0), None);
    }
}
