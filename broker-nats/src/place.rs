//! Place: a place in the revocation log, as a cursor writes it.

/// See the module.
pub(crate) struct Place {
    pub(crate) created: String,
    pub(crate) sequence: u64,
    /// The time of the record there. Numbers are used again after the log was rolled back.
    pub(crate) time: String,
    /// How many records were gone by the time from which on a missing one is a loss.
    pub(crate) gone: u64,
}

impl Place {
    /// `None` if the text is no place.
    pub(crate) fn parse(place: &str) -> Option<Self> {
        let mut parts = place.split('/');
        let mut next = || parts.next().map(str::to_owned);
        let (created, sequence, time, gone) = (next()?, next()?, next()?, next()?);
        Some(Self { created, sequence: sequence.parse().ok()?, time, gone: gone.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_text_is_a_cursor() {
        let place = Place::parse("2026-01-01T00:00:00.5Z/7/2026-01-02T00:00:00Z/3").unwrap();
        assert_eq!((&*place.created, place.sequence), ("2026-01-01T00:00:00.5Z", 7));
        assert_eq!((&*place.time, place.gone), ("2026-01-02T00:00:00Z", 3));
        for text in ["", "/", "///", "a/b/c/d", "a/-1/c/0", "a/1/c", "a/18446744073709551616/c/0"] {
            assert!(Place::parse(text).is_none(), "{text}");
        }
    }
}
