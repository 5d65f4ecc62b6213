//! Time: a point in time and a length of time.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::Wire;

/// A point in time, as Serverpod's `DateTime`: text in UTC, with milliseconds, or microseconds where there are any.
/// Parts of a microsecond are cut off. The years 0 to 9999 can be written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub SystemTime);

/// A length of time, as Serverpod's `Duration`: a number of milliseconds. Parts of one are cut off, and one that is
/// less than nothing cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Milliseconds(pub Duration);

impl From<SystemTime> for DateTime {
    fn from(time: SystemTime) -> Self {
        Self(time)
    }
}

impl From<Duration> for Milliseconds {
    fn from(time: Duration) -> Self {
        Self(time)
    }
}

impl Wire for DateTime {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("DateTime")
    }
}

/// The calendar repeats itself after 400 years. `humantime` knows no time before 1970, so that such a time is moved
/// by five times as many.
const MOVED_YEARS: u32 = 2000;
const MOVED: Duration = Duration::from_secs(5 * 146_097 * 86_400);
/// The first second of the year 10000, which has no place in the text.
const END: Duration = Duration::from_secs(253_402_300_800);

/// The text of a time. `None` for a year without one.
fn written(time: SystemTime) -> Option<String> {
    let is_moved = time < SystemTime::UNIX_EPOCH;
    let time = if is_moved { time.checked_add(MOVED)? } else { time };
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    if since >= END {
        return None;
    }
    let text = if since.subsec_micros() % 1000 == 0 {
        humantime::format_rfc3339_millis(time).to_string()
    } else {
        humantime::format_rfc3339_micros(time).to_string()
    };
    if !is_moved {
        return Some(text);
    }
    let (year, rest) = text.split_once('-')?;
    let year = year.parse::<u32>().ok()?.checked_sub(MOVED_YEARS)?;
    Some(format!("{year:04}-{rest}"))
}

/// The time of a text. `None` if it is not one.
fn read(text: &str) -> Option<SystemTime> {
    let (digits, rest) = text.split_once('-')?;
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year: u32 = digits.parse().ok()?;
    if year >= 1970 {
        return humantime::parse_rfc3339(text).ok();
    }
    let moved = format!("{}-{rest}", year + MOVED_YEARS);
    humantime::parse_rfc3339(&moved).ok()?.checked_sub(MOVED)
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = written(self.0).ok_or_else(|| S::Error::custom("a time is of the years 0 to 9999"))?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let time = read(&text).ok_or_else(|| D::Error::custom("a time is as 2024-01-01T00:00:00.000Z"))?;
        Ok(Self(time))
    }
}

impl Wire for Milliseconds {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("Duration")
    }
}

impl Serialize for Milliseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standard::round;
    use proptest::prelude::*;

    fn at(micros: i64) -> DateTime {
        let distance = Duration::from_micros(micros.unsigned_abs());
        let time = if micros < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        DateTime(time.unwrap())
    }

    #[test]
    fn a_time_has_milliseconds_or_microseconds() {
        round(&at(1_704_067_200_000_000), r#""2024-01-01T00:00:00.000Z""#);
        round(&at(1_704_067_200_000_001), r#""2024-01-01T00:00:00.000001Z""#);
        round(&at(1_704_067_200_001_000), r#""2024-01-01T00:00:00.001Z""#);
    }

    #[test]
    fn a_time_may_be_before_1970() {
        round(&at(0), r#""1970-01-01T00:00:00.000Z""#);
        round(&at(-1), r#""1969-12-31T23:59:59.999999Z""#);
        round(&at(-1_000), r#""1969-12-31T23:59:59.999Z""#);
        round(&at(-4_861_728_000_000_000), r#""1815-12-10T00:00:00.000Z""#);
        round(&at(-62_167_219_200_000_000), r#""0000-01-01T00:00:00.000Z""#);
        round(&at(253_402_300_799_999_999), r#""9999-12-31T23:59:59.999999Z""#);
    }

    #[test]
    fn a_year_that_has_no_text_is_an_error() {
        for micros in [-62_167_219_200_000_001, 253_402_300_800_000_000, -100_000_000_000_000_000] {
            assert!(serde_json::to_string(&at(micros)).is_err(), "{micros}");
        }
    }

    #[test]
    fn other_texts_are_no_time() {
        for text in [
            "",
            "-",
            "2024",
            "2024-01-01",
            "2024-13-01T00:00:00.000Z",
            "+024-01-01T00:00:00.000Z",
            "-0001-01-01T00:00:00.000Z",
            "10000-01-01T00:00:00.000Z",
            "1900-02-29T00:00:00.000Z",
            "üü-01-01T00:00:00.000Z",
        ] {
            assert!(serde_json::from_value::<DateTime>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_of_time_is_milliseconds() {
        round(&Milliseconds(Duration::from_millis(1500)), "1500");
        assert!(serde_json::from_str::<Milliseconds>("-1").is_err());
        assert_eq!(serde_json::to_string(&Milliseconds(Duration::MAX)).unwrap(), u64::MAX.to_string());
    }

    proptest! {
        #[test]
        fn every_time_comes_back(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let time = at(micros);
            let text = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<DateTime>(&text).unwrap(), time);
        }

        #[test]
        fn any_text_is_a_time_or_an_error(text in ".*|[0-9]{4}-[0-9T:.Z-]{0,24}") {
            let _ = read(&text);
        }
    }
}
