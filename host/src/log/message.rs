//! What publishers and handlers say to the sequencer, and what it answers.

use super::{AppendError, CommitError, Conflict};
use crate::{event::Event, journal::Change, metrics::Door};
use std::sync::Arc;
use tokio::sync::oneshot;

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

/// What must become true at once: a call's events and whatever goes with them.
pub(super) struct Commit {
    pub(super) events: Vec<Arc<Event>>,
    pub(super) apply: Apply,
    pub(super) purpose: Purpose,
    pub(super) ack: oneshot::Sender<Result<(), CommitError>>,
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

/// Makes the rest of a call's effects true in memory; run by the sequencer, so no two run at once. It must not block.
pub type Apply = Box<dyn FnOnce() -> Result<Applied, Conflict> + Send>;

/// What was made true in memory.
#[derive(Default)]
pub struct Applied {
    /// For the journal.
    pub changes: Vec<Change>,
    /// Takes it back, should the journal not have taken it.
    pub undo: Option<Undo>,
}

/// See [`Applied`].
pub type Undo = Box<dyn FnOnce() + Send>;

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
