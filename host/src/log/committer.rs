//! How a handler's lane commits: one commit after the other, without waiting for the disk between
//! them. Start reading at [`Committer::commit`].

use super::{
    CommitError, Shared,
    message::{Ack, Commit, CommitStream, Purpose},
};
use crate::{event::Event, journal::Change};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Submits commits that depend on one another, and receives the results in the same order.
///
/// The queue to the sequencer has no bound of its own. The owner of a committer bounds the number of
/// commits that it has submitted and has no result of: see `plugin/lane/pipeline.rs`.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    stream: CommitStream,
    ack: mpsc::UnboundedSender<Result<(), CommitError>>,
    acks: mpsc::UnboundedReceiver<Result<(), CommitError>>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (ack, acks) = mpsc::unbounded_channel();
        Self { shared, stream: CommitStream::default(), ack, acks }
    }

    /// Submits the effects of a handler's call. Commits have a queue of their own, so they never wait
    /// behind publishers (I5). Returns `false` if the log takes no more commits.
    pub fn commit(&self, events: Vec<Arc<Event>>, changes: Vec<Change>) -> bool {
        self.submit(events, changes, Purpose::Call)
    }

    /// Submits what the hub does about an event that a handler failed at: a retry or a dead letter.
    /// Returns `false` if the log takes no more commits.
    pub fn record(&self, events: Vec<Arc<Event>>, changes: Vec<Change>) -> bool {
        self.submit(events, changes, Purpose::Own)
    }

    fn submit(&self, events: Vec<Arc<Event>>, changes: Vec<Change>, purpose: Purpose) -> bool {
        let (stream, ack) = (Some(self.stream.clone()), Ack::Stream(self.ack.clone()));
        self.shared.commits.send(Commit { events, changes, purpose, stream, ack }).is_ok()
    }

    /// Waits for the result of the oldest commit that has none yet. It
    /// waits for ever if there is no such commit. Cancellation safe.
    ///
    /// # Errors
    /// [`CommitError::Loop`] or [`CommitError::Journal`] for the commit that was refused, and
    /// [`CommitError::Aborted`] for each one after it.
    pub async fn result(&mut self) -> Result<(), CommitError> {
        // The committer holds a sender itself, so the channel cannot be closed.
        self.acks.recv().await.unwrap_or(Err(CommitError::Stopped))
    }

    /// The result of the oldest commit that has none yet, if it has come.
    pub fn try_result(&mut self) -> Option<Result<(), CommitError>> {
        self.acks.try_recv().ok()
    }

    /// Begins a new stream. Commits that are submitted from now on do not depend on earlier ones.
    pub fn restart(&mut self) {
        self.stream = CommitStream::default();
    }
}
