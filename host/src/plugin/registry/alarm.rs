//! Says that calls of one plugin fault, and that events were given up: a line in the log, and of faults a change for whoever listens. So
//! many of each in a second, because their texts are the guest's; the others are counted, and in the plugin's statistics each is.

use super::{Change, ChangeKind, Faulted};
use crate::{
    event::Event,
    plugin::{
        Fault, Name, Version,
        host::{Admitted, Throttle},
    },
};
use std::time::Instant;
use tokio::sync::broadcast;

/// Faults of a plugin that are said, in a second.
const MOST: u32 = 1;
/// Lines about events that were given up: each is one that somebody may look for.
const MOURNED: u32 = 20;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Alarm {
    name: Name,
    lines: Throttle,
    told: Throttle,
    mourned: Throttle,
    changes: broadcast::WeakSender<Change>,
}

impl Alarm {
    pub(super) fn new(name: Name, changes: broadcast::WeakSender<Change>) -> Self {
        Self { name, lines: Throttle::default(), told: Throttle::default(), mourned: Throttle::default(), changes }
    }

    /// An event is a dead letter.
    pub(super) fn mourn(&self, event: &Event, attempts: u32, code: &'static str, message: &str) {
        if let Admitted::Yes { suppressed } = self.mourned.admit(Instant::now(), MOURNED) {
            let (name, seq, event_type) = (&self.name, event.seq, &event.event_type);
            tracing::warn!(plugin = %name, seq, event_type, code, attempts, suppressed, "dead letter: {message}");
        }
    }

    /// A call with `event` faulted.
    pub(super) fn raise(&self, version: &Version, event: &Event, fault: &Fault) {
        let now = Instant::now();
        let (seq, event_type, code) = (event.seq, &event.event_type, fault.code.as_str());
        if let Admitted::Yes { suppressed } = self.lines.admit(now, MOST) {
            let (name, message) = (&self.name, &fault.message);
            tracing::warn!(plugin = %name, code, seq, event_type, suppressed, "fault: {message}");
        }
        // What tells of faults must not make new ones: two plugins that listen to everything would never end.
        if event.is_of_plugins() {
            return;
        }
        if let (Admitted::Yes { suppressed }, Some(changes)) = (self.told.admit(now, MOST), self.changes.upgrade()) {
            let faulted = Faulted {
                code: fault.code,
                message: fault.message.clone(),
                sha256: version.sha256().to_owned(),
                seq,
                event_id: event.metadata.event_id.clone(),
                event_type: event_type.clone(),
                suppressed,
            };
            let kind = ChangeKind::Faulted(Box::new(faulted));
            // Nobody listens: then nobody is told.
            let _ = changes.send(Change { name: self.name.clone(), kind });
        }
    }
}
