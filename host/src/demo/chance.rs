//! Chance in the words of the simulation. Integers only: floating point differs between machines in its last digits.

use super::agenda::Micros;
use std::ops::Range;

const MILLI: Micros = 1_000;

/// Everything random comes from here, in one order, so that a seed decides it all.
#[derive(Debug)]
pub(super) struct Chance {
    rng: fastrand::Rng,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed) }
    }

    pub(super) fn between(&mut self, range: Range<u64>) -> u64 {
        self.rng.u64(range)
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.rng.u64(..n) == 0
    }

    /// One of `choices`, which may not be empty.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(..choices.len())]
    }

    /// A duration of about `millis`, as work takes: mostly within a factor of two, now and then several times as long.
    pub(super) fn around(&mut self, millis: u64) -> Micros {
        let usual = self.rng.u64(millis * MILLI / 2..millis * MILLI * 3 / 2);
        if self.one_in(12) { usual * self.rng.u64(2..5) } else { usual }
    }

    pub(super) fn hex(&mut self, digits: usize) -> String {
        self.text(digits, b"0123456789abcdef")
    }

    /// `length` characters of an ASCII alphabet.
    pub(super) fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        (0..length).map(|_| char::from(self.pick(alphabet))).collect()
    }
}
