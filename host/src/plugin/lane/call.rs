//! One attempt of a lane to have an event handled: the call, and what its failure means.

use super::Job;
use crate::{
    event::Event,
    kv::Transaction,
    plugin::{
        CallError, Effects, FailureKind, Fault, FaultCode, Kind, Transcript, Version, feed::Observed, registry::Plugin,
        shadow::Answer,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// First pause before another try; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause of the lane's own before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause that a plugin may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Most times that a call is run again because another had changed what it read, before that counts as a failed attempt.
pub(super) const CONFLICTS: u32 = 1_000;

/// What came of handing an event to the plugin. Nothing of it is true yet.
pub(super) struct Returned {
    pub(super) job: Job,
    pub(super) outcome: Outcome,
    /// For those who watch the plugin, once it is true.
    pub(super) shown: Option<Shown>,
}

pub(super) enum Outcome {
    /// The plugin has handled the event.
    Handled { version: Arc<Version>, outbox: Vec<Arc<Event>>, writes: Option<Box<Transaction>> },
    /// The active version does not subscribe to the event.
    Unwanted,
    /// The lane is to try the event again after `pause`.
    Again { pause: Duration, code: &'static str },
    /// The plugin is gone: with a journal, the event is found again, should it come back.
    Postponed,
    Dead {
        code: &'static str,
        message: String,
        /// That tried last.
        version: Option<Arc<Version>>,
    },
}

/// One call, as those see it who watch the plugin.
pub(super) struct Shown {
    version: Arc<Version>,
    answer: Answer,
    said: Transcript,
}

impl Shown {
    /// Sends the call to those who watch the plugin.
    pub(super) fn tell(self, plugin: &Plugin, job: &Job) {
        let mut observed = Observed::of(self.version, job.event.clone(), self.answer, self.said);
        observed.attempt = job.attempt;
        plugin.feed().tell(observed);
    }

    /// The same call, whose effects were refused.
    pub(super) fn refused(self, fault: Fault) -> Self {
        Self { answer: Answer::failed(&fault.into()), ..self }
    }
}

/// One attempt: hands the event to the version that is active when it begins.
pub(super) async fn call(
    plugin: &Plugin,
    is_durable: bool,
    mut active: watch::Receiver<Option<Arc<Version>>>,
    job: Job,
) -> Returned {
    // An attempt belongs to the version that is active when it begins, and finishes on it.
    let version = tokio::select! {
        biased;
        active = active.wait_for(Option::is_some) => active.ok().and_then(|active| active.clone()),
        () = plugin.gone().cancelled() => None,
    };
    let Some(version) = version else {
        let outcome = match is_durable {
            true => Outcome::Postponed,
            false => Outcome::Dead { code: "gone", message: "the plugin was removed".into(), version: None },
        };
        return Returned { job, outcome, shown: None };
    };
    // Another version than the one for which it was read may want other events.
    if version.kind() != Kind::Handler || !version.wants(&job.event) {
        return Returned { job, outcome: Outcome::Unwanted, shown: None };
    }
    let mut said = plugin.feed().transcript();
    let result = version.handle_with(&job.event, job.attempt, said.as_mut()).await;
    // One event, however often it is tried, is one fault: alone it puts nothing in quarantine. At
    // whichever attempt, since the guest knows which it is.
    let accountable = !job.faulted && !result.as_ref().is_err_and(|error| version.is_starved(error));
    plugin.report(&version, &job.event, result.as_ref().err(), accountable);
    match result {
        Ok(Effects { outbox, writes, usage }) => {
            let outbox: Vec<_> = outbox.into_iter().map(Arc::new).collect();
            let answer = || Answer::emitted(outbox.clone(), usage);
            let shown = said.map(|said| Shown { version: version.clone(), answer: answer(), said });
            Returned { job, outcome: Outcome::Handled { version, outbox, writes }, shown }
        }
        Err(error) => {
            let shown = said.map(|said| Shown { version: version.clone(), answer: Answer::failed(&error), said });
            let faulted = job.faulted || (accountable && matches!(error, CallError::Fault(_)));
            let job = Job { faulted, ..job };
            let outcome = failed(&version, &job, error);
            Returned { job, outcome, shown }
        }
    }
}

/// The plugin's other calls kept changing what this one read.
pub(super) fn conflicted(version: &Arc<Version>, job: &Job) -> Outcome {
    let message = format!("{CONFLICTS} times another call changed what this one had read");
    again(version, job, "conflict", message, None)
}

fn failed(version: &Arc<Version>, job: &Job, error: CallError) -> Outcome {
    let (code, message, pause) = match error {
        CallError::Failure(failure) if failure.kind == FailureKind::Reject => {
            return Outcome::Dead { code: "reject", message: failure.message, version: Some(version.clone()) };
        }
        // It would go round in the same circle.
        CallError::Fault(fault) if fault.code == FaultCode::Loop => {
            let (code, message) = (fault.code.as_str(), fault.message);
            return Outcome::Dead { code, message, version: Some(version.clone()) };
        }
        CallError::Failure(failure) => {
            let pause = failure.retry_after_ms.map(u64::from).map(Duration::from_millis);
            ("retry", failure.message, pause.map(|pause| pause.min(LONGEST_ASKED)))
        }
        CallError::Fault(fault) => (fault.code.as_str(), fault.message, None),
    };
    again(version, job, code, message, pause)
}

/// Another try, if any is left.
fn again(version: &Arc<Version>, job: &Job, code: &'static str, message: String, pause: Option<Duration>) -> Outcome {
    if job.attempt >= version.manifest().retry.attempts {
        return Outcome::Dead { code, message, version: Some(version.clone()) };
    }
    Outcome::Again { pause: pause.unwrap_or_else(|| pause_before(job.attempt + 1)), code }
}

/// Doubles with each attempt; up to a half is taken off by chance, so that what failed together is not tried again together
/// ("Exponential Backoff And Jitter", Amazon Builders' Library).
pub(super) fn pause_before(attempt: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(2).min(16)).min(LONGEST_PAUSE);
    whole.mul_f64(1.0 - fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_have_a_bound() {
        for (attempt, longest) in [(2, 100), (3, 200), (4, 400), (100, 30_000)] {
            let pause = pause_before(attempt).as_millis();
            assert!(pause <= longest && pause >= longest / 2, "{attempt}: {pause}");
        }
    }
}
