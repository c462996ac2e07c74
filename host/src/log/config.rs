//! The section `[log]` of the configuration.

use crate::seconds::Seconds;
use serde::{Deserialize, Serialize};
use std::{num::NonZero, time::Duration};

/// Bounds of the log's queues.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Most events that the tail holds; a consumer that falls further behind reads from the journal, or in
    /// memory gets a gap.
    pub buffer_size: NonZero<usize>,
    /// Most bytes of events that the tail holds (the newest batch always stays).
    pub buffer_bytes: usize,
    /// Bytes that the views of all clients hold together, encoded frames included; above it each
    /// keeps its share, and clients further behind read from the log.
    pub view_bytes: usize,
    /// Most events that wait for the sequencer; more are refused with `full`.
    pub ingress_events: NonZero<usize>,
    /// Most bytes of events that wait for the sequencer.
    pub ingress_bytes: usize,
    /// For so long an event that comes again, with the id that its publisher gave it and the same source, is known; in
    /// seconds.
    pub dedup_window_s: Seconds,
    /// Most events that are known so; 0 turns it off.
    pub dedup_events: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            buffer_size: const { NonZero::new(16_384).unwrap() },
            buffer_bytes: 64 << 20,
            view_bytes: 64 << 20,
            ingress_events: const { NonZero::new(8_192).unwrap() },
            ingress_bytes: 32 << 20,
            dedup_window_s: Seconds::new(120),
            dedup_events: 262_144,
        }
    }
}

impl LogConfig {
    /// See [`LogConfig::dedup_window_s`].
    pub fn dedup_window(&self) -> Duration {
        self.dedup_window_s.duration()
    }
}
