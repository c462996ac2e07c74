//! What the journal records of an attempt that failed: a retry, or a dead letter.

use super::Job;
use crate::{
    event::{Event, NewEvent},
    journal::{Change, DeadLetter},
    plugin::Version,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// The changes for an event that is tried again after `pause`.
pub(super) fn again(plugin: &Arc<str>, job: &Job, pause: Duration, code: &'static str) -> Vec<Change> {
    vec![Change::Retry { plugin: plugin.clone(), seq: job.event.seq, attempt: job.attempt + 1, pause, code }]
}

/// The event `plugin.dead_letter` and the changes for an event that becomes a dead letter.
pub(super) fn bury(
    plugin: &Arc<str>,
    job: &Job,
    code: &'static str,
    message: &str,
    version: Option<&Version>,
) -> (Vec<Arc<Event>>, Vec<Change>) {
    let Job { event, attempt, .. } = job;
    let seq = event.seq;
    let letter = DeadLetter {
        plugin: plugin.clone(),
        seq,
        code,
        message: message.to_owned(),
        attempts: *attempt,
        version: version.map(|version| (version.description().version.clone(), version.sha256().to_owned())),
        event: event.to_json(),
    };
    let told = tell(plugin, job, code, message).into_iter().collect();
    (told, vec![Change::Dead(Box::new(letter)), Change::Done { plugin: plugin.clone(), seq }])
}

/// The event that says so. It is part of the chain that led to it, so that what handles it cannot go round for ever.
fn tell(plugin: &Arc<str>, job: &Job, code: &str, message: &str) -> Option<Arc<Event>> {
    let Job { event, attempt, .. } = job;
    // What tells of dead letters must not make new ones.
    if event.is_of_plugins() {
        return None;
    }
    let data = json!({"plugin": &**plugin, "seq": event.seq, "event_id": event.metadata.event_id, "type": event.event_type,
                      "code": code, "message": message, "attempts": attempt});
    let told = NewEvent::new("plugin.dead_letter").data(data).and_then(|event| event.source("busway").admit());
    let mut told = told.ok()?;
    told.give_cause(event);
    Some(Arc::new(told))
}
