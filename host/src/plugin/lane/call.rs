//! One attempt of a lane to have an event handled: the call, the commit of its effects, and what its failure means.

use super::Job;
use crate::{
    bus::Bus,
    journal::Change,
    kv::Transaction,
    log::{Applied, Apply, CommitError, Conflict},
    plugin::{
        CallError, Effects, FailureKind, Fault, FaultCode, Kind, Transcript, Version, fault::looped, feed::Observed,
        registry::Plugin, shadow::Answer,
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
const CONFLICTS: u32 = 1_000;

/// How a job's call ended.
pub(super) enum Ended {
    /// Well, and its effects are committed.
    Committed {
        /// Events among them.
        emitted: usize,
    },
    /// Well, and it had none.
    Nothing,
    Again {
        pause: Duration,
        code: &'static str,
        /// One of the attempts so far has counted as a fault.
        faulted: bool,
    },
    /// Its effects could not be written, so none of it is true.
    Postponed,
    Dead {
        code: &'static str,
        message: String,
        /// That tried last.
        version: Option<Arc<Version>>,
    },
}

/// One attempt: call and commit, again for as long as another call changes what this one reads (I8).
pub(super) async fn call(
    bus: &Bus,
    plugin: &Plugin,
    name: &Arc<str>,
    mut active: watch::Receiver<Option<Arc<Version>>>,
    job: &Job,
) -> Ended {
    let mut last = None;
    for _ in 0..CONFLICTS {
        // An attempt belongs to the version that is active when it begins, and finishes on it.
        let version = tokio::select! {
            biased;
            active = active.wait_for(Option::is_some) => active.ok().and_then(|active| active.clone()),
            () = plugin.gone().cancelled() => None,
        };
        let Some(version) = version else {
            // With a journal it is found again, should the plugin come back.
            return match bus.log().journal() {
                Some(_) => Ended::Postponed,
                None => Ended::Dead { code: "gone", message: "the plugin was removed".into(), version: None },
            };
        };
        // Another version than the one for which it was read may want other events.
        if version.kind() != Kind::Handler || !version.wants(&job.event) {
            return Ended::Nothing;
        }
        let mut watched = Watched { plugin, job, version: &version, said: plugin.feed().transcript() };
        let result = version.handle_with(&job.event, job.attempt, watched.said.as_mut()).await;
        // One event, however often it is tried, is one fault: alone it puts nothing in quarantine. At whichever attempt, since the guest
        // knows which it is.
        let accountable = !job.faulted && !result.as_ref().is_err_and(|error| version.is_starved(error));
        plugin.report(&version, &job.event, result.as_ref().err(), accountable);
        let effects = match result {
            Ok(effects) => effects,
            Err(error) => {
                watched.ended(|| Answer::failed(&error));
                let faulted = job.faulted || (accountable && matches!(error, CallError::Fault(_)));
                return failed(&version, job, error, faulted);
            }
        };
        let Effects { outbox, writes, usage } = effects;
        // With a journal, what was read may be taken back: the commit finds out.
        let is_sure = bus.log().journal().is_none();
        if outbox.is_empty() && writes.as_ref().is_none_or(|writes| is_sure && writes.is_read_only()) {
            watched.ended(|| Answer::emitted(Vec::new(), usage));
            return Ended::Nothing;
        }
        let emitted = outbox.len();
        let events: Vec<_> = outbox.into_iter().map(Arc::new).collect();
        let shown = watched.said.is_some().then(|| events.clone());
        match bus.log().commit(events, apply(name.clone(), job.event.seq, writes)).await {
            Ok(()) => {
                watched.ended(|| Answer::emitted(shown.unwrap_or_default(), usage));
                return Ended::Committed { emitted };
            }
            Err(CommitError::Conflict(_)) => last = Some(version),
            Err(CommitError::Journal(_)) => return Ended::Postponed,
            Err(error @ CommitError::Loop { .. }) => {
                let message = looped(&error.to_string(), &job.event.metadata.chain, job.event.seq);
                version.looped(&message);
                let fault = Fault { code: FaultCode::Loop, message: message.clone(), starved: Duration::ZERO };
                plugin.raise(&version, &job.event, &fault);
                watched.ended(|| Answer::failed(&fault.into()));
                return Ended::Dead { code: FaultCode::Loop.as_str(), message, version: Some(version) };
            }
            Err(error @ CommitError::Stopped) => {
                return match bus.log().journal() {
                    Some(_) => Ended::Postponed,
                    None => Ended::Dead { code: "stopped", message: error.to_string(), version: Some(version) },
                };
            }
        }
    }
    let message = format!("{CONFLICTS} times another call changed what this one had read");
    match last {
        Some(version) => again(&version, job, "conflict", message, None, job.faulted),
        None => Ended::Dead { code: "conflict", message, version: None },
    }
}

/// A call, for those who watch the plugin; there is nothing to tell where nobody does.
struct Watched<'a> {
    plugin: &'a Plugin,
    job: &'a Job,
    version: &'a Arc<Version>,
    said: Option<Transcript>,
}

impl Watched<'_> {
    fn ended(self, answer: impl FnOnce() -> Answer) {
        let Some(said) = self.said else { return };
        let mut observed = Observed::of(self.version.clone(), self.job.event.clone(), answer(), said);
        observed.attempt = self.job.attempt;
        self.plugin.feed().tell(observed);
    }
}

/// Makes true in memory what the call wrote, and says what the journal is to know: also that this event is done.
fn apply(plugin: Arc<str>, seq: u64, writes: Option<Box<Transaction>>) -> Apply {
    Box::new(move || {
        let committed = writes.map(|writes| writes.commit()).transpose().map_err(|_| Conflict)?;
        let writes = committed.iter().flat_map(|committed| &committed.writes);
        let kv = |(key, value): &(String, Option<Arc<[u8]>>)| Change::Kv {
            plugin: plugin.clone(),
            key: key.clone(),
            value: value.clone(),
        };
        let changes = writes.map(kv).chain([Change::Done { plugin: plugin.clone(), seq }]).collect();
        let undo = committed.map(|committed| Box::new(move || committed.undo()) as crate::log::Undo);
        Ok(Applied { changes, undo })
    })
}

fn failed(version: &Arc<Version>, job: &Job, error: CallError, faulted: bool) -> Ended {
    let (code, message, pause) = match error {
        CallError::Failure(failure) if failure.kind == FailureKind::Reject => {
            return Ended::Dead { code: "reject", message: failure.message, version: Some(version.clone()) };
        }
        // It would go round in the same circle.
        CallError::Fault(fault) if fault.code == FaultCode::Loop => {
            let (code, message) = (fault.code.as_str(), fault.message);
            return Ended::Dead { code, message, version: Some(version.clone()) };
        }
        CallError::Failure(failure) => {
            let pause = failure.retry_after_ms.map(u64::from).map(Duration::from_millis);
            ("retry", failure.message, pause.map(|pause| pause.min(LONGEST_ASKED)))
        }
        CallError::Fault(fault) => (fault.code.as_str(), fault.message, None),
    };
    again(version, job, code, message, pause, faulted)
}

/// Another try, if any is left.
fn again(
    version: &Arc<Version>,
    job: &Job,
    code: &'static str,
    message: String,
    pause: Option<Duration>,
    faulted: bool,
) -> Ended {
    if job.attempt >= version.manifest().retry.attempts {
        return Ended::Dead { code, message, version: Some(version.clone()) };
    }
    Ended::Again { pause: pause.unwrap_or_else(|| pause_before(job.attempt + 1)), code, faulted }
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
