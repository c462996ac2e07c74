//! The clock by which the journal counts the age of events. It follows the wall clock, but never
//! goes back and never jumps: a wall clock that is wrong for a while neither stops retention nor
//! removes young events.

use std::time::{Duration, Instant};

/// The clock takes over a difference to the wall clock of up to this at once, in milliseconds: it
/// is more than time daemons slew.
const FOLLOWED_AT_ONCE_MS: i64 = 1_000;
/// A step of the wall clock by more than this is logged and counted, in milliseconds.
const JUMP_MS: i64 = 60_000;
/// The time of the newest event is not believed if it is further ahead of the wall clock than this,
/// in milliseconds.
const MAX_AHEAD_MS: i64 = 86_400_000;
/// Of the time between two runs at most this part of `max_age_s` is believed at once.
const BELIEVED_PART: i64 = 8;

/// See the module's head. Times are milliseconds since 1970, UTC, more or less.
#[derive(Debug)]
pub(super) struct JournalClock {
    now_ms: i64,
    wall_ms: i64,
    at: Instant,
}

/// What one reading of the clock found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) now_ms: i64,
    /// By how much the wall clock stepped since the reading before, if that is worth a line.
    pub(super) jumped_ms: Option<i64>,
}

impl JournalClock {
    /// `newest_ms`: when the newest event was received. `max_age_s`: see [`super::JournalConfig`].
    pub(super) fn start(newest_ms: Option<i64>, wall_ms: i64, max_age_s: u64) -> Self {
        let max_age_ms = i64::try_from(max_age_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        let believed = if max_age_ms == 0 { i64::MAX } else { max_age_ms / BELIEVED_PART };
        let now_ms = match newest_ms {
            Some(newest) if newest <= wall_ms.saturating_add(MAX_AHEAD_MS) => {
                newest.max(wall_ms.min(newest.saturating_add(believed)))
            }
            _ => wall_ms,
        };
        Self { now_ms, wall_ms, at: Instant::now() }
    }

    /// Reads it.
    pub(super) fn read(&mut self, wall_ms: i64) -> Reading {
        let elapsed = self.at.elapsed().as_millis() as u64;
        // What is less than a millisecond counts the next time.
        self.at += Duration::from_millis(elapsed);
        self.advance(wall_ms, i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    /// Advances by the time that has really passed; while the wall clock is elsewhere, by up to
    /// twice or down to half of it.
    fn advance(&mut self, wall_ms: i64, elapsed_ms: i64) -> Reading {
        let lag = wall_ms.saturating_sub(self.now_ms).saturating_sub(elapsed_ms);
        let correction = match lag {
            0..=FOLLOWED_AT_ONCE_MS => lag,
            lag if lag > 0 => lag.min(elapsed_ms),
            lag => lag.max(-(elapsed_ms / 2)),
        };
        self.now_ms = self.now_ms.saturating_add(elapsed_ms).saturating_add(correction);
        let jump = wall_ms.saturating_sub(self.wall_ms).saturating_sub(elapsed_ms);
        self.wall_ms = wall_ms;
        Reading { now_ms: self.now_ms, jumped_ms: (jump.saturating_abs() > JUMP_MS).then_some(jump) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn started(newest_ms: Option<i64>) -> i64 {
        JournalClock::start(newest_ms, 100 * DAY, 8 * 86_400).now_ms
    }

    #[test]
    fn a_start_believes_the_wall_clock_within_bounds() {
        assert_eq!(started(None), 100 * DAY);
        assert_eq!(started(Some(100 * DAY - 5)), 100 * DAY, "a short stop");
        assert_eq!(started(Some(90 * DAY)), 91 * DAY, "a long stop counts as an eighth of the age");
        assert_eq!(started(Some(100 * DAY + 5)), 100 * DAY + 5, "it never goes back");
        assert_eq!(started(Some(400 * DAY)), 100 * DAY, "an event from the future is not believed");
    }

    #[test]
    fn a_jump_of_the_wall_clock_is_told_and_counts_no_more_than_the_time_that_passed() {
        let mut clock = JournalClock::start(None, 0, 0);
        assert_eq!(clock.advance(1_000, 1_000), Reading { now_ms: 1_000, jumped_ms: None });
        let forward = clock.advance(10 * DAY + 2_000, 1_000);
        assert_eq!(forward, Reading { now_ms: 3_000, jumped_ms: Some(10 * DAY) });
        let back = clock.advance(3_000, 1_000);
        assert_eq!((back.now_ms, back.jumped_ms), (3_500, Some(-10 * DAY)), "slower until they agree");
        assert_eq!(clock.advance(4_000, 1_000).now_ms, 4_000);
    }
}
