//! The event that comes in and the event that goes out. Pure: it knows JSON, but not the host.

use crate::bindings::handler::busway::plugin::types as wit;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::fmt;

pub use wit::Metadata;

/// One event as it stands in the hub's log.
///
/// ```
/// # use busway_plugin::{Event, serde_json::json};
/// # use busway_plugin::serde::Deserialize;
/// #[derive(Deserialize)]
/// #[serde(crate = "busway_plugin::serde")]
/// struct Task {
///     task_id: String,
/// }
///
/// let event = Event::new("task.started", json!({ "task_id": "t-1" }));
/// let task: Task = event.data()?;
/// assert_eq!(task.task_id, "t-1");
/// # Ok::<(), busway_plugin::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in the hub's log: 1, 2, 3 … without gaps. 0 for an event that is not in a log.
    pub seq: u64,
    /// Dotted and open, for example `task.created`.
    pub event_type: String,
    /// Id, time, tags and the rest, written by the host.
    pub metadata: Metadata,
    data: String,
}

impl Event {
    /// An event that is in no log, for tests. Its id is `test`, its time 1970, all else empty.
    pub fn new(event_type: impl Into<String>, data: Value) -> Self {
        let metadata = Metadata {
            event_id: "test".into(),
            timestamp: 0,
            correlation_id: None,
            causation_id: None,
            source: None,
            tags: Vec::new(),
            hops: 0,
            extensions: Vec::new(),
        };
        Self { seq: 0, event_type: event_type.into(), metadata, data: data.to_string() }
    }

    /// As [`Event::new`], with the data as JSON text: numbers stay as they are written.
    pub fn from_text(event_type: impl Into<String>, data: &str) -> Result<Self, DataError> {
        let data: &RawValue = serde_json::from_str(data).map_err(DataError)?;
        Ok(Self { data: data.get().to_owned(), ..Self::new(event_type, Value::Null) })
    }

    /// The data as a type of yours. It may borrow text from the event, and [`RawValue`]s.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DataError> {
        serde_json::from_str(&self.data).map_err(DataError)
    }

    /// The data as any JSON value. Of a number that is neither whole nor short enough for an `f64`
    /// it keeps an approximation: see [the crate's documentation](crate#numbers).
    pub fn json(&self) -> Result<Value, DataError> {
        self.data()
    }

    /// The data as the JSON text that the publisher wrote.
    pub fn text(&self) -> &str {
        &self.data
    }

    /// Whether the event has the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.metadata.tags.iter().any(|t| t == tag)
    }

    /// What ties the event to others, if anything.
    pub fn correlation_id(&self) -> Option<&str> {
        self.metadata.correlation_id.as_deref()
    }

    /// When it happened, as the hub writes it: `2026-11-22T07:35:00.123456Z`.
    pub fn time(&self) -> String {
        rfc3339(self.metadata.timestamp)
    }
}

impl From<wit::Event> for Event {
    fn from(event: wit::Event) -> Self {
        Self { seq: event.seq, event_type: event.type_, metadata: event.metadata, data: event.data }
    }
}

/// An event to publish. The host adds id, time, source and causation.
///
/// ```
/// # use busway_plugin::{NewEvent, serde_json::json};
/// let event = NewEvent::new("task.timed").data(&json!({ "duration_ms": 1250 }))?.tag("timing");
/// # Ok::<(), busway_plugin::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// 1 to 255 bytes; must match what the handler said it emits.
    pub event_type: String,
    /// At most 64, each at most 128 bytes. Those of the event being handled are not inherited.
    pub tags: Vec<String>,
    /// None: inherits that of the event being handled.
    pub correlation_id: Option<String>,
    /// Named values beside the data, each JSON text; at most 64.
    pub extensions: Vec<(String, String)>,
    data: String,
}

impl NewEvent {
    /// An event with the data `null` and without tags.
    pub fn new(event_type: impl Into<String>) -> Self {
        Self {
            event_type: event_type.into(),
            tags: Vec::new(),
            correlation_id: None,
            extensions: Vec::new(),
            data: "null".into(),
        }
    }

    /// Sets the data; at most 1 MiB of JSON, and 256 KiB for all that one call publishes.
    pub fn data<T: Serialize + ?Sized>(mut self, data: &T) -> Result<Self, DataError> {
        self.data = serde_json::to_string(data).map_err(DataError)?;
        Ok(self)
    }

    /// Sets the data to JSON text that exists already, for example [`Event::text`]. The host checks it.
    pub fn text(mut self, json: impl Into<String>) -> Self {
        self.data = json.into();
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds tags, for example those of the event being handled.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Ties it to other events than the one being handled is tied to.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// Adds a named value beside the data. Name: 1 to 64 bytes out of `a-z A-Z 0-9 _ . -`.
    pub fn extension<T: Serialize + ?Sized>(mut self, name: impl Into<String>, value: &T) -> Result<Self, DataError> {
        self.extensions.push((name.into(), serde_json::to_string(value).map_err(DataError)?));
        Ok(self)
    }

    /// The data as any JSON value, for tests.
    pub fn json(&self) -> Result<Value, DataError> {
        serde_json::from_str(&self.data).map_err(DataError)
    }

    /// The data as JSON text, for tests.
    pub fn as_text(&self) -> &str {
        &self.data
    }
}

impl From<NewEvent> for wit::NewEvent {
    fn from(event: NewEvent) -> Self {
        Self {
            type_: event.event_type,
            data: event.data,
            tags: event.tags,
            correlation_id: event.correlation_id,
            extensions: event.extensions,
        }
    }
}

// The way back is for native tests, whose host is handed what a real one would be.
impl From<wit::NewEvent> for NewEvent {
    fn from(event: wit::NewEvent) -> Self {
        Self {
            event_type: event.type_,
            data: event.data,
            tags: event.tags,
            correlation_id: event.correlation_id,
            extensions: event.extensions,
        }
    }
}

/// The data of an event is not what the plugin takes it for, or what it wants to publish is not JSON.
#[derive(Debug)]
pub struct DataError(serde_json::Error);

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data: {}", self.0)
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Microseconds since 1970 as RFC 3339 text in UTC. (Days to a date: H. Hinnant, "chrono-compatible low-level date algorithms".)
fn rfc3339(micros: u64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // A year begins in March here, so that the leap day is its last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn time_is_rfc3339_in_utc() {
        let check = |micros, text| assert_eq!(rfc3339(micros), text);
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_767_225_599_999_999, "2025-12-31T23:59:59.999999Z");
        check(1_795_332_900_123_456, "2026-11-22T07:35:00.123456Z");
    }

    #[test]
    fn data_may_borrow_from_the_event() {
        let event = Event::new("a", json!(["x", "y"]));
        assert_eq!(event.data::<Vec<&str>>().expect("strings"), ["x", "y"]);
    }

    #[test]
    fn an_error_says_that_the_data_is_wrong() {
        let error = Event::new("a", json!("text")).data::<u32>().expect_err("not a number");
        assert!(error.to_string().starts_with("data: invalid type"), "{error}");
    }

    #[test]
    fn a_new_event_holds_what_it_was_given() {
        let event = NewEvent::new("a.b")
            .data(&json!({ "n": 1 }))
            .and_then(|e| e.tag("x").tags(["y"]).correlation_id("c").extension("subject", "s"))
            .expect("JSON");
        let event = wit::NewEvent::from(event);
        assert_eq!((event.type_.as_str(), event.data.as_str()), ("a.b", r#"{"n":1}"#));
        assert_eq!(event.tags, ["x", "y"]);
        assert_eq!(event.correlation_id.as_deref(), Some("c"));
        assert_eq!(event.extensions, [("subject".to_string(), r#""s""#.to_string())]);
    }

    #[test]
    fn a_new_event_without_data_holds_null() {
        assert_eq!(wit::NewEvent::from(NewEvent::new("a")).data, "null");
    }
}
