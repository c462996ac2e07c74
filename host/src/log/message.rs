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

/// What becomes true at once: events, and what the journal is to know besides. Plain data, which
/// the sequencer applies.
pub(super) struct Commit {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) changes: Vec<Change>,
    pub(super) purpose: Purpose,
    /// What it rests on; none: nothing.
    pub(super) chain: Option<Chain>,
    pub(super) ack: Ack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The effects of a handler's call.
    Call,
    /// The hub's own.
    Own,
    /// Nothing but that retention gets its turn.
    Tidy,
}

/// A run of commits, each of which rests on those before it, as a handler's do: its next call reads
/// what the last one wrote before that is on disk. Once one of them is refused, so are all that
/// follow. Their owner takes back what they did in memory and begins another run.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    is_broken: Arc<AtomicBool>,
}

impl Chain {
    /// Whether one of its commits was refused.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Relaxed)
    }

    pub(super) fn break_off(&self) {
        self.is_broken.store(true, Relaxed);
    }
}

/// Where the word goes that a commit is on disk, or why not.
pub(super) enum Ack {
    /// To one that waits for this commit.
    One(oneshot::Sender<Result<(), CommitError>>),
    /// To the owner of many: in the order in which it handed them in.
    Each(mpsc::UnboundedSender<Result<(), CommitError>>),
}

impl Ack {
    /// Who has gone away does not matter.
    pub(super) fn send(self, result: Result<(), CommitError>) {
        match self {
            Self::One(to) => drop(to.send(result)),
            Self::Each(to) => drop(to.send(result)),
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
