//! How much may wait for the sequencer: counted by those who hand it in, so that the answer is known at once.

use super::AppendError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How much may wait for the sequencer, in events and in bytes.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) events: AtomicUsize,
    bytes: AtomicUsize,
    max_events: usize,
    max_bytes: usize,
}

impl Budget {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { events: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_events, max_bytes }
    }

    pub(super) fn check(&self, events: usize, bytes: usize) -> Result<(), AppendError> {
        let fits = events <= self.max_events && bytes <= self.max_bytes;
        if fits { Ok(()) } else { Err(AppendError::TooLarge { events, bytes }) }
    }

    pub(super) fn take(&self, events: usize, bytes: usize) -> Result<(), AppendError> {
        self.check(events, bytes)?;
        if self.events.fetch_add(events, Relaxed) + events > self.max_events {
            self.events.fetch_sub(events, Relaxed);
            return Err(AppendError::Full);
        }
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > self.max_bytes {
            self.give_back(events, bytes);
            return Err(AppendError::Full);
        }
        Ok(())
    }

    pub(super) fn give_back(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}
