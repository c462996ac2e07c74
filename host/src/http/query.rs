//! Query parameters: each known by name, given once, and refused with what was expected and found.

use super::problem::Problem;
use crate::{
    event::{EventFilter, Glob},
    log::{Log, view::Question},
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
    /// `query.unknown` or `query.repeated`.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut values = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let expected = format!("one of {}", known.join(", "));
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
        let parse = |text: &str| {
            let time = DateTime::parse_from_rfc3339(text).map_err(|_| {
                let expected = "a time as in RFC 3339, such as 2026-11-22T07:35:00Z";
                Problem::field("query.time", name, expected, format!("{text:?}"))
            });
            time.map(|time| time.to_utc())
        };
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
        match text.parse() {
            Ok(number) if bounds.contains(&number) => Ok(Some(number)),
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
    pub fn question(&self, questions: &Questions) -> Result<Question, Problem> {
        let filter = EventFilter {
            event_types: self.globs("types")?,
            source_patterns: self.globs("sources")?,
            required_tags: self.list("tags")?.unwrap_or_default(),
            excluded_tags: self.list("exclude_tags")?.unwrap_or_default(),
        };
        let parse = |text: &str| serde_json::from_str(text);
        let params = self
            .get("params")
            .map(parse)
            .transpose()
            .map_err(|error| Problem::field("query.json", "params", "JSON", error.to_string()))?;
        let wanted = Wanted { filter, plugin: self.get("filter").map(str::to_owned), params };
        Ok(questions.resolve(wanted)?)
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

/// An epoch as text.
///
/// # Errors
/// `query.epoch`.
pub fn parse_epoch(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|error| {
        Problem::field("query.epoch", "epoch", "the epoch of a welcome or a stream", error.to_string())
    })
}

impl Start {
    /// Refuses a place that the log has not got to, or that is behind the end of the epoch that it is meant in: what lies
    /// before it would be passed over without a word.
    ///
    /// # Errors
    /// `epoch.mismatch`, `from.ahead`.
    pub fn check(&self, log: &Log) -> Result<(), Problem> {
        log.resume(self.epoch, self.from)?;
        Ok(())
    }
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
        refused("limit=", "query.number");
        refused("from=0", "query.number");
        refused("from=-1", "query.number");
        refused("colour=red", "query.unknown");
        refused("from=1&from=2", "query.repeated");
        refused("types=a,,b", "query.list");
        refused("types=", "query.list");
        refused("epoch=x", "query.epoch");
    }
}
