//! The bytes that the rings of all views of a log hold together: [`ViewBudget`].

use crate::metrics::Metrics;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts bytes of events and of their encoded frames.
pub(super) struct ViewBudget {
    held: AtomicUsize,
    views: AtomicUsize,
    limit: usize,
    metrics: Arc<Metrics>,
}

impl ViewBudget {
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        metrics.view_bytes_limit.add(i64::try_from(limit).unwrap_or(i64::MAX));
        Arc::new(Self { held: AtomicUsize::new(0), views: AtomicUsize::new(0), limit, metrics })
    }

    pub(super) fn open(&self) {
        self.views.fetch_add(1, Relaxed);
    }

    pub(super) fn close(&self) {
        self.views.fetch_sub(1, Relaxed);
    }

    pub(super) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Relaxed);
        self.metrics.view_bytes.add(bytes as i64);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
        self.metrics.view_bytes.add(-(bytes as i64));
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.held.load(Relaxed) > self.limit
    }

    /// What each view may keep while the limit is exceeded.
    pub(super) fn share(&self) -> usize {
        self.limit / self.views.load(Relaxed).max(1)
    }
}
