//! What publishers and handlers say to the sequencer, and what it answers.

use super::{AppendError, CommitError};
use crate::{event::Event, journal::Change, metrics::Door};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio::sync::{mpsc, oneshot};

/// Events that one publisher hands in together: they get seqs in a row.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) bytes: usize,
    /// Where they came in; none for the hub's own.
    pub(super) door: Option<Door>,
    /// Whether a publisher has given any of them its id.
    pub(super) identified: bool,
    pub(super) ack: Option<oneshot::Sender<Result<Seqs, AppendError>>>,
}

impl Append {
    /// Events whose ids the hub made, and nobody waits for them.
    pub(super) fn of(door: Option<Door>, events: Vec<Arc<Event>>) -> Self {
        let bytes = super::weight(&events);
        Self { events, bytes, door, identified: false, ack: None }
    }
}

/// The seqs of events that were handed in together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seqs {
    /// In a row, from this one on.
    From(u64),
    /// One for each, and whether it is that of an event that was there before and is the same.
    Each(Vec<(u64, bool)>),
}

/// Events and changes that the sequencer writes in one transaction, or not at all.
pub(super) struct Commit {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) changes: Vec<Change>,
    pub(super) purpose: Purpose,
    /// The commits that this one depends on; `None`: it depends on none.
    pub(super) stream: Option<CommitStream>,
    pub(super) ack: Ack,
}

/// Who commits, and so what is counted and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A handler commits the effects of a call: its events count against their root's budget.
    Call,
    /// The hub commits for itself.
    Own,
    /// The retention task commits nothing, so that retention gets its turn.
    Tidy,
}

/// A stream of commits in which each one depends on those before it. A handler's commits do, since
/// its next call reads what the last one wrote before that is on disk. Once the sequencer refuses
/// one of them, it refuses all that follow (cascading abort: Bernstein, Hadzilacos and Goodman,
/// "Concurrency Control and Recovery in Database Systems", 1987). Their owner rolls back in memory
/// what they did and begins another stream.
#[derive(Debug, Clone, Default)]
pub(super) struct CommitStream {
    is_aborted: Arc<AtomicBool>,
}

impl CommitStream {
    /// Whether the sequencer has refused one of its commits.
    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Relaxed)
    }

    pub(super) fn abort(&self) {
        self.is_aborted.store(true, Relaxed);
    }
}

/// Whom the sequencer tells that a commit is on disk, or why it is refused.
pub(super) enum Ack {
    /// Somebody who waits for this one commit.
    One(oneshot::Sender<Result<(), CommitError>>),
    /// The owner of a stream, who hears of its commits in the order in which it submitted them.
    Stream(mpsc::UnboundedSender<Result<(), CommitError>>),
}

impl Ack {
    /// Tells the result. An owner that no longer listens needs no answer.
    pub(super) fn send(self, result: Result<(), CommitError>) {
        match self {
            Self::One(to) => drop(to.send(result)),
            Self::Stream(to) => drop(to.send(result)),
        }
    }
}

/// Events on their way into the log.
#[derive(Debug)]
pub struct Submitted {
    pub(super) done: oneshot::Receiver<Result<Seqs, AppendError>>,
}

impl Submitted {
    /// Their seqs, once they are in the log.
    ///
    /// # Errors
    /// If the journal could not be written, or the hub ends meanwhile.
    pub async fn seqs(self) -> Result<Seqs, AppendError> {
        self.done.await.map_err(|_| AppendError::Stopped)?
    }
}
