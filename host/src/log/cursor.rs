//! A cursor: a place in the log, read from there on. It costs the log nothing while it waits.

use super::{
    Head, Shared,
    tail::{Batch, Read},
};
use crate::{event::Event, journal::Found};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Seqs that are gone before the cursor got to them, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first one missed.
    pub from: u64,
    /// The last one missed.
    pub to: u64,
}

impl Gap {
    /// How many.
    pub fn missed(&self) -> u64 {
        self.to - self.from + 1
    }
}

/// Part of a batch: from where the cursor stood to the batch's end. Never empty.
#[derive(Debug, Clone)]
pub struct Chunk {
    batch: Arc<Batch>,
    skip: usize,
}

impl Chunk {
    /// The events, in order of seq.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.batch.events()[self.skip..]
    }

    /// The last one's seq.
    pub fn last(&self) -> u64 {
        self.batch.last()
    }
}

/// What a cursor finds next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Events in a row.
    Events(Chunk),
    /// Events that are gone: said, never passed over in silence.
    Gap(Gap),
}

/// See the module's head.
#[derive(Debug)]
pub struct Cursor {
    shared: Arc<Shared>,
    next: u64,
    head: watch::Receiver<Head>,
    /// A read of the journal under way. Kept here: whoever stops waiting for it comes back to it.
    reading: Option<AbortOnDropHandle<Found>>,
}

impl Cursor {
    pub(super) fn new(shared: Arc<Shared>, next: u64) -> Self {
        let head = shared.head.subscribe();
        Self { shared, next, head, reading: None }
    }

    /// The seq that it gives next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// What comes next, waiting for it; `None` once the log has closed and all was read. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Step> {
        loop {
            // Seen before reading: whatever is appended after it wakes the wait below.
            let closed = self.head.borrow_and_update().closed;
            if let Some(step) = self.read().await {
                return Some(step);
            }
            if closed || self.head.changed().await.is_err() {
                return None;
            }
        }
    }

    /// What comes next, if it is there. Dropping the future loses nothing.
    pub async fn read(&mut self) -> Option<Step> {
        loop {
            let tail_begins = match self.shared.tail.read(self.next) {
                Read::Batch(batch) => return Some(self.take(batch)),
                Read::Evicted(oldest) => oldest,
                Read::AtHead => return None,
            };
            let Some(journal) = self.shared.journal.clone() else { return Some(self.gap(tail_begins - 1)) };
            let oldest = journal.oldest();
            if self.next < oldest {
                self.reading = None;
                return Some(self.gap(oldest - 1));
            }
            let reading = self.reading.get_or_insert_with(|| {
                let (journal, from) = (journal.clone(), self.next);
                AbortOnDropHandle::new(tokio::spawn(async move { journal.events(from, tail_begins - 1).await }))
            });
            let found = reading.await;
            self.reading = None;
            match found {
                Ok(Found::Events(events)) => return Some(self.take(Batch::of(events))),
                // Retention was faster.
                Ok(Found::Damaged(_)) if journal.oldest() > self.next => {}
                Ok(Found::Damaged(span)) => return Some(self.gap(span.to)),
                // The runtime ends, and with it whoever asked.
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self, batch: Arc<Batch>) -> Step {
        let skip = (self.next - batch.first()) as usize;
        self.next = batch.last() + 1;
        Step::Events(Chunk { batch, skip })
    }

    fn gap(&mut self, to: u64) -> Step {
        let gap = Gap { from: self.next, to };
        self.next = to + 1;
        self.shared.metrics.cursor_gaps.inc();
        self.shared.metrics.cursor_missed.add(gap.missed());
        Step::Gap(gap)
    }
}
