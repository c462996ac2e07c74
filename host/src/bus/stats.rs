//! The numbers that the bus shows, with the names that its predecessor gave them and ours.

use super::Bus;
use serde::Serialize;

/// A snapshot of the bus.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Events in the log since the start.
    pub events_published: u64,
    /// Calls of handlers, native and plugins', that finished.
    pub events_processed: u64,
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

/// Refused events by reason.
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// A field was out of bounds.
    pub invalid: u64,
    /// The ingress queue was full.
    pub full: u64,
    /// An admission filter said no.
    pub admission: u64,
    /// The hub was stopping.
    pub stopped: u64,
    /// The journal could not be written.
    pub journal: u64,
}

impl Stats {
    pub(super) fn of(bus: &Bus) -> Self {
        let (log, metrics) = (bus.log(), bus.metrics());
        Self {
            events_published: metrics.events_accepted.get(),
            events_processed: metrics.events_processed.get(),
            handler_errors: metrics.handler_errors.get(),
            active_handlers: metrics.active_handlers.get(),
            websocket_connections: metrics.websocket_connections.get(),
            running: log.is_open(),
            epoch: log.epoch().to_string(),
            head: log.head(),
            oldest: log.oldest(),
            events_sent: metrics.events_sent.get(),
            events_rejected: Rejected {
                invalid: metrics.rejected_invalid.get(),
                full: metrics.rejected_full.get(),
                admission: metrics.rejected_admission.get(),
                stopped: metrics.rejected_stopped.get(),
                journal: metrics.rejected_journal.get(),
            },
            events_duplicate: metrics.events_duplicate.get(),
            events_emitted: metrics.events_emitted.get(),
            events_internal: metrics.events_internal.get(),
            subscribers: metrics.subscribers.get(),
            views: metrics.views.get(),
            events_missed: metrics.cursor_missed.get(),
        }
    }
}
