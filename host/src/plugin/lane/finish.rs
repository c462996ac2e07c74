//! How a lane ends an attempt: it submits the commit when the call returns, and it settles the event
//! when the commit is on disk. If the commit is refused, the lane handles the event again.

use super::{
    Job,
    call::{CONFLICTS, Outcome, Returned, Shown, conflicted},
    pipeline::{Finished, Then},
    settle,
    worker::{Lane, PATIENCE},
};
use crate::{
    event::Event,
    journal::Change,
    kv::Transaction,
    log::CommitError,
    plugin::{Fault, FaultCode, Version, fault::looped},
};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinError, time::Instant};

impl Lane {
    /// Waits until a call returns or the result of a commit comes, and takes it.
    pub(super) async fn finish_one(&mut self) {
        self.recover();
        if self.is_idle() {
            return;
        }
        tokio::select! {
            Some(returned) = self.calls.join_next() => self.returned(returned),
            result = self.pipeline.result() => self.acknowledge(result),
        }
    }

    /// Submits the commits of calls that have returned: this one, and
    /// whichever have returned besides. Their slots are free from then on.
    pub(super) fn returned(&mut self, returned: Result<Returned, JoinError>) {
        let mut next = Some(returned);
        while let Some(returned) = next {
            // Panics are caught, and nobody aborts a call while the lane runs.
            if let Ok(Returned { job, outcome, shown }) = returned {
                match self.pipeline.is_aborted() {
                    true => self.stale.push(job),
                    false => self.settle(job, outcome, shown),
                }
            }
            next = self.calls.try_join_next();
        }
    }

    fn settle(&mut self, job: Job, outcome: Outcome, shown: Option<Shown>) {
        match outcome {
            Outcome::Handled { version, outbox, writes } => self.handled(job, version, outbox, writes, shown),
            Outcome::Unwanted => self.without_effects(job, shown),
            Outcome::Again { pause, code } => {
                let changes = settle::again(&self.name, &job, pause, code);
                let finished = Finished { job, then: Then::Again { pause }, version: None, shown, kv: None };
                self.pipeline.push(finished, Vec::new(), changes, false);
            }
            Outcome::Postponed => self.wait(Instant::now() + PATIENCE, job),
            Outcome::Dead { code, message, version } => self.dead(job, code, message, version, shown),
        }
    }

    fn handled(
        &mut self,
        job: Job,
        version: Arc<Version>,
        outbox: Vec<Arc<Event>>,
        writes: Option<Box<Transaction>>,
        shown: Option<Shown>,
    ) {
        let writes = writes.filter(|writes| !(outbox.is_empty() && writes.is_read_only() && self.pipeline.is_empty()));
        let kv = match writes.map(|writes| writes.commit()).transpose() {
            Ok(kv) => kv,
            Err(_) => {
                self.bus.metrics().commit_conflicts.inc();
                return match job.conflicts < CONFLICTS {
                    true => self.call(Job { conflicts: job.conflicts + 1, ..job }, &version),
                    false => {
                        let outcome = conflicted(&version, &job);
                        self.settle(job, outcome, shown);
                    }
                };
            }
        };
        if outbox.is_empty() && kv.is_none() {
            return self.without_effects(job, shown);
        }
        self.pace.spend(outbox.len(), Instant::now());
        let writes = kv.iter().flat_map(|kv| &kv.writes);
        let changes =
            writes.map(|(key, value)| Change::Kv { plugin: self.name.clone(), key: key.clone(), value: value.clone() });
        let done = Change::Done { plugin: self.name.clone(), seq: job.event.seq };
        let changes = changes.chain([done]).collect();
        self.order.done(&job);
        let finished = Finished { job, then: Then::Done, version: Some(version), shown, kv };
        self.pipeline.push(finished, outbox, changes, true);
    }

    /// Ends an attempt without effects. Only an event whose retry the
    /// journal has recorded needs a commit: the retry is removed.
    fn without_effects(&mut self, job: Job, shown: Option<Shown>) {
        self.order.done(&job);
        let changes = vec![Change::Done { plugin: self.name.clone(), seq: job.event.seq }];
        let is_recorded = job.recorded;
        let finished = Finished { job, then: Then::Done, version: None, shown, kv: None };
        match is_recorded {
            true => self.pipeline.push(finished, Vec::new(), changes, false),
            false => self.committed(finished),
        }
    }

    fn dead(
        &mut self,
        job: Job,
        code: &'static str,
        message: String,
        version: Option<Arc<Version>>,
        shown: Option<Shown>,
    ) {
        let (told, changes) = settle::bury(&self.name, &job, code, &message, version.as_deref());
        self.order.done(&job);
        let finished = Finished { job, then: Then::Dead { code, message }, version, shown, kv: None };
        self.pipeline.push(finished, told, changes, false);
    }

    /// Takes the result of the oldest commit, and of those after it whose results have come.
    pub(super) fn acknowledge(&mut self, result: Result<(), CommitError>) {
        let mut next = Some(result);
        while let Some(result) = next {
            if let Some(finished) = self.pipeline.acknowledge(result) {
                self.committed(finished);
            }
            next = self.pipeline.try_result();
        }
    }

    /// Settles the event of an attempt that is committed, or that had nothing to commit.
    fn committed(&mut self, finished: Finished) {
        let Finished { job, then, shown, .. } = finished;
        let metrics = self.bus.metrics();
        if let Some(shown) = shown {
            shown.tell(&self.plugin, &job);
        }
        match then {
            Then::Done => {}
            Then::Again { pause } => {
                metrics.handler_calls.inc();
                metrics.handler_errors.inc();
                metrics.handler_retries.inc();
                let recorded = self.flush.is_some();
                if recorded {
                    self.held.recorded(job.event.seq);
                }
                let again = Job { attempt: job.attempt + 1, recorded, conflicts: 0, ..job };
                return self.wait(Instant::now() + pause, again);
            }
            Then::Dead { code, message } => {
                self.plugin.mourn(&job.event, job.attempt, code, &message);
                metrics.handler_errors.inc();
                metrics.dead_letters.inc();
                // It may have been replayed already, while it was still held.
                self.more_retries |= self.flush.is_some();
            }
        }
        metrics.handler_calls.inc();
        metrics.events_processed.inc();
        self.let_go(&job);
    }

    /// After a refused commit: rolls back what depends on it, and puts the events
    /// back in line. It waits until no call runs and no result is to come, since
    /// a call that has read what is rolled back must not take effect.
    pub(super) fn recover(&mut self) {
        if !self.pipeline.is_aborted() || !self.calls.is_empty() {
            return;
        }
        let refused = self.pipeline.roll_back();
        if refused.is_empty() {
            return;
        }
        let mut back = std::mem::take(&mut self.stale);
        let (mut loops, mut stopped) = (Vec::new(), Vec::new());
        for (finished, error) in refused {
            match error {
                CommitError::Loop { .. } => loops.push((finished, error)),
                CommitError::Stopped if self.flush.is_none() => stopped.push(finished),
                CommitError::Journal(error) => {
                    tracing::warn!(plugin = &*self.name, seq = finished.job.event.seq, %error, "to be handled again");
                    self.begin_at = Some(Instant::now() + PATIENCE);
                    back.push(finished.job);
                }
                CommitError::Aborted | CommitError::Stopped => back.push(finished.job),
            }
        }
        let by = self.plugin.current().and_then(|version| version.order_by());
        self.order.put_back(by, back, self.waiting.keys().copied());
        for (finished, error) in loops {
            self.dead_by_loop(finished, &error);
        }
        for finished in stopped {
            let then = Then::Dead { code: "stopped", message: CommitError::Stopped.to_string() };
            self.committed(Finished { then, ..finished });
        }
    }

    /// Makes the event a dead letter whose call published more than
    /// its root may bring about. Another attempt would do the same.
    fn dead_by_loop(&mut self, finished: Finished, error: &CommitError) {
        let Finished { job, version, shown, .. } = finished;
        let message = looped(&error.to_string(), &job.event.metadata.chain, job.event.seq);
        let fault = Fault { code: FaultCode::Loop, message: message.clone(), starved: Duration::ZERO };
        if let Some(version) = &version {
            version.looped(&message);
            self.plugin.raise(version, &job.event, &fault);
        }
        let shown = shown.map(|shown| shown.refused(fault));
        self.dead(job, FaultCode::Loop.as_str(), message, version, shown);
    }
}
