//! How a handler's lane commits: one after the other, without waiting for the disk between them.

use super::{
    CommitError, Shared,
    message::{Ack, Chain, Commit, Purpose},
};
use crate::{event::Event, journal::Change};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Commits that rest on one another, and the word on each, in order. The queue to the sequencer has
/// no bound of its own: whoever has a committer bounds what it hands in and has not heard of (see
/// `plugin/lane/pipeline.rs`).
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    chain: Chain,
    ack: mpsc::UnboundedSender<Result<(), CommitError>>,
    acks: mpsc::UnboundedReceiver<Result<(), CommitError>>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (ack, acks) = mpsc::unbounded_channel();
        Self { shared, chain: Chain::default(), ack, acks }
    }

    /// Hands in what a call did. False: the log takes no more.
    pub fn commit(&self, events: Vec<Arc<Event>>, changes: Vec<Change>) -> bool {
        self.send(events, changes, Purpose::Call)
    }

    /// Hands in what the hub does about an event: tries it again, or gives it up.
    pub fn record(&self, events: Vec<Arc<Event>>, changes: Vec<Change>) -> bool {
        self.send(events, changes, Purpose::Own)
    }

    fn send(&self, events: Vec<Arc<Event>>, changes: Vec<Change>, purpose: Purpose) -> bool {
        let (chain, ack) = (Some(self.chain.clone()), Ack::Each(self.ack.clone()));
        self.shared.commits.send(Commit { events, changes, purpose, chain, ack }).is_ok()
    }

    /// The word on the next commit that was handed in; none, for ever, where there is none.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<(), CommitError> {
        // It holds a sender itself, so it cannot be closed.
        self.acks.recv().await.unwrap_or(Err(CommitError::Stopped))
    }

    /// The same, if it is there already.
    pub fn try_next(&mut self) -> Option<Result<(), CommitError>> {
        self.acks.try_recv().ok()
    }

    /// Begins a new chain: what is handed in from now on does not rest on what was refused.
    pub fn begin_anew(&mut self) {
        self.chain = Chain::default();
    }
}
