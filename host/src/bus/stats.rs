//! The numbers that the bus shows, with the names that its predecessor gave them and ours.

use super::Bus;
use crate::metrics::{DoorStats, Reason};
use serde::Serialize;
use std::collections::BTreeMap;

/// A snapshot of the bus.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Events that got a seq since the start: those of publishers, of plugins and of the hub.
    pub events_published: u64,
    /// Events that a handler, native or a plugin, is done with, dead letters included: one for each
    /// handler.
    pub events_processed: u64,
    /// Calls of handlers that ended; an event that is tried again has several.
    pub handler_calls: u64,
    /// Calls that failed, panics and faults included.
    pub handler_errors: u64,
    /// Handlers at work now.
    pub active_handlers: i64,
    /// Open WebSocket connections.
    pub websocket_connections: i64,
    /// Whether events are accepted.
    pub running: bool,
    /// Names this run of numbering.
    pub epoch: String,
    /// The last seq given.
    pub head: u64,
    /// The first seq that is still there.
    pub oldest: u64,
    /// Events that publishers handed in.
    pub events_sent: u64,
    /// Events of publishers that were refused, by reason.
    pub events_rejected: Rejected,
    /// Events of publishers that had come before and were not stored again.
    pub events_duplicate: u64,
    /// Of each door, what publishers handed in there and what became of it.
    pub doors: BTreeMap<&'static str, DoorStats>,
    /// Events that plugins emitted.
    pub events_emitted: u64,
    /// Events of the hub itself.
    pub events_internal: u64,
    /// Native subscribers.
    pub subscribers: i64,
    /// Distinct filters with a client.
    pub views: i64,
    /// Events that consumers missed because they had fallen behind.
    pub events_missed: u64,
}

/// Refused events by reason, all doors together. See [`Reason`].
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// They were no events, or a field was out of bounds.
    pub invalid: u64,
    /// A body, or all that was handed in at once, was over a limit.
    pub too_large: u64,
    /// A body was of another media type or encoding.
    pub unsupported: u64,
    /// A body was not there in time.
    pub timeout: u64,
    /// There was no room at the time.
    pub full: u64,
    /// An admission filter said no.
    pub admission: u64,
    /// An admission filter gave no verdict because others had the cores.
    pub unanswered: u64,
    /// The hub was stopping.
    pub stopped: u64,
    /// The journal could not be written.
    pub journal: u64,
}

impl Stats {
    pub(super) fn of(bus: &Bus) -> Self {
        let (log, metrics) = (bus.log(), bus.metrics());
        Self {
            events_published: metrics.events_logged.get(),
            events_processed: metrics.events_processed.get(),
            handler_calls: metrics.handler_calls.get(),
            handler_errors: metrics.handler_errors.get(),
            active_handlers: metrics.active_handlers.get(),
            websocket_connections: metrics.websocket_connections.get(),
            running: log.is_open(),
            epoch: log.epoch().to_string(),
            head: log.head(),
            oldest: log.oldest(),
            events_sent: metrics.doors.sent(),
            events_rejected: Rejected {
                invalid: metrics.doors.rejected(Reason::Invalid),
                too_large: metrics.doors.rejected(Reason::TooLarge),
                unsupported: metrics.doors.rejected(Reason::Unsupported),
                timeout: metrics.doors.rejected(Reason::Timeout),
                full: metrics.doors.rejected(Reason::Full),
                admission: metrics.doors.rejected(Reason::Admission),
                unanswered: metrics.doors.rejected(Reason::Unanswered),
                stopped: metrics.doors.rejected(Reason::Stopped),
                journal: metrics.doors.rejected(Reason::Journal),
            },
            events_duplicate: metrics.doors.duplicate(),
            doors: metrics.doors.stats(),
            events_emitted: metrics.events_emitted.get(),
            events_internal: metrics.events_internal.get(),
            subscribers: metrics.subscribers.get(),
            views: metrics.views.get(),
            events_missed: metrics.cursor_missed.get(),
        }
    }
}
