//! One attempt of a lane to have an event handled: the call, the commit of its effects, and what its failure means.

use super::Job;
use crate::{
    bus::Bus,
    kv::Transaction,
    log::{CommitError, Conflict},
    plugin::{CallError, FailureKind, FaultCode, Kind, Version, registry::Plugin},
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
    Done,
    Again { pause: Duration },
    Dead { code: &'static str, message: String },
}

/// One attempt: call and commit, again for as long as another call changes what this one reads (I8).
pub(super) async fn call(
    bus: &Bus,
    plugin: &Plugin,
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
            return Ended::Dead { code: "gone", message: "the plugin was removed".into() };
        };
        // Another version than the one for which it was read may want other events.
        if version.kind() != Kind::Handler || !version.subscriptions().iter().any(|filter| filter.matches(&job.event)) {
            return Ended::Done;
        }
        let result = version.handle(&job.event, job.attempt).await;
        // One event, however often it is tried, is one fault: alone it puts nothing in quarantine.
        plugin.report(&version, result.as_ref().err(), job.attempt == 1);
        let effects = match result {
            Ok(effects) => effects,
            Err(error) => return failed(&version, job, error),
        };
        let writes = effects.writes;
        if effects.outbox.is_empty() && writes.as_ref().is_none_or(Transaction::is_read_only) {
            return Ended::Done;
        }
        let events = effects.outbox.into_iter().map(Arc::new).collect();
        let apply = move || writes.map_or(Ok(()), |writes| writes.commit().map_err(|_| Conflict));
        match bus.log().commit(events, Box::new(apply)).await {
            Ok(()) => return Ended::Done,
            Err(CommitError::Conflict(_)) => last = Some(version),
            Err(error @ CommitError::Stopped) => {
                return Ended::Dead { code: "stopped", message: error.to_string() };
            }
        }
    }
    let message = format!("{CONFLICTS} times another call changed what this one had read");
    match last {
        Some(version) => again(&version, job, "conflict", message, None),
        None => Ended::Dead { code: "conflict", message },
    }
}

fn failed(version: &Version, job: &Job, error: CallError) -> Ended {
    let (code, message, pause) = match error {
        CallError::Failure(failure) if failure.kind == FailureKind::Reject => {
            return Ended::Dead { code: "reject", message: failure.message };
        }
        // It would go round in the same circle.
        CallError::Fault(fault) if fault.code == FaultCode::Loop => {
            return Ended::Dead { code: fault.code.as_str(), message: fault.message };
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
fn again(version: &Version, job: &Job, code: &'static str, message: String, pause: Option<Duration>) -> Ended {
    if job.attempt >= version.manifest().retry.attempts {
        return Ended::Dead { code, message };
    }
    Ended::Again { pause: pause.unwrap_or_else(|| pause_before(job.attempt + 1)) }
}

/// Doubles with each attempt; up to a half is taken off by chance, so that what failed together is not tried again together
/// ("Exponential Backoff And Jitter", Amazon Builders' Library).
fn pause_before(attempt: u32) -> Duration {
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
