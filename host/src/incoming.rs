//! The memory that bodies of requests and messages of WebSocket clients use while they arrive: one
//! budget for all. What a client has not sent costs nothing.

use crate::metrics::Metrics;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Largest body of a request, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
/// Bodies up to so many bytes may use all of the budget, larger ones three quarters of it: a few
/// large bodies that do not come to an end do not keep ordinary events out.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// The memory that they may use together.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Budget {
    /// One of `limit` bytes, but at least of two bodies of the largest size.
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(2 * MAX_BODY_BYTES), used: AtomicUsize::new(0), metrics })
    }

    fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Relaxed);
            self.metrics.http_body_bytes.add(-(bytes as i64));
        }
    }

    /// What one body or message uses of it: nothing yet.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        Held { bytes: 0, budget: self.clone() }
    }

    /// Why there is no room, for people. Counts it.
    pub(crate) fn refusal(&self) -> String {
        self.metrics.http_bodies_refused.inc();
        format!("bodies and messages that are not whole have {} bytes in all", self.limit)
    }
}

/// What one body or message uses of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    budget: Arc<Budget>,
}

impl Held {
    /// Uses `bytes` in all from now on. `false`, and nothing changes, if there are not as many.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        let budget = &self.budget;
        if bytes <= self.bytes {
            budget.give_back(self.bytes - bytes);
            self.bytes = bytes;
            return true;
        }
        let limit = if bytes > SMALL_BODY_BYTES { budget.limit / 4 * 3 } else { budget.limit };
        let more = bytes - self.bytes;
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        let has_grown = budget.used.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if has_grown {
            budget.metrics.http_body_bytes.add(more as i64);
            self.bytes = bytes;
        }
        has_grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_a_quarter_of_the_budget_to_small_ones() {
        let budget = Budget::new(0, Arc::default());
        assert_eq!(budget.limit, 2 * MAX_BODY_BYTES);
        let (mut large, mut another, mut small) = (budget.hold(), budget.hold(), budget.hold());
        assert!(large.set(MAX_BODY_BYTES));
        assert!(!another.set(MAX_BODY_BYTES), "more than three quarters");
        assert!(another.set(MAX_BODY_BYTES / 2));
        assert!(small.set(SMALL_BODY_BYTES));
        assert!(!small.set(SMALL_BODY_BYTES + 1), "no small one any more");
        assert_eq!(budget.metrics.http_body_bytes.get(), (MAX_BODY_BYTES * 3 / 2 + SMALL_BODY_BYTES) as i64);
        assert!(large.set(7));
        assert_eq!(budget.used.load(Relaxed), MAX_BODY_BYTES / 2 + SMALL_BODY_BYTES + 7);
        drop((large, another, small));
        assert_eq!((budget.used.load(Relaxed), budget.metrics.http_body_bytes.get()), (0, 0));
    }
}
