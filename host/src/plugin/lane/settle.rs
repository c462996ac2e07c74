//! What an attempt means for the journal: an event that is done, waits for another try, or is dead.

use super::{Job, call::Ended};
use crate::{
    bus::Bus,
    event::{Event, NewEvent},
    journal::{Change, DeadLetter},
    log::CommitError,
    plugin::{Version, registry::Plugin},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// What the lane does with an event after an attempt.
#[derive(Debug)]
pub(super) enum Settled {
    Done {
        /// Events that it published.
        emitted: usize,
    },
    /// Another try.
    Again {
        pause: Duration,
        faulted: bool,
    },
    /// The same try again: it left no trace, because the journal could not be written.
    Postponed,
    Dead,
}

/// Makes it true. An event whose effects were committed was settled with them.
pub(super) async fn settle(bus: &Bus, owner: &Plugin, plugin: &Arc<str>, job: &Job, ended: Ended) -> Settled {
    let (log, seq) = (bus.log(), job.event.seq);
    let (result, settled) = match ended {
        Ended::Committed { emitted } => return Settled::Done { emitted },
        Ended::Postponed => return Settled::Postponed,
        Ended::Nothing if job.recorded => (
            log.record(Vec::new(), vec![Change::Done { plugin: plugin.clone(), seq }]).await,
            Settled::Done { emitted: 0 },
        ),
        Ended::Nothing => return Settled::Done { emitted: 0 },
        Ended::Again { pause, code, faulted } => {
            let retry = Change::Retry { plugin: plugin.clone(), seq, attempt: job.attempt + 1, pause, code };
            (log.record(Vec::new(), vec![retry]).await, Settled::Again { pause, faulted })
        }
        Ended::Dead { code, message, version } => {
            owner.mourn(&job.event, job.attempt, code, &message);
            (bury(bus, plugin, job, code, message, version.as_deref()).await, Settled::Dead)
        }
    };
    match result {
        // The log has ended: what is not written is found again after the next start.
        Ok(()) | Err(CommitError::Stopped) => settled,
        Err(error) => {
            tracing::warn!(plugin = &**plugin, seq, %error, "to be handled again");
            Settled::Postponed
        }
    }
}

async fn bury(
    bus: &Bus,
    plugin: &Arc<str>,
    job: &Job,
    code: &'static str,
    message: String,
    version: Option<&Version>,
) -> Result<(), CommitError> {
    let Job { event, attempt, .. } = job;
    let seq = event.seq;
    let told = tell(plugin, job, code, &message);
    let letter = DeadLetter {
        plugin: plugin.clone(),
        seq,
        code,
        message,
        attempts: *attempt,
        version: version.map(|version| (version.description().version.clone(), version.sha256().to_owned())),
        event: event.to_json(),
    };
    let changes = vec![Change::Dead(Box::new(letter)), Change::Done { plugin: plugin.clone(), seq }];
    bus.log().record(told.into_iter().collect(), changes).await
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
