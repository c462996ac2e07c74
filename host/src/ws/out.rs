//! What a connection is writing, and by when something has to happen.

use super::WebSocketConfig;
use crate::log::frames::Frames;
use bytes::Bytes;
use std::pin::Pin;
use tokio::time::{Instant, Sleep};

/// What is being written: whole frames, from `at` on.
#[derive(Default)]
pub(super) struct Out {
    pub(super) bytes: Bytes,
    pub(super) at: usize,
    /// Which records of a view they are; none for other messages.
    pub(super) frames: Option<Frames>,
    /// Since when the socket takes nothing.
    pub(super) stuck: Option<Instant>,
}

impl Out {
    pub(super) fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// When the client is to be pinged, and when it is given up.
pub(super) struct Clock {
    pub(super) next_ping: Instant,
    pub(super) pong_due: Option<Instant>,
    pub(super) alarm: Pin<Box<Sleep>>,
}

impl Clock {
    /// Sets the alarm to whatever comes first.
    pub(super) fn set(&mut self, out: &Out, config: &WebSocketConfig) {
        let slow = config.slow_timeout_s.duration();
        let due =
            [Some(self.next_ping), self.pong_due, out.stuck.map(|since| since + slow)].into_iter().flatten().min();
        if let Some(due) = due
            && due != self.alarm.deadline()
        {
            self.alarm.as_mut().reset(due);
        }
    }
}
