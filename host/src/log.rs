//! The log: every event in one order, and the cursors that read it. There are no per-consumer queues.
//!
//! ```text
//! publishers ─ append ─▶ ingress (bounded) ─▶ sequencer ─▶ journal ─▶ tail ─▶ cursor ─▶ consumer
//! handlers ─── commit ─▶ commits ───────────┘ (the only    (optional)     └▶ view ──▶ cursor ─▶ client
//!                                              writer)
//! ```
//!
//! With a journal an event is seen, and acknowledged, once it is written; a cursor that has fallen behind the tail reads
//! from the journal and sees no difference. The lanes bound what waits in `commits`. Knows nothing of plugins, sockets or HTTP. Start reading at [`Log::append`],
//! then `log/sequencer.rs`.

mod budget;
mod committer;
mod config;
pub mod cursor;
mod dedup;
mod descendants;
pub mod frames;
mod keeper;
mod message;
mod resume;
pub mod selection;
mod sequencer;
pub mod tail;
pub mod view;

pub use committer::Committer;
pub use config::LogConfig;
pub use cursor::{Chunk, Cursor, Gap, Step};
pub use message::{Seqs, Submitted};
pub use resume::{EpochNotice, ResumeError};

use crate::{
    event::Event,
    journal::{Change, Journal, Lineage, Opened, WriteError},
    metrics::{Door, Metrics},
};
use anyhow::Context;
use budget::Budget;
use dedup::Dedup;
use descendants::Descendants;
use message::{Ack, Append, Commit, Purpose};
use sequencer::Sequencer;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};
use tail::Tail;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

/// Most events that handlers may bring about from one event from outside, all chains together.
pub const MAX_DESCENDANTS: u64 = 1_000;

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
    lineage: Lineage,
    tail: Tail,
    view_bytes: usize,
    journal: Option<Journal>,
    head: watch::Sender<Head>,
    ingress: mpsc::Sender<Append>,
    queued: Budget,
    commits: mpsc::UnboundedSender<Commit>,
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

/// Why the log did not take events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// The journal did not take them.
    #[error(transparent)]
    Journal(WriteError),
}

impl Log {
    /// A new, empty log in memory and its sequencer, which runs until [`Log::close`]. Needs a tokio runtime.
    pub fn in_memory(config: &LogConfig, metrics: Arc<Metrics>) -> Self {
        let (log, sequencer) = Self::build(config, metrics, None);
        // In memory it is a task, and those do not fail to start.
        let _ = sequencer.spawn();
        log
    }

    /// The log of a journal, which goes on where it ended, and its sequencer, which runs until [`Log::close`]. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the sequencer's thread cannot be started.
    pub fn on_journal(config: &LogConfig, metrics: Arc<Metrics>, opened: Opened) -> anyhow::Result<Self> {
        let journal = opened.journal.clone();
        let (log, sequencer) = Self::build(config, metrics, Some(opened));
        sequencer.spawn().context("cannot start the sequencer's thread")?;
        keeper::start(&log.shared, &journal);
        Ok(log)
    }

    fn build(config: &LogConfig, metrics: Arc<Metrics>, opened: Option<Opened>) -> (Self, Sequencer) {
        let ingress_events = config.ingress_events.get();
        let (ingress, appends) = mpsc::channel(ingress_events.min(Semaphore::MAX_PERMITS));
        let (commits, commit_queue) = mpsc::unbounded_channel();
        let mut dedup = Dedup::new(config.dedup_window(), config.dedup_events);
        let (mut lineage, mut seq, mut journal, mut writer) = (Lineage::new(1), 0, None, None);
        if let Some(opened) = opened {
            (lineage, seq) = (opened.lineage, opened.head);
            (journal, writer) = (Some(opened.journal), Some(opened.writer));
            let now = Instant::now();
            for event in opened.recent {
                let at = now.checked_sub(event.age).unwrap_or(now);
                dedup.remember(event.source.as_deref(), &event.event_id, event.seq, at);
            }
        }
        let shared = Arc::new(Shared {
            lineage,
            tail: Tail::new(config.buffer_size.get(), config.buffer_bytes, seq),
            view_bytes: config.view_bytes,
            journal,
            head: watch::Sender::new(Head { seq, closed: false }),
            ingress,
            queued: Budget::new(ingress_events, config.ingress_bytes),
            commits,
            phase: watch::Sender::new(Phase::Open),
            metrics,
        });
        let descendants = Descendants::default();
        let sequencer =
            Sequencer { shared: shared.clone(), appends, commits: commit_queue, dedup, descendants, writer };
        (Self { shared }, sequencer)
    }

    /// Names this run of numbering: a seq means something only together with it.
    pub fn epoch(&self) -> Uuid {
        self.shared.lineage.current()
    }

    /// The epochs before this one, and it: see [`Log::resume`].
    pub fn lineage(&self) -> &Lineage {
        &self.shared.lineage
    }

    /// Bytes that its views may hold together.
    pub(crate) fn view_bytes(&self) -> usize {
        self.shared.view_bytes
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
        self.shared.journal.as_ref().map_or_else(|| self.shared.tail.oldest(), Journal::oldest)
    }

    /// What it is written to; none in memory.
    pub fn journal(&self) -> Option<&Journal> {
        self.shared.journal.as_ref()
    }

    /// The numbers that this log, and what reads it, counts into.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Hands events to the sequencer and returns without waiting for it.
    ///
    /// # Errors
    /// At once, if there is no room or the log has stopped; then none of the events is taken.
    pub fn try_append(&self, door: Door, events: Vec<Arc<Event>>) -> Result<(), AppendError> {
        self.enqueue(Append::of(Some(door), events))
    }

    /// As [`Log::try_append`] for the hub's own events; once they are taken, the log counts what becomes of them.
    ///
    /// # Errors
    /// As [`Log::try_append`].
    pub fn try_append_own(&self, events: Vec<Arc<Event>>) -> Result<(), AppendError> {
        self.enqueue(Append::of(None, events))
    }

    /// Hands events to the sequencer: once this returns, they will be in the log whether or not
    /// anybody waits, unless the journal fails. It is for the caller to count them as sent; from
    /// then on the log counts what becomes of them. `identified`: some have an id that their
    /// publisher gave them, so they may have come before.
    ///
    /// # Errors
    /// At once, if there is no room or the log has stopped; then none of the events is taken.
    pub fn append(&self, door: Door, events: Vec<Arc<Event>>, identified: bool) -> Result<Submitted, AppendError> {
        let (ack, done) = oneshot::channel();
        self.enqueue(Append { identified, ack: Some(ack), ..Append::of(Some(door), events) })?;
        Ok(Submitted { done })
    }

    /// Refuses at once what no wait could make room for.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`].
    pub fn check_size(&self, events: &[Arc<Event>]) -> Result<(), AppendError> {
        self.shared.queued.check(events.len(), weight(events))
    }

    fn enqueue(&self, append: Append) -> Result<(), AppendError> {
        let shared = &*self.shared;
        if *shared.phase.borrow() != Phase::Open {
            return Err(AppendError::Stopped);
        }
        let (count, bytes) = (append.events.len(), append.bytes);
        shared.queued.take(count, bytes)?;
        shared.ingress.try_send(append).map_err(|error| {
            // Told like an append: whoever waits for the queue to be empty must hear of this too.
            shared.head.send_modify(|_| shared.queued.give_back(count, bytes));
            match error {
                mpsc::error::TrySendError::Full(_) => AppendError::Full,
                mpsc::error::TrySendError::Closed(_) => AppendError::Stopped,
            }
        })
    }

    /// Commits the hub's own events together with the changes
    /// that go with them. In memory only the events matter.
    ///
    /// # Errors
    /// If the journal cannot be written, or the log has ended.
    pub async fn record(&self, events: Vec<Arc<Event>>, changes: Vec<Change>) -> Result<(), CommitError> {
        if self.shared.journal.is_none() && events.is_empty() {
            return Ok(());
        }
        self.send(events, changes, Purpose::Own).await
    }

    async fn tidy(&self) -> Result<(), CommitError> {
        self.send(Vec::new(), Vec::new(), Purpose::Tidy).await
    }

    async fn send(&self, events: Vec<Arc<Event>>, changes: Vec<Change>, purpose: Purpose) -> Result<(), CommitError> {
        let (ack, done) = oneshot::channel();
        let commit = Commit { events, changes, purpose, stream: None, ack: Ack::One(ack) };
        self.shared.commits.send(commit).map_err(|_| CommitError::Stopped)?;
        done.await.map_err(|_| CommitError::Stopped)?
    }

    /// Submits commits that depend on one another without waiting for each to be on disk.
    pub fn committer(&self) -> Committer {
        Committer::new(self.shared.clone())
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

    /// Waits until the log has ended.
    pub async fn ended(&self) {
        // An error would mean the same.
        let _ = self.watch_head().wait_for(|head| head.closed).await;
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

fn weight(events: &[Arc<Event>]) -> usize {
    events.iter().map(|event| event.weight()).sum()
}

/// Why a call's effects were not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A commit that this one depends on was refused: see [`Committer`]. Run the call again.
    #[error("a commit that this one depends on was refused")]
    Aborted,
    /// More would come of one event than [`MAX_DESCENDANTS`]. Nothing was applied, and running the call again changes nothing.
    #[error("event {root} would have {descendants} descendants, at most {MAX_DESCENDANTS} are allowed")]
    Loop {
        /// The seq of the event from outside with which it began.
        root: u64,
        /// How many it would have.
        descendants: u64,
    },
    /// The log has been closed.
    #[error("the hub is stopping")]
    Stopped,
    /// The journal did not take them; nothing of them is true.
    #[error(transparent)]
    Journal(WriteError),
}
