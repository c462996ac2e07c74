//! Runs a test, and says where what came of it is not what was expected.

use super::case::{Case, Expectation};
use super::compare::{against, aligned, first, goes_without_saying};
use super::diff;
use crate::cli::plugin::try_out::{self, Files, Memory, Outcome, changes, memory, not_asked, params};
use crate::event::Event;
use crate::plugin::{CallError, FailureKind, Kind, Transcript, Usage};
use serde_json::{Map, Value, json};

/// What came of a test.
pub(super) struct Checked {
    /// One for each event.
    pub(super) calls: Vec<Call>,
    pub(super) differences: Vec<Unlike>,
}

/// What came of an event, in the form of an expectation that lists everything.
pub(super) struct Call {
    pub(super) found: Expectation,
    /// Keys of which the value changed, with the value now; none where it was removed.
    pub(super) changed: Map<String, Value>,
    pub(super) usage: Usage,
    pub(super) is_filter: bool,
    /// Why it has no effects.
    error: Option<String>,
    /// Why there was no call.
    not_asked: Option<String>,
}

/// Where a call is not as it was expected.
pub(super) struct Unlike {
    /// From the beginning of the file: `/expect/0/emitted/0/type`, `/max_fuel`.
    pub(super) pointer: String,
    pub(super) problem: String,
    /// Of all that was expected of this call; nothing for a limit.
    pub(super) diff: Vec<diff::Line>,
}

pub(super) async fn run(files: &Files, case: &Case<'_>) -> anyhow::Result<Checked> {
    let mut manifest = files.manifest.clone();
    manifest.config.extend(case.config.clone());
    let version = files.load(manifest, &case.kv).await?;
    let params = params(&version, case.params.clone()).await?;
    let (mut calls, mut differences) = (Vec::new(), Vec::new());
    for (index, (event, expected)) in case.events.iter().zip(&case.expect).enumerate() {
        let call = if let Some(why) = not_asked(&version, event)? {
            Call::not_made(why, &memory(version.namespace())?)
        } else {
            let outcome = try_out::call(&version, event, 1, &params, Transcript::default()).await?;
            Call::of(&outcome, version.kind())?
        };
        differences.extend(unlike(index, event, expected, &call));
        differences.extend(over(index, case, &call.usage));
        calls.push(call);
    }
    Ok(Checked { calls, differences })
}

impl Call {
    fn of(outcome: &Outcome, kind: Kind) -> anyhow::Result<Self> {
        let is_filter = kind == Kind::Filter;
        let (mut failure, mut fault) = (Value::Null, Value::Null);
        match &outcome.error {
            Some(CallError::Fault(error)) => fault = error.code.as_str().into(),
            Some(CallError::Failure(error)) => {
                let kind = match error.kind {
                    _ if is_filter => "error",
                    FailureKind::Retry => "retry",
                    FailureKind::Reject => "reject",
                };
                failure = json!({"kind": kind, "message": error.message});
                if let Some(pause) = error.retry_after_ms {
                    failure["retry_after_ms"] = pause.into();
                }
            }
            None => {}
        }
        let emitted = outcome.emitted.iter().map(emitted).collect::<serde_json::Result<Vec<_>>>()?;
        let found = Map::from_iter([
            ("emitted".to_owned(), if is_filter { Value::Null } else { emitted.into() }),
            ("verdict".to_owned(), outcome.verdict.into()),
            ("failure".to_owned(), failure),
            ("fault".to_owned(), fault),
            ("not_asked".to_owned(), false.into()),
            ("logs".to_owned(), serde_json::to_value(&outcome.transcript.lines)?),
            ("kv".to_owned(), json!(outcome.after)),
        ]);
        let error = outcome.error.as_ref().map(ToString::to_string);
        let changed = changes(&outcome.before, &outcome.after);
        let changed = changed.into_iter().map(|(key, _, after)| (key.to_owned(), after.into())).collect();
        Ok(Self { found, changed, usage: outcome.transcript.usage, is_filter, error, not_asked: None })
    }

    /// A handler's that the hub would not make.
    fn not_made(why: String, kept: &Memory) -> Self {
        let found = [
            ("emitted", json!([])),
            ("verdict", Value::Null),
            ("failure", Value::Null),
            ("fault", Value::Null),
            ("not_asked", true.into()),
            ("logs", json!([])),
            ("kv", json!(kept)),
        ];
        let found = found.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let (changed, usage) = (Map::new(), Usage::default());
        Self { found, changed, usage, is_filter: false, error: None, not_asked: Some(why) }
    }
}

#[cfg(test)]
impl Call {
    /// One of which only the answer is known.
    pub(super) fn of_found(found: Expectation) -> Self {
        Self { found, changed: Map::new(), usage: Usage::default(), is_filter: false, error: None, not_asked: None }
    }
}

/// As the plugin handed it over: what the host adds varies.
fn emitted(event: &Event) -> serde_json::Result<Value> {
    let meta = &event.metadata;
    let mut form = json!({"type": event.event_type, "tags": meta.tags});
    form["data"] = serde_json::from_str(event.data.get())?;
    if let Some(id) = &meta.correlation_id {
        form["correlation_id"] = (&**id).into();
    }
    if !meta.extensions.is_empty() {
        form["extensions"] = serde_json::to_value(&meta.extensions)?;
    }
    Ok(form)
}

fn unlike(index: usize, event: &Event, expected: &Expectation, call: &Call) -> Option<Unlike> {
    let is_expected = expected.get("not_asked") == Some(&Value::Bool(true));
    if let Some(why) = call.not_asked.as_ref().filter(|_| !is_expected) {
        let problem = format!("event {} ({}): not asked: {why}", index + 1, event.event_type);
        return Some(Unlike { pointer: format!("/expect/{index}/not_asked"), problem, diff: Vec::new() });
    }
    let (expected, found) = aligned(expected, &call.found);
    let difference = first(&expected, &found, &format!("/expect/{index}"))?;
    let why = call.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
    let problem = format!(
        "event {} ({}): expected {}, found {}{why}",
        index + 1,
        event.event_type,
        diff::cut(&difference.expected),
        diff::cut(&difference.found)
    );
    let shown = against(&expected, &found);
    Some(Unlike { pointer: difference.pointer, problem, diff: diff::of(&without_none(expected), &without_none(shown)) })
}

fn without_none(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|key, value| !goes_without_saying(key, value));
    }
    value
}

fn over(index: usize, case: &Case<'_>, usage: &Usage) -> Vec<Unlike> {
    let time = usage.nanoseconds / 1_000_000;
    let limits = [
        ("max_fuel", case.max_fuel, usage.fuel),
        ("max_memory", case.max_memory, usage.memory as u64),
        ("max_time_ms", case.max_time_ms, time),
    ];
    let over = limits.into_iter().filter_map(|(name, most, found)| {
        let most = most.filter(|most| found > *most)?;
        let problem = format!("event {}: expected at most {most}, found {found}", index + 1);
        Some(Unlike { pointer: format!("/{name}"), problem, diff: Vec::new() })
    });
    over.collect()
}
