//! A whole number of seconds in a configuration: at least one, at most a day, so that no sum of times overflows.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// See the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Seconds(u32);

const DAY: u64 = 86_400;

/// A number of seconds that is none of a configuration's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {DAY} seconds, found {0}")]
pub struct SecondsError(u64);

impl Seconds {
    /// For defaults: `seconds` is at least 1.
    pub(crate) const fn new(seconds: u32) -> Self {
        Self(seconds)
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl TryFrom<u64> for Seconds {
    type Error = SecondsError;

    fn try_from(seconds: u64) -> Result<Self, SecondsError> {
        match u32::try_from(seconds) {
            Ok(fits) if (1..=DAY).contains(&seconds) => Ok(Self(fits)),
            _ => Err(SecondsError(seconds)),
        }
    }
}

impl From<Seconds> for u64 {
    fn from(seconds: Seconds) -> Self {
        seconds.0.into()
    }
}

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0)
    }
}
