//! Depth: how deep a MessagePack payload is nested, found without following it: its decoder counts arrays and structs, and
//! not the variants of an enum, which can be nested as deep as a payload is long.

use smallvec::{SmallVec, smallvec};

/// Whether a payload is nested `limit` deep or deeper. What is no MessagePack is for the decoder to say.
pub(crate) fn reaches(payload: &[u8], limit: usize) -> bool {
    let mut rest = payload;
    // How many values are still to come in each value around this one.
    let mut open: SmallVec<[u64; 16]> = smallvec![1];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let Some((parts, behind)) = head(rest) else { return false };
        rest = behind;
        if let Some(parts) = parts {
            // The first of them is the payload.
            if open.len() >= limit {
                return true;
            }
            open.push(parts);
        }
    }
    false
}

/// Reads a value up to its parts: how many those are, if it can have some, and what is behind. `None` at the end.
fn head(bytes: &[u8]) -> Option<(Option<u64>, &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    let (parts, skip, rest) = match *marker {
        0x80..=0x8F => (Some(2 * u64::from(marker & 0x0F)), 0, rest),
        0x90..=0x9F => (Some(u64::from(marker & 0x0F)), 0, rest),
        0xA0..=0xBF => (None, u64::from(marker & 0x1F), rest),
        0xDE | 0xDF => number(rest, 2 << (marker - 0xDE)).map(|(n, rest)| (Some(2 * n), 0, rest))?,
        0xDC | 0xDD => number(rest, 2 << (marker - 0xDC)).map(|(n, rest)| (Some(n), 0, rest))?,
        // Text and bytes with their length.
        0xD9..=0xDB => number(rest, 1 << (marker - 0xD9)).map(|(n, rest)| (None, n, rest))?,
        0xC4..=0xC6 => number(rest, 1 << (marker - 0xC4)).map(|(n, rest)| (None, n, rest))?,
        // Extensions have a byte for their kind.
        0xC7..=0xC9 => number(rest, 1 << (marker - 0xC7)).map(|(n, rest)| (None, n + 1, rest))?,
        0xD4..=0xD8 => (None, (1 << (marker - 0xD4)) + 1, rest),
        // Numbers.
        0xCA | 0xCE | 0xD2 => (None, 4, rest),
        0xCB | 0xCF | 0xD3 => (None, 8, rest),
        0xCC | 0xD0 => (None, 1, rest),
        0xCD | 0xD1 => (None, 2, rest),
        _ => (None, 0, rest),
    };
    Some((parts, rest.get(usize::try_from(skip).ok()?..)?))
}

fn number(bytes: &[u8], length: usize) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(length)?;
    Some((digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)), rest))
}
