//! The log: every event in one order, and the cursors that read it. There are no per-consumer queues.
//!
//! ```text
//! publishers ─ append ─▶ ingress (bounded) ─▶ sequencer ─▶ tail ─▶ cursor ─▶ consumer
//! handlers ─── commit ─▶ commits (bounded) ─┘ (one task)         └▶ view ──▶ cursor ─▶ client
//! ```
//!
//! Knows nothing of plugins, sockets or HTTP. A journal on disk goes between the sequencer and the tail, and under
//! [`tail::Tail::read`]; consumers see no difference. Start reading at [`Log::append`], then `log/sequencer.rs`.

pub mod cursor;
pub mod frames;
mod sequencer;
pub mod tail;
pub mod view;

pub use cursor::{Chunk, Cursor, Gap, Step};

use crate::{event::Event, metrics::Metrics};
use serde::{Deserialize, Serialize};
use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tail::Tail;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

/// Bounds of the log's queues.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Most events that the tail holds; a consumer that falls further behind gets a gap.
    pub buffer_size: NonZero<usize>,
    /// Most bytes of events that the tail holds (the newest batch always stays).
    pub buffer_bytes: usize,
    /// Most events that wait for the sequencer; more are refused with `full`.
    pub ingress_events: NonZero<usize>,
    /// Most bytes of events that wait for the sequencer.
    pub ingress_bytes: usize,
    /// Most handler calls whose effects wait for the sequencer at once.
    #[serde(skip)]
    pub commit_slots: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            buffer_size: const { NonZero::new(16_384).unwrap() },
            buffer_bytes: 64 << 20,
            ingress_events: const { NonZero::new(8_192).unwrap() },
            ingress_bytes: 32 << 20,
            commit_slots: 1_024,
        }
    }
}

/// The head of the log, as consumers wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The last seq given; 0 for an empty log.
    pub seq: u64,
    /// Nothing will come after it.
    pub closed: bool,
}

/// A handle on the log; clones are the same log.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoch: Uuid,
    tail: Tail,
    head: watch::Sender<Head>,
    ingress: mpsc::Sender<Append>,
    queued: Budget,
    commits: mpsc::Sender<Commit>,
    phase: watch::Sender<Phase>,
    metrics: Arc<Metrics>,
}

/// What the sequencer still takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Open,
    /// Commits of handlers only, so that they can finish.
    Draining,
    Closed,
}

/// Events that one publisher hands in together: they get seqs in a row.
#[derive(Debug)]
struct Append {
    events: Vec<Arc<Event>>,
    bytes: usize,
    ack: Option<oneshot::Sender<u64>>,
}

/// What a handler's call did: its events and whatever else must become true with them.
struct Commit {
    events: Vec<Arc<Event>>,
    apply: Apply,
    ack: oneshot::Sender<Result<(), Conflict>>,
}

/// Makes the rest of a call's effects true; run by the sequencer, so no two run at once. It must not block.
pub type Apply = Box<dyn FnOnce() -> Result<(), Conflict> + Send>;

/// Another call has changed what this one read; nothing was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another call changed what this one had read")]
pub struct Conflict;

/// Why the log did not take events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room in the ingress queue now.
    #[error("the ingress queue is full")]
    Full,
    /// More in one append than the ingress queue ever holds.
    #[error("{events} events of {bytes} bytes at once are more than the ingress queue holds")]
    TooLarge {
        /// How many there were.
        events: usize,
        /// What they weighed.
        bytes: usize,
    },
    /// The log takes no more events.
    #[error("the hub is stopping")]
    Stopped,
}

impl Log {
    /// A new, empty log and its sequencer, which runs until [`Log::close`].
    pub fn start(config: &LogConfig, metrics: Arc<Metrics>) -> Self {
        let ingress_events = config.ingress_events.get();
        let (ingress, appends) = mpsc::channel(ingress_events.min(Semaphore::MAX_PERMITS));
        let (commits, commit_queue) = mpsc::channel(config.commit_slots.max(1));
        let shared = Arc::new(Shared {
            epoch: Uuid::now_v7(),
            tail: Tail::new(config.buffer_size.get(), config.buffer_bytes),
            head: watch::Sender::new(Head { seq: 0, closed: false }),
            ingress,
            queued: Budget::new(ingress_events, config.ingress_bytes),
            commits,
            phase: watch::Sender::new(Phase::Open),
            metrics,
        });
        tokio::spawn(sequencer::run(shared.clone(), appends, commit_queue));
        Self { shared }
    }

    /// Names this run of numbering: a seq means something only together with it.
    pub fn epoch(&self) -> Uuid {
        self.shared.epoch
    }

    /// The last seq given.
    pub fn head(&self) -> u64 {
        self.shared.head.borrow().seq
    }

    /// Follows the head.
    pub fn watch_head(&self) -> watch::Receiver<Head> {
        self.shared.head.subscribe()
    }

    /// The first seq that is still there.
    pub fn oldest(&self) -> u64 {
        self.shared.tail.oldest()
    }

    /// The numbers that this log, and what reads it, counts into.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Hands events to the sequencer and returns without waiting for it.
    ///
    /// # Errors
    /// At once, if there is no room or the log has stopped; then none of the events is taken.
    pub fn try_append(&self, events: Vec<Arc<Event>>) -> Result<(), AppendError> {
        self.enqueue(events, None)
    }

    /// Hands events to the sequencer and waits until they are in the log; returns the last one's seq, the others
    /// precede it without a gap. Waits for the sequencer only, never for a consumer (I1).
    ///
    /// # Errors
    /// At once, if there is no room or the log has stopped; then none of the events is taken.
    pub async fn append(&self, events: Vec<Arc<Event>>) -> Result<u64, AppendError> {
        self.submit(events)?.seq().await
    }

    /// The first half of [`Log::append`]: once it returns, the events will be in the log whether or not anybody waits.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn submit(&self, events: Vec<Arc<Event>>) -> Result<Submitted, AppendError> {
        let (ack, done) = oneshot::channel();
        self.enqueue(events, Some(ack))?;
        Ok(Submitted { done })
    }

    /// Refuses at once what no wait could make room for.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`].
    pub fn check_size(&self, events: &[Arc<Event>]) -> Result<(), AppendError> {
        self.shared.queued.check(events.len(), weight(events))
    }

    fn enqueue(&self, events: Vec<Arc<Event>>, ack: Option<oneshot::Sender<u64>>) -> Result<(), AppendError> {
        let shared = &*self.shared;
        if *shared.phase.borrow() != Phase::Open {
            return Err(AppendError::Stopped);
        }
        let (count, bytes) = (events.len(), weight(&events));
        shared.queued.take(count, bytes)?;
        shared.ingress.try_send(Append { events, bytes, ack }).map_err(|error| {
            // Told like an append: whoever waits for the queue to be empty must hear of this too.
            shared.head.send_modify(|_| shared.queued.give_back(count, bytes));
            match error {
                mpsc::error::TrySendError::Full(_) => AppendError::Full,
                mpsc::error::TrySendError::Closed(_) => AppendError::Stopped,
            }
        })
    }

    /// Commits what a handler's call did: `apply` and `events` together, or neither. Its queue is the handlers' own, so
    /// it never waits behind publishers (I5).
    ///
    /// # Errors
    /// Whatever `apply` found: then the events are not in the log.
    pub async fn commit(&self, events: Vec<Arc<Event>>, apply: Apply) -> Result<(), CommitError> {
        let (ack, done) = oneshot::channel();
        let commit = Commit { events, apply, ack };
        self.shared.commits.send(commit).await.map_err(|_| CommitError::Stopped)?;
        Ok(done.await.map_err(|_| CommitError::Stopped)??)
    }

    /// A cursor whose next event is `from` (at least 1).
    pub fn cursor(&self, from: u64) -> Cursor {
        Cursor::new(self.shared.clone(), from.max(1))
    }

    /// A cursor whose next event is the next one published.
    pub fn cursor_at_head(&self) -> Cursor {
        self.cursor(self.head() + 1)
    }

    /// Takes no more events from publishers; handlers can still commit.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Waits until the log takes no more events from publishers.
    pub async fn draining(&self) {
        // An error would mean that the log is gone, which is later than draining.
        let _ = self.shared.phase.subscribe().wait_for(|phase| *phase > Phase::Open).await;
    }

    /// Ends the log: cursors that have read everything end.
    pub fn close(&self) {
        self.advance(Phase::Closed);
    }

    /// Returns once every event that publishers had handed in before [`Log::drain`] is in the log.
    pub async fn settled(&self) {
        self.shared.ingress.closed().await;
        let mut head = self.watch_head();
        while self.shared.queued.events.load(Relaxed) > 0 && head.changed().await.is_ok() {}
    }

    /// Whether publishers are still welcome.
    pub fn is_open(&self) -> bool {
        *self.shared.phase.borrow() == Phase::Open
    }

    fn advance(&self, to: Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        });
    }
}

/// Events on their way into the log.
#[derive(Debug)]
pub struct Submitted {
    done: oneshot::Receiver<u64>,
}

impl Submitted {
    /// The last one's seq, once they are in the log.
    ///
    /// # Errors
    /// Only if the hub ends meanwhile.
    pub async fn seq(self) -> Result<u64, AppendError> {
        self.done.await.map_err(|_| AppendError::Stopped)
    }
}

fn weight(events: &[Arc<Event>]) -> usize {
    events.iter().map(|event| event.weight()).sum()
}

/// Why a call's effects were not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// See [`Conflict`]: run the call again.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The log has been closed.
    #[error("the hub is stopping")]
    Stopped,
}

/// How much may wait for the sequencer, in events and in bytes.
#[derive(Debug)]
struct Budget {
    events: AtomicUsize,
    bytes: AtomicUsize,
    max_events: usize,
    max_bytes: usize,
}

impl Budget {
    fn new(max_events: usize, max_bytes: usize) -> Self {
        Self { events: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_events, max_bytes }
    }

    fn check(&self, events: usize, bytes: usize) -> Result<(), AppendError> {
        let fits = events <= self.max_events && bytes <= self.max_bytes;
        if fits { Ok(()) } else { Err(AppendError::TooLarge { events, bytes }) }
    }

    fn take(&self, events: usize, bytes: usize) -> Result<(), AppendError> {
        self.check(events, bytes)?;
        if self.events.fetch_add(events, Relaxed) + events > self.max_events {
            self.events.fetch_sub(events, Relaxed);
            return Err(AppendError::Full);
        }
        if self.bytes.fetch_add(bytes, Relaxed) + bytes > self.max_bytes {
            self.give_back(events, bytes);
            return Err(AppendError::Full);
        }
        Ok(())
    }

    fn give_back(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}
