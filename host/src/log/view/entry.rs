//! What the ring of a view holds: events and their bytes on the wire.

use super::budget::ViewBudget;
use crate::{
    event::Event,
    log::{frames, frames::Frames},
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Events in a row that matched, and their bytes, made when the first client wants them.
pub struct Entry {
    events: Vec<Arc<Event>>,
    websocket: OnceLock<Frames>,
    server_sent: OnceLock<Frames>,
    /// Of an entry of a ring: the bytes that the budget has counted, and the budget.
    counted: AtomicUsize,
    budget: Option<Arc<ViewBudget>>,
}

impl Entry {
    pub(super) fn new(events: Vec<Arc<Event>>, budget: Option<Arc<ViewBudget>>) -> Self {
        let (websocket, server_sent) = (OnceLock::new(), OnceLock::new());
        let entry = Self { events, websocket, server_sent, counted: AtomicUsize::new(0), budget };
        entry.count(entry.weight());
        entry
    }

    /// Bytes of it that the budget has counted.
    pub(super) fn held(&self) -> usize {
        self.counted.load(Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.counted.fetch_add(bytes, Relaxed);
        if let Some(budget) = &self.budget {
            budget.take(bytes);
        }
    }

    fn counted(&self, frames: Frames) -> Frames {
        self.count(frames.bytes.len());
        frames
    }

    /// The events, in order of seq; never none.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// As WebSocket frames.
    pub fn websocket(&self) -> &Frames {
        self.websocket.get_or_init(|| self.counted(frames::websocket(&self.events)))
    }

    /// As records of server-sent events.
    pub fn server_sent(&self, epoch: &str) -> &Frames {
        self.server_sent.get_or_init(|| self.counted(frames::server_sent(&self.events, epoch)))
    }

    pub(super) fn last(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq)
    }

    pub(super) fn weight(&self) -> usize {
        self.events.iter().map(|event| event.weight()).sum()
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.counted.load(Relaxed));
        }
    }
}
