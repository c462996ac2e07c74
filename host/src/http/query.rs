//! Query parameters: each known by name, given once, and refused with what was expected and found.

use super::problem::Problem;
use crate::{
    event::{EventFilter, Glob, time, unique::UniqueValue},
    log::view::Question,
    question::{Questions, Wanted},
};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Those that choose events; see docs/api.md.
pub const FILTER: [&str; 6] = ["types", "sources", "tags", "exclude_tags", "filter", "params"];

/// The parameters of one request.
#[derive(Debug)]
pub struct Query {
    values: BTreeMap<String, String>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The first seq wanted; none: what is published from now on.
    pub from: Option<u64>,
    /// The numbering that `from` is meant in.
    pub epoch: Option<Uuid>,
}

impl Query {
    /// Reads `text`, the part of a URI after `?`.
    ///
    /// # Errors
    /// `query.encoding`, `query.unknown` or `query.repeated`.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let text = text.unwrap_or_default();
        check_encoding(text)?;
        let mut values = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if !known.contains(&&*name) {
                let expected =
                    if known.is_empty() { "no parameters".into() } else { format!("one of {}", known.join(", ")) };
                return Err(Problem::field("query.unknown", "query", expected, name));
            }
            if values.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Problem::field("query.repeated", name, "it once", "it twice"));
            }
        }
        Ok(Self { values })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A text as it is.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// A time.
    ///
    /// # Errors
    /// `query.time`.
    pub fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let refused = |text: &str| Problem::field("query.time", name, time::EXPECTED, format!("{text:?}"));
        let parse = |text: &str| time::parse(text).ok_or_else(|| refused(text));
        self.get(name).map(parse).transpose()
    }

    /// Yes or no.
    ///
    /// # Errors
    /// `query.flag`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => Err(Problem::field("query.flag", name, "true or false", format!("{text:?}"))),
        }
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// `query.number`.
    pub fn number(&self, name: &str, bounds: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match digits(text) {
            Some(number) if bounds.contains(&number) => Ok(Some(number)),
            _ => {
                let expected = match (*bounds.start(), *bounds.end()) {
                    (start, u64::MAX) => format!("a whole number of at least {start}"),
                    (start, end) => format!("a whole number from {start} to {end}"),
                };
                Err(Problem::field("query.number", name, expected, format!("{text:?}")))
            }
        }
    }

    /// `from` and `epoch`.
    ///
    /// # Errors
    /// `query.number`, `query.epoch`.
    pub fn start(&self) -> Result<Start, Problem> {
        let from = match self.get("from") {
            Some("earliest") => Some(1),
            _ => self.number("from", 1..=u64::MAX)?,
        };
        Ok(Start { from, epoch: self.get("epoch").map(parse_epoch).transpose()? })
    }

    /// The question that the filter parameters ask.
    ///
    /// # Errors
    /// `query.list`, `query.json`, `filter.*`.
    pub async fn question(&self, questions: &Questions) -> Result<Question, Problem> {
        let filter = EventFilter {
            event_types: self.globs("types")?,
            source_patterns: self.globs("sources")?,
            required_tags: self.list("tags")?.unwrap_or_default(),
            excluded_tags: self.list("exclude_tags")?.unwrap_or_default(),
        };
        let parse = |text: &str| serde_json::from_str(text).map(|UniqueValue(params)| params);
        let params = self
            .get("params")
            .map(parse)
            .transpose()
            .map_err(|error| Problem::field("query.json", "params", "JSON", error.to_string()))?;
        let wanted = Wanted { filter, plugin: self.get("filter").map(str::to_owned), params };
        Ok(questions.resolve(wanted).await?)
    }

    fn list(&self, name: &str) -> Result<Option<Vec<String>>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let entries: Vec<String> = text.split(',').map(|entry| entry.trim().to_owned()).collect();
        if entries.iter().any(String::is_empty) {
            return Err(Problem::field(
                "query.list",
                name,
                "entries separated by commas, none empty",
                format!("{text:?}"),
            ));
        }
        Ok(Some(entries))
    }

    fn globs(&self, name: &str) -> Result<Option<Vec<Glob>>, Problem> {
        let Some(entries) = self.list(name)? else { return Ok(None) };
        let parse = |entry: &String| {
            entry
                .parse()
                .map_err(|error| Problem::field("query.glob", name, "globs of 1 to 255 bytes", format!("{error}")))
        };
        entries.iter().map(parse).collect::<Result<_, _>>().map(Some)
    }
}

/// What `form_urlencoded` would pass over: it leaves a `%` that begins no escape, and puts U+FFFD
/// in the place of bytes that are not UTF-8.
fn check_encoding(text: &str) -> Result<(), Problem> {
    let wrong = |found: String| {
        let expected =
            "UTF-8 without NUL, percent-encoded where a URI has no other form for it (RFC 3986, section 2.1)";
        Err(Problem::field("query.encoding", "query", expected, found))
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = after;
                let digit = |c: u8| (c as char).to_digit(16).unwrap_or_default() as u8;
                (digit(*high) << 4) | digit(*low)
            }
            (b'%', _) => return wrong("a % without two hexadecimal digits behind it".into()),
            (byte, _) => *byte,
        });
    }
    match std::str::from_utf8(&decoded) {
        Err(error) => wrong(error.to_string()),
        Ok(text) if text.contains('\0') => wrong("NUL".into()),
        Ok(_) => Ok(()),
    }
}

/// A whole number as decimal digits and nothing else: `str::parse` also takes a `+`.
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// An epoch as text.
///
/// # Errors
/// `query.epoch`.
pub fn parse_epoch(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|error| {
        Problem::field("query.epoch", "epoch", "the epoch of a welcome or a stream", error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, code: &str) {
        let known = ["from", "limit", "types", "epoch"];
        let problem = Query::parse(Some(text), &known)
            .and_then(|query| query.number("limit", 1..=10).and(query.start()).and(query.globs("types")))
            .expect_err("should be refused");
        assert_eq!(problem.code, code, "{}", problem.detail);
    }

    #[test]
    fn bad_parameters_are_named() {
        refused("limit=11", "query.number");
        for number in ["", "-1", "%2B1", "+1", "1e3", "1.0", "0x1", "1%00", "%EF%BC%91", "18446744073709551616"] {
            refused(&format!("limit={number}"), if number.contains("%00") { "query.encoding" } else { "query.number" });
        }
        refused("from=0", "query.number");
        refused("from=-1", "query.number");
        refused("colour=red", "query.unknown");
        refused("from=1&from=2", "query.repeated");
        refused("types=a,,b", "query.list");
        refused("types=", "query.list");
        refused("epoch=x", "query.epoch");
    }

    #[test]
    fn a_query_is_utf_8_and_its_escapes_are_whole() {
        for text in [
            "types=%zz",
            "types=%",
            "types=%4",
            "types=%ff",
            "types=%c3",
            "types=%c3%28",
            "types=%ed%a0%80",
            "types=%00",
            "%zz=1",
        ] {
            refused(text, "query.encoding");
        }
        let read = |text: &str| Query::parse(Some(text), &["types"]).unwrap().text("types").unwrap();
        for (text, value) in [
            ("types=%c3%bc", "ü"),
            ("types=ü", "ü"),
            ("types=a+b", "a b"),
            ("types=a%2Bb", "a+b"),
            ("types=%EF%BF%BD", "\u{fffd}"),
            ("types=a=b", "a=b"),
            ("types", ""),
            ("%74ypes=a", "a"),
            ("&&types=a&", "a"),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
        refused("types=a&%74ypes=b", "query.repeated");
    }

    #[test]
    fn times_are_rfc_3339() {
        let read = |value: &str| Query::parse(Some(&format!("since={value}")), &["since"]).unwrap().time("since");
        assert!(read("2026-11-22T07:35:00Z").unwrap().is_some());
        for value in ["", "yesterday", "2026-11-22", "%2B10000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00"] {
            assert_eq!(read(value).unwrap_err().code, "query.time", "{value}");
        }
    }
}
