//! What many calls used up, and how it is spread. Pure.

use crate::plugin::Usage;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Most values that one worker keeps of each kind: beyond that, a sample of all of them, so that a long run is of fixed size.
const MAX_KEPT: usize = 1 << 20;

/// How values are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// Of one measurement.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) calls: u64,
    pub(super) ok: u64,
    pub(super) seconds: f64,
    pub(super) calls_per_second: f64,
    /// Microseconds of a call.
    pub(super) time_us: Spread,
    pub(super) fuel: Spread,
    /// Most bytes that an instance had.
    pub(super) memory: usize,
    pub(super) emitted: u64,
    pub(super) failures: BTreeMap<&'static str, u64>,
    pub(super) faults: BTreeMap<&'static str, u64>,
    /// Calls that returned ok, but of which another one had changed the same keys first.
    pub(super) conflicts: u64,
}

/// What one worker counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: u64,
    ok: u64,
    emitted: u64,
    memory: usize,
    time: Values,
    fuel: Values,
    pub(super) failures: BTreeMap<&'static str, u64>,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) conflicts: u64,
}

impl Tally {
    /// Counts a call, however it ended.
    pub(super) fn used(&mut self, usage: &Usage) {
        self.calls += 1;
        self.memory = self.memory.max(usage.memory);
        self.time.add(usage.nanoseconds);
        self.fuel.add(usage.fuel);
    }

    pub(super) fn ok(&mut self, emitted: usize) {
        self.ok += 1;
        self.emitted += emitted as u64;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.ok += other.ok;
        self.emitted += other.emitted;
        self.memory = self.memory.max(other.memory);
        self.conflicts += other.conflicts;
        self.time.merge(other.time);
        self.fuel.merge(other.fuel);
        for (mine, theirs) in [(&mut self.failures, other.failures), (&mut self.faults, other.faults)] {
            theirs.into_iter().for_each(|(code, count)| *mine.entry(code).or_default() += count);
        }
    }

    pub(super) fn into_figures(self, elapsed: Duration) -> Figures {
        let seconds = elapsed.as_secs_f64();
        Figures {
            calls: self.calls,
            ok: self.ok,
            seconds,
            calls_per_second: self.calls as f64 / seconds.max(f64::EPSILON),
            time_us: self.time.spread(1e-3),
            fuel: self.fuel.spread(1.0),
            memory: self.memory,
            emitted: self.emitted,
            failures: self.failures,
            faults: self.faults,
            conflicts: self.conflicts,
        }
    }
}

/// Values, all of them or a fair sample (algorithm R, Vitter 1985); the ends of their range are exact.
#[derive(Debug, Default)]
struct Values {
    kept: Vec<u64>,
    seen: u64,
    range: Option<(u64, u64)>,
}

impl Values {
    fn add(&mut self, value: u64) {
        self.seen += 1;
        let (min, max) = self.range.unwrap_or((value, value));
        self.range = Some((min.min(value), max.max(value)));
        if self.kept.len() < MAX_KEPT {
            return self.kept.push(value);
        }
        let place = fastrand::u64(..self.seen) as usize;
        if let Some(kept) = self.kept.get_mut(place) {
            *kept = value;
        }
    }

    /// Workers call about equally often, so their samples weigh the same.
    fn merge(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.seen += other.seen;
        self.range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }

    fn spread(mut self, unit: f64) -> Spread {
        let Some((min, max)) = self.range else { return Spread::default() };
        self.kept.sort_unstable();
        let last = self.kept.len().saturating_sub(1);
        // The nearest rank: a value that was measured.
        let at = |part: f64| {
            let rank = (part * self.kept.len() as f64).ceil() as usize;
            self.kept.get(rank.saturating_sub(1).min(last)).map_or(0.0, |value| *value as f64 * unit)
        };
        Spread { min: min as f64 * unit, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: max as f64 * unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_values_that_were_measured() {
        let mut one = Values::default();
        (1..=60).rev().for_each(|value| one.add(value));
        let mut other = Values::default();
        (61..=100).for_each(|value| other.add(value));
        one.merge(other);
        assert_eq!(one.spread(2.0), Spread { min: 2.0, p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        assert_eq!(Values::default().spread(1.0), Spread::default());
    }

    #[test]
    fn many_values_take_a_fixed_room_and_keep_their_range() {
        let mut values = Values::default();
        (0..MAX_KEPT as u64 * 2).for_each(|value| values.add(value));
        assert_eq!(values.kept.len(), MAX_KEPT);
        let spread = values.spread(1.0);
        assert_eq!((spread.min, spread.max), (0.0, (MAX_KEPT * 2 - 1) as f64));
        let middle = MAX_KEPT as f64;
        assert!((spread.p50 - middle).abs() < middle / 20.0, "{spread:?}");
    }
}
