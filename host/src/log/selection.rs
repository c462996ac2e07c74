//! What a question finds among events: those that match,
//! and those for which its filter gave no verdict.

use crate::event::Event;
use serde::Serialize;
use std::sync::Arc;

/// Events in a row for which a filter gave no verdict, for one reason.
///
/// Without a verdict an event is held back or passed on, as the filter's operator says
/// (`on_error`). Events that are held back are merged where nothing was delivered between them; one
/// that is passed on has a failure of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterFailure {
    /// The name of the filter plugin.
    pub plugin: Arc<str>,
    /// The stable code of the failure, for programs.
    pub code: &'static str,
    /// The seq of the first event without a verdict.
    pub from: u64,
    /// The last one's seq. Not all events between the two need be concerned.
    pub to: u64,
    /// How many events are concerned.
    pub count: u64,
    /// Whether the event was passed on.
    pub passed: bool,
    /// For people: about the first event. Bounded by whoever makes it.
    pub detail: Arc<str>,
}

/// See the module's head. Filled in order of seq.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The events to deliver, in order of seq.
    pub events: Vec<Arc<Event>>,
    /// Where the filter failed, in order of seq. Each
    /// stands before the first event after its `from`.
    pub failures: Vec<FilterFailure>,
}

/// One entry of a selection, as clients are told of it.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// An event that matches.
    Event(&'a Arc<Event>),
    /// Events for which the filter gave no verdict.
    Failure(&'a FilterFailure),
}

impl From<Vec<Arc<Event>>> for Selection {
    fn from(events: Vec<Arc<Event>>) -> Self {
        Self { events, failures: Vec::new() }
    }
}

impl Selection {
    /// Nothing matched, and nothing failed.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.failures.is_empty()
    }

    /// The last seq that it speaks of; 0 if it is empty.
    pub fn last(&self) -> u64 {
        let event = self.events.last().map_or(0, |event| event.seq);
        self.failures.last().map_or(event, |failure| event.max(failure.to))
    }

    /// Adds a failure, which comes after everything that is there.
    /// If its events are passed on, they are to be added after it.
    pub fn fail(&mut self, failure: FilterFailure) {
        let delivered = self.events.last().map_or(0, |event| event.seq);
        if let Some(last) = self.failures.last_mut()
            && !(last.passed || failure.passed)
            && (last.code, &last.plugin) == (failure.code, &failure.plugin)
            && last.to >= delivered
        {
            last.to = failure.to;
            last.count += failure.count;
            return;
        }
        self.failures.push(failure);
    }

    /// Adds what was found among later events.
    pub fn extend(&mut self, later: Self) {
        let mut events = later.events.into_iter().peekable();
        for failure in later.failures {
            while let Some(event) = events.next_if(|event| event.seq < failure.from) {
                self.events.push(event);
            }
            self.fail(failure);
        }
        self.events.extend(events);
    }

    /// Removes everything from the event `seq` on, which is one of its events.
    pub fn truncate_at(&mut self, seq: u64) {
        self.events.truncate(self.events.partition_point(|event| event.seq < seq));
        self.failures.truncate(self.failures.partition_point(|failure| failure.from < seq));
    }

    /// The events and failures as records, in order of seq.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let (mut events, mut failures) = (self.events.iter().peekable(), self.failures.iter().peekable());
        std::iter::from_fn(move || {
            let until = events.peek().map_or(u64::MAX, |event| event.seq);
            let failure = failures.next_if(|failure| failure.from <= until).map(Record::Failure);
            failure.or_else(|| events.next().map(Record::Event))
        })
    }

    /// Bytes that it keeps alive, about.
    pub fn weight(&self) -> usize {
        let failure = |failure: &FilterFailure| size_of::<FilterFailure>() + failure.detail.len();
        let failures: usize = self.failures.iter().map(failure).sum();
        failures + self.events.iter().map(|event| event.weight()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

    fn event(seq: u64) -> Arc<Event> {
        let mut event = NewEvent::new("a").admit().unwrap();
        event.seq = seq;
        Arc::new(event)
    }

    fn failure(seq: u64, code: &'static str, passed: bool) -> FilterFailure {
        FilterFailure { plugin: "f".into(), code, from: seq, to: seq, count: 1, passed, detail: "".into() }
    }

    /// Events as their seq, failures as code, range and count.
    fn shown(selection: &Selection) -> Vec<String> {
        let shown = |record: Record<'_>| match record {
            Record::Event(event) => event.seq.to_string(),
            Record::Failure(failure) => format!("{} {}-{} ({})", failure.code, failure.from, failure.to, failure.count),
        };
        selection.records().map(shown).collect()
    }

    #[test]
    fn failures_in_a_row_are_one_unless_something_was_delivered_between_them() {
        let mut selection = Selection::default();
        for seq in [1, 2, 5] {
            selection.fail(failure(seq, "trap", false));
        }
        selection.fail(failure(6, "fuel", false));
        selection.events.push(event(7));
        selection.fail(failure(8, "fuel", false));
        assert_eq!(shown(&selection), ["trap 1-5 (3)", "fuel 6-6 (1)", "7", "fuel 8-8 (1)"]);
        let mut later = Selection::default();
        later.fail(failure(9, "fuel", false));
        later.events.push(event(10));
        later.fail(failure(11, "fuel", false));
        selection.extend(later);
        let all = ["trap 1-5 (3)", "fuel 6-6 (1)", "7", "fuel 8-9 (2)", "10", "fuel 11-11 (1)"];
        assert_eq!(shown(&selection), all);
        assert_eq!(selection.last(), 11);
        selection.truncate_at(10);
        assert_eq!(
            (shown(&selection), selection.last()),
            (all[..4].iter().map(|text| (*text).to_owned()).collect(), 9)
        );
    }

    #[test]
    fn an_event_that_was_passed_on_comes_right_after_its_failure() {
        let mut selection = Selection::default();
        for seq in [1, 2] {
            selection.fail(failure(seq, "trap", true));
            selection.events.push(event(seq));
        }
        assert_eq!(shown(&selection), ["trap 1-1 (1)", "1", "trap 2-2 (1)", "2"]);
    }
}
