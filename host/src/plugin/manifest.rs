//! The operator's word on a plugin: the optional file `x.toml` beside `x.wasm`. Plain data; what it means for a call is
//! decided in [`super::grants`], [`super::limits`] and [`super::version`]. An empty file is the same as none.

mod nesting;

use super::Name;
use super::limits::{LimitsOverride, MAX_MANIFEST_BYTES};
use crate::event::{EventFilter, Glob, filter};
use serde::de::{DeserializeOwned, Deserializer, Error, Unexpected};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Everything that an operator can say of one plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// False: it is loaded and shown, but not called.
    pub enabled: bool,
    /// Whether instances are kept from call to call; absent: as the plugin wishes, else fresh.
    pub isolation: Option<Isolation>,
    /// Which events are handled one after another; absent: as the plugin wishes, else none.
    pub order_by: Option<OrderBy>,
    /// Calls at once: 1 to 64. Ordered by `seq`, it is one at a time whatever stands here.
    #[serde(deserialize_with = "concurrency")]
    pub concurrency: usize,
    /// In place of the subscriptions that the plugin describes, and with the same bounds.
    #[serde(deserialize_with = "subscriptions")]
    pub subscriptions: Option<Vec<EventFilter>>,
    /// A filter plugin to ask before each call of this handler.
    pub filter: Option<Name>,
    /// That filter's parameters.
    #[serde(deserialize_with = "params")]
    pub filter_params: Option<Value>,
    /// What an error, a fault or the absence of a filter means.
    pub on_error: OnError,
    /// A file of the plugin directory that is to be compared with this one on live events: see [`super::registry::Shadow`].
    pub shadow: Option<ShadowFile>,
    /// How failures are tried again.
    pub retry: Retry,
    /// Where a handler without a cursor begins.
    pub start: Start,
    /// What it may do; absent: see [`super::grants::Grants`].
    pub grants: Option<Grants>,
    /// Its settings; see [`Manifest::config_texts`].
    #[serde(deserialize_with = "config")]
    pub config: BTreeMap<String, Value>,
    /// In place of the default limits.
    pub limits: LimitsOverride,
    /// In place of both: not of the file, but what the operator said over the API, which outlives what the file says.
    #[serde(skip)]
    pub limits_override: LimitsOverride,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            enabled: true,
            isolation: None,
            order_by: None,
            concurrency: 4,
            subscriptions: None,
            filter: None,
            filter_params: None,
            on_error: OnError::default(),
            shadow: None,
            retry: Retry::default(),
            start: Start::default(),
            grants: None,
            config: BTreeMap::new(),
            limits: LimitsOverride::default(),
            limits_override: LimitsOverride::default(),
        }
    }
}

/// Whether instances are kept from call to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A new instance for each call: nothing leaks from event to event.
    #[default]
    Fresh,
    /// Instances are kept and reused, for languages that start slowly.
    Reuse,
}

/// Which events of a handler are handled one after another, in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// All of them.
    Seq,
    /// Those with the same correlation id.
    CorrelationId,
    /// Those of the same source.
    Source,
}

/// What it means that a filter gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The event does not pass.
    #[default]
    Closed,
    /// The event passes.
    Open,
}

/// A file beside the plugin's own, `NAME.wasm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowFile(pub Name);

impl<'de> Deserialize<'de> for ShadowFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = text.strip_suffix(".wasm").and_then(|stem| stem.parse().ok());
        let expected = &"a file of the plugin directory, such as \"x-next.wasm\"";
        name.map(Self).ok_or_else(|| Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

/// How failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries before an event is dead-lettered, the first one included: 1 to 100.
    #[serde(deserialize_with = "attempts")]
    pub attempts: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5 }
    }
}

/// Where a handler without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// `"latest"`: with what comes after it was first loaded.
    #[default]
    Latest,
    /// `"earliest"`: with the oldest event that is retained.
    Earliest,
    /// A number: with the event of this seq, or the oldest after it that is retained.
    Seq(u64),
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = &"\"latest\", \"earliest\" or a seq of at least 1";
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "latest" => Ok(Self::Latest),
            Value::String(text) if text == "earliest" => Ok(Self::Earliest),
            Value::String(text) => Err(Error::invalid_value(Unexpected::Str(&text), expected)),
            other => match other.as_u64() {
                Some(seq) if seq > 0 => Ok(Self::Seq(seq)),
                _ => Err(Error::invalid_value(Unexpected::Other(&other.to_string()), expected)),
            },
        }
    }
}

/// What a plugin may do: only what is listed, and the log, the clock and random numbers unless they are taken away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Globs of the types that it may publish.
    #[serde(deserialize_with = "filter::read_globs")]
    pub publish: Vec<Glob>,
    /// Whether it may use its namespace of the store.
    pub kv: bool,
    /// Globs of the settings that it may read.
    #[serde(deserialize_with = "filter::read_globs")]
    pub config: Vec<Glob>,
    /// False: its log lines are dropped.
    pub log: bool,
    /// False: its clocks stand still.
    pub clock: bool,
    /// False: its random numbers are the same in each instance.
    pub random: bool,
}

impl Default for Grants {
    fn default() -> Self {
        Self { publish: Vec::new(), kv: false, config: Vec::new(), log: true, clock: true, random: true }
    }
}

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field}: {problem}")]
pub struct ManifestError {
    /// Counted from 1.
    pub line: usize,
    /// Dotted path of the field, as far as it can be told.
    pub field: String,
    /// What was expected and found.
    pub problem: String,
}

/// Reads a part of a sidecar that may have mistakes elsewhere. `None`: the text is not TOML, lacks
/// the part, or nests deeper than any sidecar may.
pub(super) fn read_part<T: DeserializeOwned>(text: &str) -> Option<T> {
    if nesting::too_deep(text).is_some() {
        return None;
    }
    toml::from_str(text).ok()
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The first mistake, with its line.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_MANIFEST_BYTES {
            let problem = format!("expected at most {MAX_MANIFEST_BYTES} bytes, found {}", text.len());
            return Err(ManifestError { line: 1, field: "the file".into(), problem });
        }
        if let Some(line) = nesting::too_deep(text) {
            let problem = format!("expected at most {} levels of nesting, found more", nesting::MAX_NESTING);
            return Err(ManifestError { line, field: "the file".into(), problem });
        }
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            ManifestError { line, field: field_at(text, line), problem: error.message().trim().replace('\n', ", ") }
        })?;
        if manifest.filter_params.is_some() && manifest.filter.is_none() {
            let line = 1 + text.lines().position(|line| line.contains("filter_params")).unwrap_or(0);
            let problem = "expected `filter`, the plugin that these are for, found none".into();
            return Err(ManifestError { line, field: "filter_params".into(), problem });
        }
        Ok(manifest)
    }

    /// Reads a plugin's sidecar. An empty one is most likely being written, and would allow all
    /// that a plugin asks for.
    ///
    /// # Errors
    /// As [`Manifest::parse`], and for an empty file.
    pub fn of_sidecar(text: &str) -> Result<Self, ManifestError> {
        if is_blank(text) {
            let problem = "expected a setting or a comment, found an empty file; for the defaults, remove it and reload the plugin";
            return Err(ManifestError { line: 1, field: "the file".into(), problem: problem.into() });
        }
        Self::parse(text)
    }

    /// The settings as a plugin reads them: strings as they are, everything else as JSON text.
    pub fn config_texts(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.config.iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }
}

/// Whether a sidecar is empty. A comment is enough to say that someone has written it.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// The key of a line and the table it stands in. The parser knows it, but does not tell.
fn field_at(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let header =
        |line: &&str| line.trim_start().strip_prefix('[').map(|rest| rest.trim_matches(['[', ']', ' ']).to_owned());
    let table = lines.iter().rev().find_map(header);
    let key = lines.last().and_then(|line| line.split_once('=')).map(|(key, _)| key.trim().to_owned());
    match (table, key) {
        (Some(table), Some(key)) => format!("{table}.{key}"),
        (one, other) => one.or(other).unwrap_or_else(|| "the file".into()),
    }
}

fn concurrency<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    Ok(within(i64::deserialize(input)?, 1..=64)? as usize)
}

fn attempts<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    Ok(within(i64::deserialize(input)?, 1..=100)? as u32)
}

fn within<E: Error>(value: i64, allowed: RangeInclusive<i64>) -> Result<i64, E> {
    let expected = format!("{} to {}", allowed.start(), allowed.end());
    if allowed.contains(&value) {
        Ok(value)
    } else {
        Err(E::invalid_value(Unexpected::Signed(value), &expected.as_str()))
    }
}

fn subscriptions<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<EventFilter>>, D::Error> {
    let read = Vec::<EventFilter>::deserialize(input)?;
    let read: Vec<_> =
        read.into_iter().map(EventFilter::normalised).collect::<Result<_, _>>().map_err(Error::custom)?;
    filter::check_subscriptions(&read).map_err(Error::custom)?;
    Ok(Some(read))
}

fn config<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, Value>, D::Error> {
    let values = BTreeMap::<String, toml::Value>::deserialize(input)?;
    Ok(values.into_iter().map(|(key, value)| (key, json(value))).collect())
}

fn params<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Value>, D::Error> {
    toml::Value::deserialize(input).map(|value| Some(json(value)))
}

fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, json(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Limits;
    use std::time::Duration;

    #[test]
    fn values_that_nest_thousands_of_levels_are_refused_and_overflow_no_stack() {
        // Each bracket and each dotted key is within the bounds of the parser.
        let deep = format!("[config]\nx = {}1{}", format!("{{ {}a = ", "b.".repeat(70)).repeat(70), "}".repeat(70));
        let error = Manifest::parse(&deep).unwrap_err();
        assert_eq!(error.to_string(), "line 2: the file: expected at most 100 levels of nesting, found more");
        assert!(read_part::<toml::Table>(&deep).is_none());
    }

    #[test]
    fn globs_that_would_take_much_work_for_each_event_are_refused() {
        let globs = |count: usize| (0..count).map(|n| format!("\"*{}{n:04}\", ", "?".repeat(250))).collect::<String>();
        for field in ["grants]\npublish", "grants]\nconfig", "[subscriptions]]\nevent_types"] {
            let read = |globs: String| Manifest::parse(&format!("[{field} = [{globs}]"));
            assert!(read(globs(64)).is_ok(), "{field}");
            for (globs, problem) in [
                (
                    globs(65),
                    "expected globs of at most 256 words of 64 characters (literals, `prefix*` and `*suffix` count none), found 260",
                ),
                ("\"a\", ".repeat(257), "expected at most 256 entries, found 257"),
            ] {
                let error = read(globs).unwrap_err();
                assert!(error.problem.contains(problem), "{field}: {error}");
            }
        }
        let many = |count| {
            Manifest::parse(
                &"[[subscriptions]]\nrequired_tags = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"]\n"
                    .repeat(count),
            )
        };
        assert!(many(256).is_ok());
        assert_eq!(many(257).unwrap_err().problem, "expected at most 256, found 257");
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Manifest::parse("# nothing").unwrap(), Manifest::default());
    }

    #[test]
    fn an_empty_sidecar_is_refused() {
        for text in ["", "\n \t\n"] {
            let error = Manifest::of_sidecar(text).unwrap_err().to_string();
            assert!(error.contains("expected a setting or a comment, found an empty file"), "{error}");
        }
        for text in ["enabled = true", "# nothing to grant\n"] {
            assert_eq!(Manifest::of_sidecar(text).unwrap(), Manifest::default(), "{text}");
        }
    }

    #[test]
    fn every_field_is_read() {
        let manifest = Manifest::parse(
            r#"
            enabled = false
            isolation = "reuse"
            order_by = "correlation_id"
            concurrency = 8
            subscriptions = [{ event_types = ["task.*"], excluded_tags = ["test"] }]
            filter = "tagged"
            filter_params = { tag = "urgent", n = 1 }
            on_error = "open"
            shadow = "x-next.wasm"
            start = "earliest"
            retry.attempts = 3
            [grants]
            publish = ["alert.*"]
            kv = true
            config = ["url"]
            clock = false
            [config]
            url = "http://x"
            limit = 5
            list = [1, "a"]
            [limits]
            deadline = "250ms"
            fuel = 1_000_000
            memory = "16MiB"
            outbox_events = 4
            outbox_bytes = "8KiB"
            emit_rate = 50
            kv_keys = 7
            boundary_bytes = "1MiB"
            "#,
        )
        .unwrap();
        assert_eq!((manifest.enabled, manifest.isolation), (false, Some(Isolation::Reuse)));
        assert_eq!((manifest.order_by, manifest.concurrency), (Some(OrderBy::CorrelationId), 8));
        assert_eq!(manifest.subscriptions.as_ref().unwrap()[0].excluded_tags, ["test"]);
        assert_eq!(manifest.filter_params.as_ref().unwrap().to_string(), r#"{"n":1,"tag":"urgent"}"#);
        assert_eq!((manifest.on_error, manifest.start, manifest.retry.attempts), (OnError::Open, Start::Earliest, 3));
        assert_eq!(manifest.shadow, Some(ShadowFile("x-next".parse().unwrap())));
        let grants = manifest.grants.as_ref().unwrap();
        assert_eq!((grants.publish[0].as_str(), grants.log, grants.clock), ("alert.*", true, false));
        let config: Vec<_> = manifest.config_texts().iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(config, ["limit=5", "list=[1,\"a\"]", "url=http://x"]);
        let limits = manifest.limits.over(Limits::HANDLER);
        assert_eq!((limits.deadline, limits.fuel, limits.memory), (Duration::from_millis(250), 1_000_000, 16 << 20));
        assert_eq!((limits.outbox_events, limits.outbox_bytes, limits.emit_rate), (4, 8 << 10, 50));
        assert_eq!((limits.kv_keys, limits.boundary_bytes, limits.kv_bytes), (7, 1 << 20, 1 << 20));
    }

    #[track_caller]
    fn refused(text: &str, line: usize, field: &str, problem: &str) {
        let error = Manifest::parse(text).expect_err("should be refused");
        assert_eq!((error.line, error.field.as_str()), (line, field), "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }

    #[test]
    fn mistakes_name_line_field_expected_and_found() {
        refused("enabled = true\nconcurrency = 65", 2, "concurrency", "integer `65`, expected 1 to 64");
        refused("\n[grants]\nkv = \"yes\"", 3, "grants.kv", "string \"yes\", expected a boolean");
        refused("[grants]\nfiles = true", 2, "grants.files", "unknown field `files`, expected one of `publish`");
        refused("[limits]\ndeadline = \"1h\"", 2, "limits.deadline", "string \"1h\", expected \"1ms\" to \"60s\"");
        refused("[limits]\nmemory = \"1TiB\"", 2, "limits.memory", "expected \"64KiB\" to \"4GiB\"");
        refused("[limits]\nemit_rate = 0", 2, "limits.emit_rate", "integer `0`, expected 1 to 1000000");
        refused("[limits]\nhandles = 1.5", 2, "limits.handles", "floating point `1.5`, expected 16 to 10000");
        refused("[limits]\nmemories = 9", 2, "limits.memories", "integer `9`, expected 0 to 8");
        refused("[limits]\nspeed = 9", 2, "limits.speed", "unknown field `speed`, expected one of `deadline`");
        refused("[retry]\nattempts = 0", 2, "retry.attempts", "expected 1 to 100");
        refused("isolation = \"hard\"", 1, "isolation", "unknown variant `hard`, expected `fresh` or `reuse`");
        refused("filter = \"../x\"", 1, "filter", "found \"../x\"");
        refused("shadow = \"../x.wasm\"", 1, "shadow", "expected a file of the plugin directory");
        refused("filter_params = {}", 1, "filter_params", "expected `filter`");
        refused("enabled = ", 1, "enabled", "expected");
    }
}
