//! A plugin's calls as they end, for whoever watches them: the shadow of a plugin, an author's terminal. A call that nobody watches
//! pays one look at a counter for it.
//!
//! Bounded in calls and in bytes: who reads too slowly misses the oldest, and what does not fit is told to nobody. Both are counted.

use super::host::Transcript;
use super::shadow::Answer;
use super::version::{Params, Version};
use crate::event::Event;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most calls that a watcher may be behind.
const CALLS: usize = 1_024;
/// Most bytes of events, those emitted included, in all of them.
const BYTES: usize = 16 << 20;

/// See the module's head.
#[derive(Debug)]
pub struct Feed {
    calls: Sender<Arc<Observed>>,
    watchers: Arc<AtomicUsize>,
    room: Arc<Semaphore>,
    untold: Arc<AtomicU64>,
}

impl Default for Feed {
    fn default() -> Self {
        let (calls, room) = (Sender::new(CALLS), Arc::new(Semaphore::new(BYTES)));
        Self { calls, watchers: Arc::default(), room, untold: Arc::default() }
    }
}

impl Feed {
    /// The calls that end from now on.
    pub fn watch(&self) -> Watch {
        self.watchers.fetch_add(1, Relaxed);
        let untold = self.untold.clone();
        Watch { calls: self.calls.subscribe(), watchers: self.watchers.clone(), seen: untold.load(Relaxed), untold }
    }

    /// Room for what a call says, if anybody watches: only then is there anything to [`Feed::tell`].
    #[inline]
    pub fn transcript(&self) -> Option<Transcript> {
        (self.watchers.load(Relaxed) > 0).then(Transcript::with_trace)
    }

    /// Tells of a call.
    pub fn tell(&self, mut observed: Observed) {
        let weight = observed.weight().clamp(1, BYTES) as u32;
        match self.room.clone().try_acquire_many_owned(weight) {
            Ok(room) => {
                observed.room = Some(room);
                // Nobody is left: then nobody is told.
                let _ = self.calls.send(Arc::new(observed));
            }
            Err(_) => {
                self.untold.fetch_add(1, Relaxed);
            }
        }
    }
}

/// Follows a feed.
#[derive(Debug)]
pub struct Watch {
    calls: Receiver<Arc<Observed>>,
    watchers: Arc<AtomicUsize>,
    untold: Arc<AtomicU64>,
    /// Of those that were told to nobody, so many are accounted for.
    seen: u64,
}

/// What comes next of a feed.
#[derive(Debug, Clone)]
pub enum Next {
    /// A call.
    Call(Arc<Observed>),
    /// So many calls were missed.
    Missed(u64),
}

impl Watch {
    /// The next call; none once the plugin is gone.
    pub async fn next(&mut self) -> Option<Next> {
        let untold = self.untold.load(Relaxed);
        let missed = untold - std::mem::replace(&mut self.seen, untold);
        if missed > 0 {
            return Some(Next::Missed(missed));
        }
        match self.calls.recv().await {
            Ok(call) => Some(Next::Call(call)),
            Err(RecvError::Lagged(missed)) => Some(Next::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Relaxed);
    }
}

/// One call that has ended, and whose effects are committed if it had any.
#[derive(Debug)]
pub struct Observed {
    /// With what.
    pub event: Arc<Event>,
    /// Which attempt it was: 1 for the first.
    pub attempt: u32,
    /// A filter's.
    pub params: Params,
    /// That was called; none where the plugin's active version does not want the event, but its shadow does.
    pub version: Option<Arc<Version>>,
    /// What came of it.
    pub answer: Answer,
    /// What the guest said meanwhile.
    pub said: Transcript,
    room: Option<OwnedSemaphorePermit>,
}

impl Observed {
    /// A call of `version` with `event`.
    pub fn of(version: Arc<Version>, event: Arc<Event>, answer: Answer, said: Transcript) -> Self {
        Self { version: Some(version), answer, said, ..Self::unasked(event) }
    }

    /// No call, because the active version does not want the event.
    pub fn unasked(event: Arc<Event>) -> Self {
        let (params, answer, said) = (Params::default(), Answer::not_asked(), Transcript::default());
        Self { event, attempt: 1, params, version: None, answer, said, room: None }
    }

    /// As the API tells it.
    pub fn to_json(&self) -> Value {
        let Self { event, attempt, version, answer, said, .. } = self;
        let mut told = json!({
            "seq": event.seq, "event_id": event.metadata.event_id, "type": event.event_type, "attempt": attempt,
            "ended": answer.ended, "emitted": answer.emitted_as_json(), "said": said,
            "fuel": said.usage.fuel, "time_us": said.usage.nanoseconds / 1_000, "memory": said.usage.memory,
        });
        if let Some(version) = version {
            told["generation"] = version.generation().into();
            told["sha256"] = version.sha256().into();
        }
        if let Some(verdict) = answer.verdict {
            told["verdict"] = verdict.into();
        }
        if let Some(message) = &answer.message {
            told["message"] = message.as_str().into();
        }
        told
    }

    /// The bytes that it keeps.
    fn weight(&self) -> usize {
        let said = &self.said;
        let lines = said.lines.iter().map(|line| line.message.len()).sum::<usize>();
        self.event.weight()
            + self.answer.emitted.iter().map(|event| event.weight()).sum::<usize>()
            + (lines + said.stdout.len() + said.stderr.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

    fn observed(data: &str) -> Observed {
        Observed::unasked(Arc::new(NewEvent::new("a.b").data(data).unwrap().admit().unwrap()))
    }

    #[tokio::test]
    async fn nobody_who_does_not_watch_is_told_and_a_transcript_is_only_made_for_who_does() {
        let feed = Feed::default();
        assert!(feed.transcript().is_none());
        feed.tell(observed("before"));
        let mut watch = feed.watch();
        assert!(feed.transcript().is_some());
        feed.tell(observed("while"));
        let Some(Next::Call(call)) = watch.next().await else { panic!("a call was told") };
        assert_eq!(call.event.data.get(), "\"while\"");
        drop(watch);
        assert!(feed.transcript().is_none());
    }

    #[tokio::test]
    async fn a_slow_watcher_misses_the_oldest_and_is_told_how_many() {
        let feed = Feed::default();
        let mut watch = feed.watch();
        for _ in 0..CALLS + 5 {
            feed.tell(observed("x"));
        }
        let Some(Next::Missed(5)) = watch.next().await else { panic!("5 were missed") };
        let Some(Next::Call(_)) = watch.next().await else { panic!("the rest is there") };
    }

    #[tokio::test]
    async fn more_bytes_than_there_is_room_for_are_told_to_nobody_and_counted() {
        let feed = Feed::default();
        let mut watch = feed.watch();
        let large = "x".repeat(1_000_000);
        for _ in 0..20 {
            feed.tell(observed(&large));
        }
        let Some(Next::Missed(missed)) = watch.next().await else { panic!("some were missed") };
        let mut told = 0;
        while told + missed < 20 {
            let Some(Next::Call(_)) = watch.next().await else { panic!("the others are there") };
            told += 1;
        }
        assert_eq!(told, 16);
        feed.tell(observed(&large));
        assert!(matches!(watch.next().await, Some(Next::Call(_))), "read, they give their room back");
    }
}
