//! What the ring of a view holds: what was found among some events, and its bytes on the wire.

use super::budget::ViewBudget;
use crate::{
    event::Event,
    log::{
        frames::{self, Frames},
        selection::{FilterFailure, Selection},
    },
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What was found among events in a row, and its bytes, made when the first client wants them.
pub struct Entry {
    selection: Selection,
    websocket: OnceLock<Frames>,
    server_sent: OnceLock<Frames>,
    /// Of an entry of a ring: the bytes that the budget has counted, and the budget.
    counted: AtomicUsize,
    budget: Option<Arc<ViewBudget>>,
}

impl Entry {
    /// `selection` is not empty.
    pub(super) fn new(selection: Selection, budget: Option<Arc<ViewBudget>>) -> Self {
        let (websocket, server_sent) = (OnceLock::new(), OnceLock::new());
        let entry = Self { selection, websocket, server_sent, counted: AtomicUsize::new(0), budget };
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

    /// The events that match, in order of seq. None if there are only failures.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.selection.events
    }

    /// How many failures it has that a reader which begins with the seq `from` is told of.
    pub fn failures_from(&self, from: u64) -> u64 {
        self.failures().iter().filter(|failure| failure.to >= from).count() as u64
    }

    /// Where the view's filter gave no verdict, in order of seq.
    pub fn failures(&self) -> &[FilterFailure] {
        &self.selection.failures
    }

    /// As WebSocket frames.
    pub fn websocket(&self) -> &Frames {
        self.websocket.get_or_init(|| self.counted(frames::websocket(&self.selection)))
    }

    /// As records of server-sent events.
    pub fn server_sent(&self, epoch: &str) -> &Frames {
        self.server_sent.get_or_init(|| self.counted(frames::server_sent(&self.selection, epoch)))
    }

    pub(super) fn last(&self) -> u64 {
        self.selection.last()
    }

    pub(super) fn weight(&self) -> usize {
        self.selection.weight()
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.counted.load(Relaxed));
        }
    }
}
