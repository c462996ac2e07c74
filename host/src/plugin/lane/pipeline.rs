//! The attempts of a lane that have ended and whose commits are not on disk yet. A call that has
//! returned gives up its slot at once: the plugin's next call sees its kv writes, and its commit is
//! submitted. Nobody else sees any of its effects before they are on disk.
//!
//! Each commit depends on those before it. If the sequencer refuses one, it refuses all that follow
//! (see [`Committer`]). The pipeline then rolls back their kv writes, the last one first, and the
//! lane handles their events again. Start reading at [`Pipeline::push`].

use super::{Job, call::Shown};
use crate::{
    event::Event,
    journal::Change,
    kv::Committed,
    log::{CommitError, Committer},
    metrics::Metrics,
    plugin::Version,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// A lane begins no call while its uncommitted attempts hold so many bytes of events and kv writes.
const MAX_BYTES: usize = 4 << 20;
/// The same limit for all lanes together. A lane without uncommitted attempts may begin calls all the
/// same, so that every lane makes progress.
const MAX_TOTAL_BYTES: i64 = 64 << 20;

/// An attempt whose commit has been submitted.
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) then: Then,
    pub(super) version: Option<Arc<Version>>,
    /// The call as it is shown to those who watch the plugin, once it is committed.
    pub(super) shown: Option<Shown>,
    /// The kv writes of the call, to be rolled back if the commit is refused.
    pub(super) kv: Option<Committed>,
}

/// What the lane does with the event once the attempt is committed.
pub(super) enum Then {
    /// The event is done.
    Done,
    /// The lane tries the event again after a pause.
    Again { pause: Duration },
    /// The event has become a dead letter.
    Dead { code: &'static str, message: String },
}

/// The uncommitted and the refused attempts of a lane, in order.
pub(super) struct Pipeline {
    committer: Committer,
    /// The attempts in the order of submission, each with its bytes.
    uncommitted: VecDeque<(Finished, usize)>,
    bytes: usize,
    /// The attempts whose commits were refused, in the same order. No call begins while there are any.
    refused: Vec<(Finished, CommitError)>,
    metrics: Arc<Metrics>,
}

impl Pipeline {
    pub(super) fn new(committer: Committer, metrics: Arc<Metrics>) -> Self {
        Self { committer, uncommitted: VecDeque::new(), bytes: 0, refused: Vec::new(), metrics }
    }

    /// Submits the commit of an attempt. `is_call`: the events are the plugin's own.
    pub(super) fn push(&mut self, finished: Finished, events: Vec<Arc<Event>>, changes: Vec<Change>, is_call: bool) {
        let writes = finished.kv.iter().flat_map(|kv| &kv.writes);
        let written: usize = writes.map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len())).sum();
        let bytes = events.iter().map(|event| event.weight()).sum::<usize>() + written;
        let is_submitted = match is_call {
            true => self.committer.commit(events, changes),
            false => self.committer.record(events, changes),
        };
        if is_submitted {
            self.count(1, bytes as i64);
            self.bytes += bytes;
            self.uncommitted.push_back((finished, bytes));
        } else {
            self.refused.push((finished, CommitError::Stopped));
        }
    }

    /// Waits for the result of the oldest commit; for ever if there is none. Cancellation safe.
    pub(super) async fn result(&mut self) -> Result<(), CommitError> {
        self.committer.result().await
    }

    pub(super) fn try_result(&mut self) -> Option<Result<(), CommitError>> {
        self.committer.try_result()
    }

    /// Takes the result of the oldest commit. Returns its attempt if that is committed, and keeps it
    /// for [`Pipeline::roll_back`] if it is refused.
    pub(super) fn acknowledge(&mut self, result: Result<(), CommitError>) -> Option<Finished> {
        let (finished, bytes) = self.uncommitted.pop_front()?;
        self.bytes -= bytes;
        self.count(-1, -(bytes as i64));
        match result {
            Ok(()) => Some(finished),
            Err(error) => {
                self.refused.push((finished, error));
                None
            }
        }
    }

    /// Rolls back the kv writes of all refused attempts and returns these attempts in order. Does
    /// nothing, and returns none, while the result of a commit is still to come.
    pub(super) fn roll_back(&mut self) -> Vec<(Finished, CommitError)> {
        if !self.uncommitted.is_empty() {
            return Vec::new();
        }
        for (finished, _) in self.refused.iter_mut().rev() {
            if let Some(kv) = finished.kv.take() {
                kv.undo();
            }
        }
        self.committer.restart();
        self.metrics.handler_rolled_back.add(self.refused.len() as u64);
        std::mem::take(&mut self.refused)
    }

    /// Whether there are no uncommitted and no refused
    /// attempts: everything that a call has read is on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.uncommitted.is_empty() && self.refused.is_empty()
    }

    /// Whether a commit was refused and its attempt is not rolled back yet. Calls that return
    /// meanwhile may have read its kv writes, so their effects are thrown away.
    pub(super) fn is_aborted(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether another call may begin.
    pub(super) fn has_room(&self) -> bool {
        let total = self.metrics.handler_uncommitted_bytes.get();
        !self.is_aborted() && self.bytes < MAX_BYTES && (total < MAX_TOTAL_BYTES || self.uncommitted.is_empty())
    }

    fn count(&self, attempts: i64, bytes: i64) {
        self.metrics.handler_uncommitted.add(attempts);
        self.metrics.handler_uncommitted_bytes.add(bytes);
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.count(-(self.uncommitted.len() as i64), -(self.bytes as i64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::NewEvent,
        kv::{Namespace, Quota, Store},
        log::{Log, LogConfig, MAX_DESCENDANTS},
    };

    fn event() -> Arc<Event> {
        Arc::new(NewEvent::new("a").admit().unwrap())
    }

    fn finished(kv: Option<Committed>) -> Finished {
        let job = Job { event: event(), attempt: 1, recorded: false, faulted: false, conflicts: 0 };
        Finished { job, then: Then::Done, version: None, shown: None, kv }
    }

    fn add(namespace: &Arc<Namespace>, bytes: usize) -> Option<Committed> {
        let mut transaction = namespace.begin();
        transaction.increment("count", 1).unwrap();
        transaction.set("fill", &vec![0; bytes]).unwrap();
        Some(transaction.commit().unwrap())
    }

    #[tokio::test]
    async fn what_is_uncommitted_is_bounded_for_a_lane_and_for_all_and_a_lane_without_any_goes_on() {
        let (metrics, store) = (Arc::new(Metrics::default()), Store::new(Quota { bytes: 8 << 20, keys: 10 }));
        let log = Log::in_memory(&LogConfig::default(), metrics.clone());
        let pipeline = || Pipeline::new(log.committer(), metrics.clone());
        let namespace = store.namespace("x");
        let mut lanes = Vec::new();
        while metrics.handler_uncommitted_bytes.get() < MAX_TOTAL_BYTES {
            let mut lane = pipeline();
            while lane.has_room() && metrics.handler_uncommitted_bytes.get() < MAX_TOTAL_BYTES {
                lane.push(finished(add(&namespace, 1 << 20)), Vec::new(), Vec::new(), true);
            }
            assert!(lane.bytes <= MAX_BYTES + (1 << 20) + 100, "{}", lane.bytes);
            lanes.push(lane);
        }
        let mut small = pipeline();
        assert!(small.has_room(), "it has none of them");
        small.push(finished(None), vec![event()], Vec::new(), true);
        assert!(!small.has_room(), "the others use all that there is");
        for lane in &mut lanes {
            while !lane.is_empty() {
                let result = lane.result().await;
                assert!(lane.acknowledge(result).is_some());
            }
        }
        assert!(small.has_room() && lanes.iter().all(Pipeline::has_room));
        drop(small);
        assert_eq!((metrics.handler_uncommitted.get(), metrics.handler_uncommitted_bytes.get()), (0, 0));
    }

    #[tokio::test]
    async fn a_refused_commit_and_all_after_it_are_rolled_back_and_a_new_stream_begins() {
        let (metrics, store) = (Arc::new(Metrics::default()), Store::new(Quota::default()));
        let log = Log::in_memory(&LogConfig::default(), metrics.clone());
        let mut pipeline = Pipeline::new(log.committer(), metrics.clone());
        let namespace = store.namespace("x");
        let caused = |count: u64| {
            let mut event = NewEvent::new("a").admit().unwrap();
            event.metadata.chain = vec![1];
            (0..count).map(|_| Arc::new(event.clone())).collect::<Vec<_>>()
        };
        for events in [caused(1), caused(MAX_DESCENDANTS), caused(1), Vec::new()] {
            pipeline.push(finished(add(&namespace, 0)), events, Vec::new(), true);
        }
        let mut results = Vec::new();
        while !pipeline.uncommitted.is_empty() {
            assert!(pipeline.roll_back().is_empty(), "not while a result is to come");
            let result = pipeline.result().await;
            results.push(pipeline.acknowledge(result).is_some());
        }
        assert_eq!(results, [true, false, false, false]);
        assert!(!pipeline.has_room());
        let errors: Vec<_> = pipeline.roll_back().into_iter().map(|(_, error)| error).collect();
        let looped = CommitError::Loop { root: 1, descendants: MAX_DESCENDANTS + 1 };
        assert_eq!(errors, [looped, CommitError::Aborted, CommitError::Aborted]);
        assert_eq!(namespace.begin().get("count").unwrap().as_deref(), Some(&b"1"[..]));
        pipeline.push(finished(add(&namespace, 0)), caused(1), Vec::new(), true);
        let result = pipeline.result().await;
        assert!(pipeline.acknowledge(result).is_some() && pipeline.is_empty(), "the new stream is whole");
        assert_eq!(namespace.begin().get("count").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(metrics.handler_rolled_back.get(), 3);
    }
}
