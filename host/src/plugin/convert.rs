//! Between the hub's types and those of the contract. Towards a guest nothing is copied: the contract's event borrows
//! the log's texts.

use super::bindings::handler::busway::plugin::types;
use super::fault::{Failure, FailureKind};
use super::host::printable;
use crate::event::{Event, EventError, EventFilter, Glob, NewEvent};
use serde_json::value::RawValue;

/// Tags for which there is room on the stack.
const FEW: usize = 4;

/// The lists of an event, borrowed: what [`Lists::event`] needs somewhere to point to.
pub(super) struct Lists<'a> {
    event: &'a Event,
    /// The tags, if they are as few as they are as a rule: then nothing is allocated.
    few: [&'a str; FEW],
    /// The tags, if they are more.
    many: Vec<&'a str>,
    extensions: Vec<(&'a str, &'a str)>,
}

impl<'a> Lists<'a> {
    #[inline]
    pub(super) fn of(event: &'a Event) -> Self {
        let meta = &event.metadata;
        let mut extensions = Vec::new();
        // Asked first: to walk through an empty map is not free.
        if !meta.extensions.is_empty() {
            extensions.extend(meta.extensions.iter().map(|(name, value)| (name.as_str(), value.get())));
        }
        let tags = meta.tags.iter().map(String::as_str);
        let (mut few, mut many) = ([""; FEW], Vec::new());
        if tags.len() <= FEW {
            few.iter_mut().zip(tags).for_each(|(place, tag)| *place = tag);
        } else {
            many = tags.collect();
        }
        Self { event, few, many, extensions }
    }

    #[inline]
    pub(super) fn source(&self) -> &'a Event {
        self.event
    }

    #[inline]
    pub(super) fn event(&self) -> types::Event<'_> {
        let meta = &self.event.metadata;
        types::Event {
            seq: self.event.seq,
            type_: &self.event.event_type,
            data: self.event.data.get(),
            metadata: types::Metadata {
                event_id: &meta.event_id,
                // Before 1970 there are no events; a publisher who says otherwise gets the first moment of it.
                timestamp: u64::try_from(meta.timestamp.timestamp_micros()).unwrap_or(0),
                correlation_id: meta.correlation_id.as_deref(),
                causation_id: meta.causation_id.as_deref(),
                source: meta.source.as_deref(),
                tags: self.few.get(..meta.tags.len()).unwrap_or(&self.many),
                hops: meta.hops,
                extensions: &self.extensions,
            },
        }
    }
}

/// What a text of a list weighs besides its bytes: that of empty ones is not free.
const ENTRY: usize = 16;

/// The bytes of an event that a guest hands over.
pub(super) fn weight(event: &types::NewEvent) -> usize {
    event.type_.len()
        + event.data.len()
        + event.correlation_id.as_ref().map_or(0, String::len)
        + event.tags.iter().map(|tag| tag.len() + ENTRY).sum::<usize>()
        + event.extensions.iter().map(|(name, value)| name.len() + value.len() + ENTRY).sum::<usize>()
}

/// What a guest publishes, not admitted yet.
pub(super) fn new_event(event: types::NewEvent) -> Result<NewEvent, EventError> {
    let data = json("event.data", || "data".into(), event.data)?;
    let mut new = NewEvent::with_data(event.type_, data).tags(event.tags);
    for (name, value) in event.extensions {
        let value = json("event.extensions", || format!("extensions.{name}"), value)?;
        new = new.extension(name, value);
    }
    if let Some(id) = event.correlation_id {
        new = new.correlation_id(id);
    }
    Ok(new)
}

fn json(code: &'static str, field: impl FnOnce() -> String, text: String) -> Result<Box<RawValue>, EventError> {
    RawValue::from_string(text).map_err(|error| EventError {
        code,
        field: field(),
        expected: "JSON (RFC 8259)".to_owned(),
        found: error.to_string(),
    })
}

pub(super) fn failure(failure: types::Failure) -> Failure {
    Failure {
        kind: match failure.kind {
            types::FailureKind::Retry => FailureKind::Retry,
            types::FailureKind::Reject => FailureKind::Reject,
        },
        message: printable(&failure.message).into_owned(),
        retry_after_ms: failure.retry_after_ms,
    }
}

/// A subscription as a filter. In the contract an empty list is no constraint; in a filter an absent one is.
pub(super) fn subscription(subscription: types::Subscription) -> Result<EventFilter, String> {
    let filter = EventFilter {
        event_types: globs("event-types", subscription.event_types)?,
        source_patterns: globs("source-patterns", subscription.source_patterns)?,
        required_tags: subscription.required_tags,
        excluded_tags: subscription.excluded_tags,
    };
    filter.normalised().map_err(|error| error.to_string())
}

fn globs(field: &str, texts: Vec<String>) -> Result<Option<Vec<Glob>>, String> {
    if texts.is_empty() {
        return Ok(None);
    }
    let parsed: Result<Vec<Glob>, _> = texts.iter().map(|text| text.parse()).collect();
    parsed.map(Some).map_err(|error| format!("{field}: {error}"))
}
