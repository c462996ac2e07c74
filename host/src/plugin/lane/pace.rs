//! When a lane begins calls: as many at once as the version allows, and not while the plugin is over its emission rate. Only its
//! own events wait then; nothing is lost.

use super::{
    Job,
    call::{Outcome, Returned, call},
    worker::Lane,
};
use crate::plugin::Version;
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::time::Instant;

/// As much as may be emitted at once, in time at the rate.
const BURST: Duration = Duration::from_secs(1);

/// How far a plugin's emissions are ahead of its rate.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When as many as it has emitted would have been, one after the other at its rate.
    even: Option<Instant>,
    /// While a call is held back.
    until: Option<Instant>,
    rate: u32,
}

impl Pace {
    /// When the call that is held back may begin; none if none is.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Counts what a call has emitted.
    pub(super) fn spend(&mut self, emitted: usize, now: Instant) {
        if emitted > 0 {
            let even = self.even.filter(|even| *even > now).unwrap_or(now);
            self.even = Some(even + Duration::from_secs(emitted as u64) / self.rate.max(1));
        }
    }

    /// How long it is until there is room for one more event; none if there is.
    fn ahead(&self, now: Instant) -> Option<Duration> {
        let even = self.even?.saturating_duration_since(now);
        let ahead = (even + BURST / self.rate.max(1)).saturating_sub(BURST);
        (!ahead.is_zero()).then_some(ahead)
    }
}

impl Lane {
    /// Begins as many calls as may run at once. `hold`: not while the plugin is over its rate.
    pub(super) fn begin(&mut self, version: &Version, hold: bool) {
        self.pace.rate = version.limits().emit_rate;
        while self.calls.len() < version.concurrency()
            && self.order.is_ready()
            && self.pipeline.has_room()
            && self.begin_at.is_none()
        {
            if hold && self.is_held_back() {
                return;
            }
            let Some(job) = self.order.pop() else { break };
            self.call(job, version);
        }
        self.pace.until = None;
    }

    fn is_held_back(&mut self) -> bool {
        let now = Instant::now();
        let before = self.pace.until;
        self.pace.until = self.pace.ahead(now).map(|ahead| now + ahead);
        // Once, however often it is looked at meanwhile.
        if before.is_none() && self.pace.until.is_some() {
            self.plugin.stats().waited();
        }
        self.pace.until.is_some()
    }

    pub(super) fn call(&mut self, job: Job, version: &Version) {
        let (bus, plugin, active) = (self.bus.clone(), self.plugin.clone(), self.active.clone());
        let is_durable = self.flush.is_some();
        let call = async move {
            let _active = bus.metrics().active_handlers.hold();
            let kept = job.clone();
            let called = AssertUnwindSafe(call(&plugin, is_durable, active, job)).catch_unwind().await;
            called.unwrap_or_else(|_| Returned {
                job: kept,
                outcome: Outcome::Dead {
                    code: "panic",
                    message: "the hub's own code panicked over it".into(),
                    version: None,
                },
                shown: None,
            })
        };
        match version.threads() {
            Some(slow) => self.calls.spawn_on(call, slow),
            None => self.calls.spawn(call),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_may_be_emitted_at_once_and_then_one_at_a_time() {
        let mut pace = Pace { rate: 10, ..Pace::default() };
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        pace.spend(9, begin);
        assert_eq!(pace.ahead(begin), None, "there is room for a tenth");
        pace.spend(1, begin);
        assert_eq!(pace.ahead(begin), Some(Duration::from_millis(100)));
        assert_eq!(pace.ahead(at(100)), None);
        pace.spend(64, at(100));
        assert_eq!(pace.ahead(at(100)), Some(Duration::from_millis(6_400)), "what was too much is made up for");
        assert_eq!(pace.ahead(at(6_500)), None);
        pace.spend(0, at(60_000));
        pace.spend(10, at(60_000));
        assert_eq!(pace.ahead(at(60_000)), Some(Duration::from_millis(100)), "quiet time is not saved up");
    }

    #[test]
    fn one_in_a_second_is_one_in_a_second() {
        let mut pace = Pace { rate: 1, ..Pace::default() };
        let begin = Instant::now();
        assert_eq!(pace.ahead(begin), None);
        pace.spend(1, begin);
        assert_eq!(pace.ahead(begin), Some(BURST));
        assert_eq!(pace.ahead(begin + BURST), None);
    }
}
