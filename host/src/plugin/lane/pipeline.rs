//! What a lane has finished and is not on disk yet. A call that has returned gives up its place at
//! once: what it wrote to kv is true for the plugin's next call, and its commit is on its way.
//! Nobody else sees any of it before it is on disk.
//!
//! Each commit rests on those before it. If one is refused, so are all that follow (see
//! [`Chain`](crate::log::Chain)); then everything that they wrote is taken back, the last first,
//! and their events are handled again. Start reading at [`Pipeline::push`].

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

/// Most bytes of events and kv that a lane has finished and that are not on disk; asked before a
/// call begins.
const MAX_BYTES: usize = 4 << 20;
/// The same for all lanes together. A lane that has none of them may begin all the same, so that
/// each gets on.
const MAX_BYTES_OF_ALL: i64 = 64 << 20;

/// An attempt whose commit is on its way.
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) then: Then,
    pub(super) version: Option<Arc<Version>>,
    /// For those who watch the plugin.
    pub(super) shown: Option<Shown>,
    /// What it wrote to kv, to be taken back if it is refused.
    pub(super) kv: Option<Committed>,
}

/// What becomes of its event.
pub(super) enum Then {
    Done,
    Again { pause: Duration },
    Dead { code: &'static str, message: String },
}

/// See the module's head.
pub(super) struct Pipeline {
    committer: Committer,
    /// In the order in which they were handed in, each with its bytes.
    unwritten: VecDeque<(Finished, usize)>,
    bytes: usize,
    /// In the same order; while there are any, nothing new begins.
    refused: Vec<(Finished, CommitError)>,
    metrics: Arc<Metrics>,
}

impl Pipeline {
    pub(super) fn new(committer: Committer, metrics: Arc<Metrics>) -> Self {
        Self { committer, unwritten: VecDeque::new(), bytes: 0, refused: Vec::new(), metrics }
    }

    /// Hands in what an attempt came to. `is_call`: the events are the plugin's own.
    pub(super) fn push(&mut self, finished: Finished, events: Vec<Arc<Event>>, changes: Vec<Change>, is_call: bool) {
        let kv = finished.kv.iter().flat_map(|kv| &kv.writes);
        let kv: usize = kv.map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len())).sum();
        let bytes = events.iter().map(|event| event.weight()).sum::<usize>() + kv;
        let is_taken = match is_call {
            true => self.committer.commit(events, changes),
            false => self.committer.record(events, changes),
        };
        if is_taken {
            self.count(1, bytes as i64);
            self.bytes += bytes;
            self.unwritten.push_back((finished, bytes));
        } else {
            self.refused.push((finished, CommitError::Stopped));
        }
    }

    /// Waits for the next one to be on disk; for ever if there is none. Dropping the future loses
    /// nothing.
    pub(super) async fn next(&mut self) -> Result<(), CommitError> {
        self.committer.next().await
    }

    pub(super) fn try_next(&mut self) -> Option<Result<(), CommitError>> {
        self.committer.try_next()
    }

    /// The oldest one is on disk, and is given back, or it is refused.
    pub(super) fn written(&mut self, result: Result<(), CommitError>) -> Option<Finished> {
        let (finished, bytes) = self.unwritten.pop_front()?;
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

    /// What was refused, in its order, once nothing is on its way any more: what it wrote to kv is
    /// taken back.
    pub(super) fn take_back(&mut self) -> Vec<(Finished, CommitError)> {
        if !self.unwritten.is_empty() {
            return Vec::new();
        }
        for (finished, _) in self.refused.iter_mut().rev() {
            if let Some(kv) = finished.kv.take() {
                kv.undo();
            }
        }
        self.committer.begin_anew();
        self.metrics.handler_taken_back.add(self.refused.len() as u64);
        std::mem::take(&mut self.refused)
    }

    /// Nothing is on its way, so everything that a call has read is on disk.
    pub(super) fn is_empty(&self) -> bool {
        self.unwritten.is_empty() && self.refused.is_empty()
    }

    /// Something was refused: what calls return is to be thrown away, and none begins.
    pub(super) fn is_broken(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether another call may begin.
    pub(super) fn has_room(&self) -> bool {
        let of_all = self.metrics.handler_unwritten_bytes.get();
        !self.is_broken() && self.bytes < MAX_BYTES && (of_all < MAX_BYTES_OF_ALL || self.unwritten.is_empty())
    }

    fn count(&self, events: i64, bytes: i64) {
        self.metrics.handler_unwritten.add(events);
        self.metrics.handler_unwritten_bytes.add(bytes);
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.count(-(self.unwritten.len() as i64), -(self.bytes as i64));
    }
}
