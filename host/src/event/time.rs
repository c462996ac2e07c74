//! Times as publishers write them. A time that goes in comes out as RFC 3339 text, so its year has
//! four digits in UTC.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serializer, de::Visitor};
use std::fmt;

/// What a time has to be, for messages.
pub const EXPECTED: &str = "a time as in RFC 3339, such as 2026-11-22T07:35:00Z, with a year from 0000 to 9999 in UTC";

/// Reads a time (RFC 3339, section 5.6) whose year in UTC has four digits: an offset may push it
/// out of them.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()).filter(is_writable)
}

/// Whether `time` can be written as RFC 3339 text.
pub fn is_writable(time: &DateTime<Utc>) -> bool {
    (0..=9999).contains(&time.year())
}

/// Writes `time` with microseconds. Journals of earlier versions may hold years that RFC 3339 has
/// no form for: those are written as the first or the last moment that it has.
pub(super) fn write<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&writable(*time).to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn writable(time: DateTime<Utc>) -> DateTime<Utc> {
    let bound = match time.year() {
        ..0 => NaiveDate::from_ymd_opt(0, 1, 1).and_then(|day| day.and_hms_opt(0, 0, 0)),
        10_000.. => NaiveDate::from_ymd_opt(9999, 12, 31).and_then(|day| day.and_hms_micro_opt(23, 59, 59, 999_999)),
        _ => None,
    };
    bound.map_or(time, |bound| bound.and_utc())
}

/// The timestamp that a publisher gave. Text that is not a timestamp is kept, so that the event is
/// refused with the code `event.timestamp` and not as unreadable JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    Time(DateTime<Utc>),
    Text(Box<str>),
}

impl Given {
    /// Returns the time if it can be written as RFC 3339.
    ///
    /// # Errors
    /// The text or the year that was found in place of such a time.
    pub(super) fn time(self) -> Result<DateTime<Utc>, String> {
        match self {
            Self::Time(time) if is_writable(&time) => Ok(time),
            Self::Time(time) => Err(format!("the year {}", time.year())),
            Self::Text(text) => Err(super::bounds::quote(&text)),
        }
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(parse(text).map_or_else(|| Given::Text(text.into()), Given::Time))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_rfc_3339_has_it() {
        for (text, utc) in [
            ("2026-11-22T07:35:00Z", "2026-11-22T07:35:00.000000Z"),
            ("2026-11-22t07:35:00.5z", "2026-11-22T07:35:00.500000Z"),
            ("2026-11-22T07:35:00.1234567899+01:00", "2026-11-22T06:35:00.123456Z"),
            ("2026-11-22T07:35:00-00:00", "2026-11-22T07:35:00.000000Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("0000-01-01T00:00:00-01:00", "0000-01-01T01:00:00.000000Z"),
        ] {
            let time = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time.to_rfc3339_opts(SecondsFormat::Micros, true), utc, "{text}");
        }
    }

    #[test]
    fn everything_else_is_no_time() {
        for text in [
            "",
            "now",
            "2026-11-22",
            "2026-11-22T07:35:00",
            "2026-11-22T07:35Z",
            "2026-11-22T07:35:00 UTC",
            "2026-11-22T07:35:00+0100",
            "2026-13-22T07:35:00Z",
            "2026-02-30T07:35:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T07:35:00+24:00",
            "1795332900",
            "+10000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "-0001-01-01T00:00:00Z",
            "+262142-01-01T00:00:00Z",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2026-11-22T07:35:00Z\0",
            " 2026-11-22T07:35:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_year_that_cannot_be_written_is_written_as_the_nearest_that_can() {
        let check = |time: DateTime<Utc>, expected: &str| {
            assert_eq!(writable(time).to_rfc3339_opts(SecondsFormat::Micros, true), expected);
        };
        check(DateTime::<Utc>::MAX_UTC, "9999-12-31T23:59:59.999999Z");
        check(DateTime::<Utc>::MIN_UTC, "0000-01-01T00:00:00.000000Z");
    }
}
