//! A shadow: a candidate that is asked what the active version of a plugin is asked, and of which nothing has any effect. What it would
//! have done is compared with what the active one did, and the differences are counted, with the latest of them to look at.
//!
//! Knows nothing of where the events come from.

mod diff;

pub use diff::Difference;

use super::fault::{CallError, FailureKind};
use super::instance::Usage;
use super::stats::Spread;
use crate::event::Event;
use crate::metrics::Histogram;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Events with differences that are kept to look at, the latest ones.
const EXAMPLES: usize = 16;
/// Differences that are kept of one event.
const DIFFERENCES: usize = 16;

/// What came of one call, as far as it can be seen from outside.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `ok`, `retry`, `reject`, the code of the fault that ended it, or `not asked`.
    pub ended: &'static str,
    /// A filter's.
    pub verdict: Option<bool>,
    /// A handler's, in order.
    pub emitted: Vec<Arc<Event>>,
    /// What the call used up, where it ended well.
    pub usage: Option<Usage>,
    /// Why it did not end well, for people; not compared.
    pub message: Option<String>,
}

impl Answer {
    /// Where a version does not want the event.
    pub fn not_asked() -> Self {
        Self { ended: "not asked", verdict: None, emitted: Vec::new(), usage: None, message: None }
    }

    /// Of a handler that published these.
    pub fn emitted(emitted: Vec<Arc<Event>>, usage: Usage) -> Self {
        Self { ended: "ok", emitted, usage: Some(usage), ..Self::not_asked() }
    }

    /// Of a filter.
    pub fn verdict(verdict: bool, usage: Usage) -> Self {
        Self { ended: "ok", verdict: Some(verdict), usage: Some(usage), ..Self::not_asked() }
    }

    /// Of a call that did not end well.
    pub fn failed(error: &CallError) -> Self {
        let ended = match error {
            CallError::Failure(failure) if failure.kind == FailureKind::Retry => "retry",
            CallError::Failure(_) => "reject",
            CallError::Fault(fault) => fault.code.as_str(),
        };
        Self { ended, message: Some(error.to_string()), ..Self::not_asked() }
    }

    /// Whether the hub would call the handler again with the same event.
    pub fn is_tried_again(&self) -> bool {
        !matches!(self.ended, "ok" | "reject" | "loop" | "not asked")
    }

    /// What was emitted, but for ids and times, which are made anew in each call.
    pub fn emitted_as_json(&self) -> Vec<Value> {
        let event = |event: &Arc<Event>| {
            let meta = &event.metadata;
            json!({
                "type": event.event_type, "data": event.data, "tags": meta.tags,
                "correlation_id": meta.correlation_id, "extensions": meta.extensions,
            })
        };
        self.emitted.iter().map(event).collect()
    }

    /// What two answers are compared by.
    fn picture(&self) -> Value {
        json!({"ended": self.ended, "verdict": self.verdict, "emitted": self.emitted_as_json()})
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Comparison {
    compared: u64,
    differing: u64,
    by_aspect: BTreeMap<&'static str, u64>,
    active: Side,
    shadow: Side,
    examples: VecDeque<Example>,
}

#[derive(Debug, Default)]
struct Side {
    ended: BTreeMap<&'static str, u64>,
    emitted: u64,
    fuel: Histogram,
    nanoseconds: Histogram,
}

impl Side {
    fn take(&mut self, answer: &Answer) {
        *self.ended.entry(answer.ended).or_default() += 1;
        self.emitted += answer.emitted.len() as u64;
        if let Some(usage) = answer.usage {
            self.fuel.record_alone(usage.fuel);
            self.nanoseconds.record_alone(usage.nanoseconds);
        }
    }

    fn report(&self) -> SideReport {
        SideReport {
            ended: self.ended.clone(),
            emitted: self.emitted,
            fuel: Spread::of(&self.fuel, 1.0),
            time_us: Spread::of(&self.nanoseconds, 1e-3),
        }
    }
}

impl Comparison {
    /// Takes in what the two made of one event; the answer is what is different.
    pub fn take(&mut self, event: &Event, active: &Answer, shadow: &Answer) -> Vec<Difference> {
        self.compared += 1;
        self.active.take(active);
        self.shadow.take(shadow);
        let mut differences = Vec::new();
        diff::diff(&active.picture(), &shadow.picture(), DIFFERENCES, &mut differences);
        if differences.is_empty() {
            return differences;
        }
        self.differing += 1;
        for aspect in ["ended", "verdict", "emitted"] {
            if differences.iter().any(|difference| difference.pointer[1..].split('/').next() == Some(aspect)) {
                *self.by_aspect.entry(aspect).or_default() += 1;
            }
        }
        if self.examples.len() == EXAMPLES {
            self.examples.pop_front();
        }
        self.examples.push_back(Example {
            seq: event.seq,
            event_id: event.metadata.event_id.clone(),
            event_type: event.event_type.clone(),
            differences: differences.clone(),
        });
        differences
    }

    /// All of it.
    pub fn report(&self) -> Report {
        let percent = if self.compared == 0 { 0.0 } else { 100.0 * self.differing as f64 / self.compared as f64 };
        Report {
            compared: self.compared,
            differing: self.differing,
            percent: (percent * 1e3).round() / 1e3,
            differing_by: self.by_aspect.clone(),
            active: self.active.report(),
            shadow: self.shadow.report(),
            examples: self.examples.iter().cloned().collect(),
        }
    }
}

/// What a comparison has found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Events that both were asked about.
    pub compared: u64,
    /// Of these, with a difference.
    pub differing: u64,
    /// The same in percent.
    pub percent: f64,
    /// How many events differ in how the call `ended`, in the `verdict`, in what was `emitted`.
    pub differing_by: BTreeMap<&'static str, u64>,
    /// What the active version did.
    pub active: SideReport,
    /// What the shadow would have done.
    pub shadow: SideReport,
    /// The latest events that differ, and in what.
    pub examples: Vec<Example>,
}

/// One of the two.
#[derive(Debug, Clone, Serialize)]
pub struct SideReport {
    /// How calls ended: see [`Answer::ended`].
    pub ended: BTreeMap<&'static str, u64>,
    /// Events emitted.
    pub emitted: u64,
    /// Fuel of a call that ended well.
    pub fuel: Spread,
    /// Microseconds of such a call.
    pub time_us: Spread,
}

/// An event about which the two differ.
#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// Its place in the log; 0 if it is in none.
    pub seq: u64,
    /// Its id.
    pub event_id: Arc<str>,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// In what.
    pub differences: Vec<Difference>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

    fn emitting(events: &[(&str, Value)]) -> Answer {
        let event = |(event_type, data): &(&str, Value)| {
            Arc::new(NewEvent::new(*event_type).data(data).unwrap().admit().unwrap())
        };
        Answer { ended: "ok", emitted: events.iter().map(event).collect(), ..Answer::not_asked() }
    }

    fn event() -> Event {
        NewEvent::new("task.created").event_id("e1").admit().unwrap()
    }

    #[test]
    fn ids_and_times_are_no_difference_and_data_is_compared_by_value() {
        let mut comparison = Comparison::default();
        let (one, other) =
            (emitting(&[("a", json!({"n": 1, "t": "x"}))]), emitting(&[("a", json!({"t": "x", "n": 1.0}))]));
        assert!(comparison.take(&event(), &one, &other).is_empty());
        assert_eq!((comparison.report().compared, comparison.report().differing), (1, 0));
    }

    #[test]
    fn what_differs_is_counted_by_aspect_and_shown_with_its_place() {
        let mut comparison = Comparison::default();
        let (one, other) = (emitting(&[("a", json!({"n": [1, 2]}))]), emitting(&[("a", json!({"n": [1, 3]}))]));
        let differences = comparison.take(&event(), &one, &other);
        assert_eq!(differences.len(), 1);
        assert_eq!(
            (differences[0].pointer.as_str(), &differences[0].active, &differences[0].shadow),
            ("/emitted/0/data/n/1", &Some(json!(2)), &Some(json!(3)))
        );
        let verdict = |verdict| Answer { ended: "ok", verdict: Some(verdict), ..Answer::not_asked() };
        comparison.take(&event(), &verdict(true), &verdict(false));
        let fault = Answer { ended: "fuel", ..Answer::not_asked() };
        comparison.take(&event(), &one, &fault);
        comparison.take(&event(), &one, &one);
        let report = comparison.report();
        assert_eq!((report.compared, report.differing, report.percent), (4, 3, 75.0));
        assert_eq!(report.differing_by, BTreeMap::from([("ended", 1), ("verdict", 1), ("emitted", 2)]));
        assert_eq!((report.shadow.ended["fuel"], report.active.ended["ok"]), (1, 4));
        assert_eq!(report.examples.last().unwrap().differences[0].pointer, "/emitted/0");
    }

    #[test]
    fn only_the_latest_examples_are_kept() {
        let mut comparison = Comparison::default();
        let verdict = |verdict| Answer { ended: "ok", verdict: Some(verdict), ..Answer::not_asked() };
        for seq in 1..=100 {
            comparison.take(&Event { seq, ..event() }, &verdict(true), &verdict(false));
        }
        let examples = comparison.report().examples;
        assert_eq!((examples.len(), examples[0].seq, examples[EXAMPLES - 1].seq), (EXAMPLES, 85, 100));
    }
}
