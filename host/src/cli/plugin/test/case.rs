//! What a test's file says. A mistake in it is told with its line and what was expected: a key that is misspelt must not be a test
//! that passes.

use crate::event::{Event, NewEvent};
use crate::plugin::FaultCode;
use chrono::{DateTime, Duration, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One test.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) description: String,
    pub(super) config: Map<String, Value>,
    pub(super) kv: Vec<(String, String)>,
    pub(super) params: Option<Value>,
    pub(super) events: Vec<Event>,
    /// One for each event; all of them empty, where the file expects nothing yet.
    pub(super) expect: Vec<Expectation>,
    /// Where they stand in the file.
    pub(super) expect_text: Option<&'a str>,
    pub(super) max_fuel: Option<u64>,
    pub(super) max_memory: Option<u64>,
    pub(super) max_time_ms: Option<u64>,
}

/// What is to come of one event: only what is listed matters.
pub(super) type Expectation = Map<String, Value>;

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct Mistake {
    line: usize,
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(default)]
    description: String,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    kv: BTreeMap<String, Value>,
    #[serde(default)]
    params: Option<Value>,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    expect: Option<&'a RawValue>,
    max_fuel: Option<u64>,
    max_memory: Option<u64>,
    max_time_ms: Option<u64>,
}

/// Only for what it refuses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the sake of its errors")]
struct Known {
    emitted: Option<Vec<Emitted>>,
    verdict: Option<bool>,
    logs: Option<Vec<Value>>,
    failure: Option<Failure>,
    fault: Option<String>,
    not_asked: Option<bool>,
    kv: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the sake of its errors")]
struct Emitted {
    #[serde(rename = "type")]
    event_type: Option<String>,
    data: Option<Value>,
    tags: Option<Vec<String>>,
    correlation_id: Option<String>,
    extensions: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the sake of its errors")]
struct Line {
    level: Option<Level>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for the sake of its errors")]
struct Failure {
    kind: Option<FailureKind>,
    message: Option<String>,
    retry_after_ms: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FailureKind {
    Retry,
    Reject,
    Error,
}

impl<'a> Case<'a> {
    /// Reads a file.
    pub(super) fn parse(text: &'a str) -> Result<Self, Mistake> {
        let wire: Wire<'a> = serde_json::from_str(text).map_err(|error| mistake(1, &error))?;
        let mut events = Vec::new();
        for (index, raw) in wire.events.iter().enumerate() {
            events
                .push(event(index, raw.get()).map_err(|problem| Mistake { line: line_of(text, raw.get()), problem })?);
        }
        let mut expect = Vec::new();
        if let Some(raw) = wire.expect {
            let line = line_of(text, raw.get());
            let each: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|error| mistake(line, &error))?;
            if each.len() != events.len() {
                let problem = format!("expect: expected one for each of {} events, found {}", events.len(), each.len());
                return Err(Mistake { line, problem });
            }
            for one in each {
                expect.push(expectation(one.get(), line_of(text, one.get()))?);
            }
        }
        expect.resize(events.len(), Expectation::new());
        let kv = wire.kv.into_iter().map(|(key, value)| (key, super::compare::text_of(value)));
        Ok(Self {
            description: wire.description,
            config: wire.config,
            kv: kv.collect(),
            params: wire.params,
            events,
            expect,
            expect_text: wire.expect.map(RawValue::get),
            max_fuel: wire.max_fuel,
            max_memory: wire.max_memory,
            max_time_ms: wire.max_time_ms,
        })
    }
}

/// Where `part`, a piece of `text`, begins.
fn line_of(text: &str, part: &str) -> usize {
    let at = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// `first` is the line where what was read begins.
fn mistake(first: usize, error: &serde_json::Error) -> Mistake {
    let told = error.to_string();
    let problem = told.rsplit_once(" at line ").map_or(told.as_str(), |(problem, _)| problem).to_owned();
    Mistake { line: first + error.line().saturating_sub(1), problem }
}

/// What an event leaves out is the same in each run: its id is `event-1`, its time a second after that of the one before.
fn event(index: usize, text: &str) -> Result<Event, String> {
    let told = |error: crate::event::EventError| format!("events/{index}: {error}");
    let mut event = NewEvent::from_json(text).map_err(told)?;
    if !event.is_identified() {
        event = event.event_id(format!("event-{}", index + 1));
    }
    let form: Value = serde_json::from_str(text).unwrap_or_default();
    if form.pointer("/metadata/timestamp").is_none_or(Value::is_null) {
        event = event.timestamp(DateTime::<Utc>::UNIX_EPOCH + Duration::seconds(FIRST + index as i64));
    }
    event.admit().map_err(told)
}

/// 2026-01-01T00:00:00Z.
const FIRST: i64 = 1_767_225_600;

fn expectation(text: &str, line: usize) -> Result<Expectation, Mistake> {
    let known: Known = serde_json::from_str(text).map_err(|error| mistake(line, &error))?;
    let refuse = |problem: String| Err(Mistake { line, problem });
    if let Some(code) = &known.fault
        && !FaultCode::ALL.iter().any(|known| known.as_str() == code)
    {
        let codes: Vec<_> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
        return refuse(format!("fault: expected one of {}, found {code:?}", codes.join(", ")));
    }
    for line in known.logs.iter().flatten().filter(|line| !line.is_string()) {
        if let Err(error) = serde_json::from_value::<Line>(line.clone()) {
            return refuse(format!("logs: expected a text or {{\"level\", \"message\"}}, found {line}: {error}"));
        }
    }
    serde_json::from_str(text).map_err(|error| mistake(line, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, line: usize, problem: &str) {
        let mistake = Case::parse(text).expect_err("should be refused");
        assert!(mistake.line == line && mistake.problem.contains(problem), "{mistake}");
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_was_expected() {
        refused("{\n \"evnts\": []}", 2, "unknown field `evnts`, expected one of `description`");
        refused("{}", 1, "missing field `events`");
        refused("{\"events\": [{\"type\": \"a\"},\n {\"type\": \"\"}]}", 2, "events/1: type: expected");
        refused("{\"events\": [\n{\"type\": \"a\", \"tags\": []}]}", 2, "unknown field `tags`");
        let expect = |text: &str| format!("{{\"events\": [{{\"type\": \"a\"}}],\n \"expect\": [\n {text}]}}");
        refused(&expect("{\"emited\": []}"), 3, "unknown field `emited`, expected one of `emitted`, `verdict`");
        refused(&expect("{\"emitted\": [{\n\"tag\": []}]}"), 4, "unknown field `tag`, expected one of `type`");
        refused(&expect("{}, {}"), 2, "expected one for each of 1 events, found 2");
        refused(&expect("{\"fault\": \"fule\"}"), 3, "fault: expected one of fuel, deadline");
        refused(&expect("{\"logs\": [7]}"), 3, "logs: expected a text or {\"level\", \"message\"}, found 7");
        refused(&expect("{\"logs\": [{\"level\": \"loud\"}]}"), 3, "expected one of `trace`");
        refused(&expect("{\"failure\": {\"kind\": \"later\"}}"), 3, "unknown variant `later`");
    }

    #[test]
    fn what_an_event_leaves_out_is_the_same_in_each_run() {
        let text =
            r#"{"events": [{"type": "a"}, {"type": "b", "metadata": {"event_id": "x"}}], "kv": {"n": 7, "t": "x"}}"#;
        let case = Case::parse(text).unwrap();
        let [first, second] = &case.events[..] else { panic!("two events") };
        assert_eq!((&*first.metadata.event_id, &*second.metadata.event_id), ("event-1", "x"));
        assert_eq!(first.metadata.timestamp.to_rfc3339(), "2026-01-01T00:00:00+00:00");
        assert_eq!(second.metadata.timestamp - first.metadata.timestamp, Duration::seconds(1));
        assert_eq!(case.kv, [("n".into(), "7".into()), ("t".into(), "x".into())]);
        assert_eq!((case.expect.len(), case.expect_text), (2, None));
    }
}
