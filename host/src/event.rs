//! The event: what publishers hand in ([`NewEvent`]), what the log keeps ([`Event`]), and the one JSON form of it.
//!
//! Knows nothing of logs, plugins or sockets. [`filter`] decides which events somebody wants, [`types`] names the
//! well-known types, [`bounds`] and [`json`] check what is handed in. Start reading at [`NewEvent::admit`], the door that
//! every event goes through.

mod bounds;
pub mod filter;
pub mod glob;
pub mod json;
pub mod time;
pub mod turn;
pub mod types;
pub mod unique;

pub use filter::EventFilter;
pub use glob::Glob;

use chrono::{DateTime, Timelike, Utc};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use uuid::{ContextV7, Timestamp, Uuid};

/// Longest event type, source, correlation id, causation id and event id, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Most tags of one event.
pub const MAX_TAGS: usize = 64;
/// Longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 128;
/// Most extensions of one event.
pub const MAX_EXTENSIONS: usize = 64;
/// Longest name of an extension, in bytes.
pub const MAX_EXTENSION_NAME_BYTES: usize = 64;
/// Largest data of one event, in bytes of JSON text.
pub const MAX_DATA_BYTES: usize = 1 << 20;
/// Deepest nesting of data and extensions: what `serde_json` reads back by default.
pub const MAX_DATA_DEPTH: usize = 127;

/// Extension attributes by name; the values are JSON text.
pub type Extensions = BTreeMap<String, Box<RawValue>>;

/// An event as the log keeps it: immutable once it has a `seq` (invariant I3).
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Position in the hub's log: 1, 2, 3 … without gaps; 0 before it is in a log.
    pub seq: u64,
    /// Dotted and open, for example `task.created`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The publisher's JSON text, unchanged but for line breaks between tokens.
    pub data: Box<RawValue>,
    /// What the hub knows of the event besides its data.
    pub metadata: Metadata,
}

/// What the hub knows of an event besides its data. Names that events have in common are shared: an event that a plugin emits has those
/// of its cause.
#[derive(Debug, Clone, Serialize)]
pub struct Metadata {
    /// Unique together with `source`; a UUIDv7 (RFC 9562) unless the publisher gave one.
    pub event_id: Arc<str>,
    /// UTC; written with microseconds.
    #[serde(serialize_with = "time::write")]
    pub timestamp: DateTime<Utc>,
    /// Ties a reply, or everything that one request set off, together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Arc<str>>,
    /// Who published it; `plugin/<name>` where a plugin did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// Labels without repeats, in the publisher's order.
    pub tags: Vec<String>,
    /// The `event_id` of the event that made a plugin emit this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Arc<str>>,
    /// How many plugins the chain of causes has gone through.
    pub hops: u32,
    /// The seqs of its ancestors: the event from outside first, its direct cause last; empty if it is from outside itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<u64>,
    /// Other named values that came with the event, such as CloudEvents extension attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: Extensions,
}

impl Event {
    /// The bytes that the event weighs in memory bounds: its texts, and 256 for what holds them.
    #[inline]
    pub fn weight(&self) -> usize {
        let meta = &self.metadata;
        let texts = [&meta.correlation_id, &meta.source, &meta.causation_id];
        256 + self.event_type.len()
            + self.data.get().len()
            + meta.event_id.len()
            + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>()
            + meta.tags.iter().map(|tag| tag.len() + 24).sum::<usize>()
            + meta.extensions.iter().map(|(name, value)| name.len() + value.get().len() + 64).sum::<usize>()
    }

    /// Makes it part of what `cause` brought about: its id, its correlation id unless there is one, one hop more, and the way here.
    pub(crate) fn give_cause(&mut self, cause: &Self) {
        let (meta, cause_meta) = (&mut self.metadata, &cause.metadata);
        meta.causation_id = Some(Arc::clone(&cause_meta.event_id));
        if meta.correlation_id.is_none() {
            meta.correlation_id.clone_from(&cause_meta.correlation_id);
        }
        meta.hops = cause_meta.hops + 1;
        meta.chain.reserve_exact(cause_meta.chain.len() + 1);
        meta.chain.extend(cause_meta.chain.iter().copied().chain([cause.seq]));
    }

    /// The JSON form, the same on every way out of the hub.
    pub fn to_json(&self) -> String {
        // Strings, numbers and raw JSON only: nothing here can fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An event that a publisher hands in. What it leaves out, the hub writes.
#[derive(Debug, Clone)]
pub struct NewEvent {
    event_type: String,
    data: Box<RawValue>,
    metadata: NewMetadata,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NewMetadata {
    event_id: Option<Arc<str>>,
    timestamp: Option<time::Given>,
    correlation_id: Option<Arc<str>>,
    source: Option<Arc<str>>,
    tags: Vec<String>,
    causation_id: Option<Arc<str>>,
    #[serde(deserialize_with = "unique::map")]
    extensions: Extensions,
    /// Read and dropped, so that an event that came out of a hub can be published again.
    #[serde(rename = "hops")]
    _hops: Option<u32>,
    #[serde(rename = "chain")]
    _chain: Option<IgnoredAny>,
}

impl<'de> Deserialize<'de> for NewEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FromMap)
    }
}

/// Serde would also read an array, field by field in the order in which they stand in the source.
struct FromMap;

impl<'de> Visitor<'de> for FromMap {
    type Value = NewEvent;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NewEvent, A::Error> {
        let Wire { event_type, data, metadata, .. } = Wire::deserialize(MapAccessDeserializer::new(map))?;
        Ok(NewEvent { event_type, data: data.unwrap_or_else(|| RawValue::NULL.to_owned()), metadata })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    /// Read and dropped, as `hops` is.
    #[serde(default, rename = "seq")]
    _seq: Option<u64>,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    metadata: NewMetadata,
}

/// Why an event was not admitted: a stable `code`, the field, and what was expected and found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct EventError {
    /// Stable, for programs: `event.json`, `event.type`, `event.data` …
    pub code: &'static str,
    /// Path of the field, for example `metadata.tags[2]`.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl EventError {
    fn new(
        code: &'static str,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { code, field: field.into(), expected: expected.into(), found: found.into() }
    }
}

impl NewEvent {
    /// An event of `event_type` whose data is `null`.
    pub fn new(event_type: impl Into<String>) -> Self {
        Self::with_data(event_type.into(), RawValue::NULL.to_owned())
    }

    /// An event of `event_type` whose data is the JSON text it is.
    pub fn with_data(event_type: String, data: Box<RawValue>) -> Self {
        Self { event_type, data, metadata: NewMetadata::default() }
    }

    /// With `data`, serialised now.
    ///
    /// # Errors
    /// `event.data` if the value has no JSON form (a map whose keys are not strings, for example).
    pub fn data(self, data: impl Serialize) -> Result<Self, EventError> {
        let raw = serde_json::value::to_raw_value(&data).map_err(|error| {
            EventError::new("event.data", "data", "a value that has a JSON form", error.to_string())
        })?;
        Ok(self.raw_data(raw))
    }

    /// With `data` as the JSON text it is.
    pub fn raw_data(mut self, data: Box<RawValue>) -> Self {
        self.data = data;
        self
    }

    /// With an id of the publisher's own; unique together with the source.
    pub fn event_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.metadata.event_id = Some(id.into());
        self
    }

    /// With the time at which it happened, instead of the time at which the hub took it.
    pub fn timestamp(mut self, timestamp: DateTime<Utc>) -> Self {
        self.metadata.timestamp = Some(time::Given::Time(timestamp));
        self
    }

    /// With a correlation id.
    pub fn correlation_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.metadata.correlation_id = Some(id.into());
        self
    }

    /// With its publisher's name.
    pub fn source(mut self, source: impl Into<Arc<str>>) -> Self {
        self.metadata.source = Some(source.into());
        self
    }

    /// With these tags, and no others.
    pub fn tags(mut self, tags: Vec<String>) -> Self {
        self.metadata.tags = tags;
        self
    }

    /// With one more tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.metadata.tags.push(tag.into());
        self
    }

    /// With one more extension attribute.
    pub fn extension(mut self, name: impl Into<String>, value: Box<RawValue>) -> Self {
        self.metadata.extensions.insert(name.into(), value);
        self
    }

    /// Whether its publisher gave it an id, so that it may have come before.
    pub fn is_identified(&self) -> bool {
        self.metadata.event_id.is_some()
    }

    /// Its correlation id, if it has one.
    pub fn correlation(&self) -> Option<&Arc<str>> {
        self.metadata.correlation_id.as_ref()
    }

    /// Reads the JSON form. `seq`, `metadata.hops` and `chain` may be there and are ignored: the hub writes them.
    ///
    /// # Errors
    /// `event.json` with the place and the reason.
    pub fn from_json(text: &str) -> Result<Self, EventError> {
        serde_json::from_str(text).map_err(|error| {
            let expected = "an event object with `type`, `data`, `metadata`";
            EventError::new("event.json", "event", expected, error.to_string())
        })
    }

    /// Checks it as a publisher's from outside: as [`NewEvent::admit`], and no source that the hub writes itself.
    ///
    /// # Errors
    /// As [`NewEvent::admit`], and `event.source.reserved`.
    pub fn admit_from_outside(self) -> Result<Event, EventError> {
        if let Some(source) = &self.metadata.source
            && (&**source == "busway" || source.starts_with("plugin/"))
        {
            return Err(EventError::new(
                "event.source.reserved",
                "metadata.source",
                "a source other than `busway` and `plugin/…`, which the hub writes itself",
                bounds::quote(source),
            ));
        }
        self.admit()
    }

    /// Checks every bound and fills in what the publisher left out. `seq` stays 0 until the sequencer gives one.
    ///
    /// # Errors
    /// The first field that is out of bounds, with what was expected and found.
    pub fn admit(self) -> Result<Event, EventError> {
        let Self { event_type, data, metadata: meta } = self;
        bounds::name("event.type", "type", Some(&event_type))?;
        bounds::name("event.event_id", "metadata.event_id", meta.event_id.as_deref())?;
        bounds::name("event.correlation_id", "metadata.correlation_id", meta.correlation_id.as_deref())?;
        bounds::name("event.causation_id", "metadata.causation_id", meta.causation_id.as_deref())?;
        bounds::name("event.source", "metadata.source", meta.source.as_deref())?;
        let timestamp = meta
            .timestamp
            .map(time::Given::time)
            .transpose()
            .map_err(|found| EventError::new("event.timestamp", "metadata.timestamp", time::EXPECTED, found))?;
        let data = json::check("event.data", "data", data)?;
        // Read once: an id and a time that the hub writes are of one moment.
        let now = Utc::now();
        Ok(Event {
            seq: 0,
            event_type,
            data,
            metadata: Metadata {
                event_id: meta.event_id.unwrap_or_else(|| new_id(now)),
                timestamp: timestamp.map_or(now, without_leap_second),
                correlation_id: meta.correlation_id,
                source: meta.source,
                tags: bounds::tags(meta.tags)?,
                causation_id: meta.causation_id,
                hops: 0,
                chain: Vec::new(),
                extensions: bounds::extensions(meta.extensions)?,
            },
        })
    }
}

/// A leap second `:60` becomes the last moment of the second before it: journals count seconds that
/// have none, and an event must read the same from memory as from a journal.
fn without_leap_second(time: DateTime<Utc>) -> DateTime<Utc> {
    time.with_nanosecond(time.nanosecond().min(999_999_999)).unwrap_or(time)
}

/// A UUIDv7 of `now`, later than all before it even where the clock was set back.
fn new_id(now: DateTime<Utc>) -> Arc<str> {
    static LAST: Mutex<ContextV7> = Mutex::new(ContextV7::new());
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    let id = Uuid::new_v7(Timestamp::from_unix(&LAST, seconds, now.timestamp_subsec_nanos()));
    // Without the machinery of formatting, which takes longer than making the id.
    (&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(text: &str) -> Result<Event, EventError> {
        NewEvent::from_json(text)?.admit_from_outside()
    }

    #[track_caller]
    fn refused(text: &str, code: &str, field: &str) {
        let error = admit(text).expect_err("should be refused");
        assert_eq!((error.code, error.field.as_str()), (code, field), "{error}");
    }

    #[test]
    fn a_leap_second_is_read_as_it_will_be_read_from_a_journal() {
        let text = r#"{"type":"a","data":null,"metadata":{"timestamp":"2016-12-31T23:59:60.5Z"}}"#;
        let event = NewEvent::from_json(text).unwrap().admit().unwrap();
        let stored = DateTime::from_timestamp_micros(event.metadata.timestamp.timestamp_micros()).unwrap();
        let written = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        assert_eq!(written(event.metadata.timestamp), "2016-12-31T23:59:59.999999Z");
        assert_eq!(written(event.metadata.timestamp), written(stored));
    }

    #[test]
    fn the_json_form_goes_out_as_it_came_in() {
        let text = r#"{"type":"task.created","data":{"a":1.10,"ü":"\u00e9"},"metadata":{"event_id":"x","timestamp":"2026-11-22T07:35:00.123456Z","correlation_id":"c","source":"s","tags":["a","b"],"causation_id":"p","extensions":{"traceparent":"00-1"}}}"#;
        let mut event = admit(text).unwrap();
        event.seq = 7;
        assert_eq!(
            event.to_json(),
            r#"{"seq":7,"type":"task.created","data":{"a":1.10,"ü":"\u00e9"},"metadata":{"event_id":"x","timestamp":"2026-11-22T07:35:00.123456Z","correlation_id":"c","source":"s","tags":["a","b"],"causation_id":"p","hops":0,"extensions":{"traceparent":"00-1"}}}"#
        );
        assert_eq!(admit(&event.to_json()).unwrap().to_json().replace("\"seq\":0", "\"seq\":7"), event.to_json());
    }

    #[test]
    fn what_the_publisher_leaves_out_the_hub_writes() {
        let event = admit(r#"{"type":"x"}"#).unwrap();
        assert_eq!(Uuid::parse_str(&event.metadata.event_id).unwrap().get_version_num(), 7);
        assert_eq!(event.data.get(), "null");
        assert!(!event.to_json().contains("correlation_id"));
    }

    #[test]
    fn ids_are_of_their_time_and_in_order_even_when_the_clock_is_set_back() {
        let now = Utc::now();
        let ids = [now, now, now - chrono::TimeDelta::hours(1), DateTime::<Utc>::MIN_UTC].map(new_id);
        assert!(ids.is_sorted_by(|earlier, later| earlier < later), "{ids:?}");
        let event = admit(r#"{"type":"x"}"#).unwrap();
        let (seconds, nanos) = Uuid::parse_str(&event.metadata.event_id).unwrap().get_timestamp().unwrap().to_unix();
        let of_id = DateTime::from_timestamp(seconds.cast_signed(), nanos).unwrap();
        assert!((event.metadata.timestamp - of_id).num_milliseconds() <= 1, "{event:?}");
    }

    #[test]
    fn bad_input_names_the_field() {
        refused("[]", "event.json", "event");
        refused("{", "event.json", "event");
        refused(r#"{"type":"x","extra":1}"#, "event.json", "event");
        refused(r#"{"type":"x","metadata":{"sauce":1}}"#, "event.json", "event");
        refused(r#"{"type":""}"#, "event.type", "type");
        refused(&format!(r#"{{"type":"{}"}}"#, "x".repeat(256)), "event.type", "type");
        refused(r#"{"type":"a\nb"}"#, "event.type", "type");
        refused(r#"{"type":"x","metadata":{"tags":["a",""]}}"#, "event.tags", "metadata.tags[1]");
        refused(r#"{"type":"x","metadata":{"extensions":{"a b":1}}}"#, "event.extensions", "metadata.extensions");
        refused(
            r#"{"type":"x","metadata":{"timestamp":"+10000-01-01T00:00:00Z"}}"#,
            "event.timestamp",
            "metadata.timestamp",
        );
        refused(r#"{"type":"x","metadata":{"timestamp":"yesterday"}}"#, "event.timestamp", "metadata.timestamp");
        refused(r#"{"type":"x","metadata":{"timestamp":7}}"#, "event.json", "event");
        let late = NewEvent::new("x").timestamp(DateTime::<Utc>::MAX_UTC).admit().unwrap_err();
        assert_eq!(late.code, "event.timestamp", "{late}");
        refused(r#"{"type":"x","metadata":{"source":"plugin/a"}}"#, "event.source.reserved", "metadata.source");
        let deep = format!(r#"{{"type":"x","data":{}1{}}}"#, "[".repeat(65_000), "]".repeat(65_000));
        refused(&deep, "event.data", "data");
    }

    #[test]
    fn json_that_readers_would_differ_about_is_refused() {
        for text in [
            r#"{"type":"a","type":"b"}"#,
            r#"{"type":"a","data":1,"data":2}"#,
            r#"{"type":"a","metadata":{"source":"a","source":"b"}}"#,
            r#"{"type":"a","metadata":{"extensions":{"a":1,"\u0061":2}}}"#,
            r#"{"type":"\ud800"}"#,
            r#"{"type":"a","metadata":{"tags":["\udc00\ud800"]}}"#,
            "\u{feff}{\"type\":\"a\"}",
            r#"{"type":"a"} x"#,
            r#"{"type":"a"}{"type":"b"}"#,
            r#"{"type":"a","seq":18446744073709551616}"#,
            r#"{"type":"a","seq":-1}"#,
            r#"{"type":"a","seq":1e3}"#,
            r#"{"type":"a","data":nan}"#,
            r#"{"type":"a","data":01}"#,
            r#"{"type":"a","data":"\x"}"#,
        ] {
            refused(text, "event.json", "event");
        }
        // Allowed once.
        admit(r#"{"type":"a","metadata":{"extensions":{"a":1,"b":2}}}"#).unwrap();
    }

    /// What a number or a string in it means is for those who read it: the hub passes on the text.
    #[test]
    fn data_is_the_text_that_was_published() {
        for data in [
            "100.00",
            "1e999",
            "-0",
            "100000000000000000000000001",
            "0.1234567890123456789",
            r#""\ud800""#,
            r#"{"a":1,"a":2}"#,
        ] {
            let event =
                admit(&format!(r#"{{"type":"a","data":{data},"metadata":{{"extensions":{{"x":{data}}}}}}}"#)).unwrap();
            assert_eq!(event.data.get(), data);
            assert_eq!(event.metadata.extensions["x"].get(), data);
        }
    }

    #[test]
    fn tags_lose_their_repeats_and_keep_their_order() {
        let event = admit(r#"{"type":"x","metadata":{"tags":["b","a","b"]}}"#).unwrap();
        assert_eq!(event.metadata.tags, ["b", "a"]);
    }
}
