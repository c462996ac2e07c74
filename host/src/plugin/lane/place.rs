//! Where a lane stands, as the journal knows it: through which event it is done, and which it may have begun. In memory it is
//! two numbers that nobody reads.

use crate::{
    journal::{Change, Consumer},
    log::{CommitError, Log},
};
use std::{collections::BTreeSet, sync::Arc};

/// The journal is told of so many events ahead that they may be begun, so that it need not be told of each.
const AHEAD: u64 = 1_024;

/// See the module's head.
pub(super) struct Place {
    log: Log,
    plugin: Arc<str>,
    /// Everything up to here is settled, and the journal knows it.
    done: u64,
    /// No event after this one is begun before the journal has been told.
    begun: u64,
    /// Up to here, events may have been handed to the plugin before the hub ended without a word.
    suspect: u64,
    /// Events after `done` that are done though the lane has yet to read them.
    ahead: BTreeSet<u64>,
}

impl Place {
    /// In memory, and until [`Place::open`].
    pub(super) fn new(log: Log, plugin: Arc<str>) -> Self {
        Self { log, plugin, done: 0, begun: u64::MAX, suspect: 0, ahead: BTreeSet::new() }
    }

    /// Finds the lane's place, or makes one that begins with `first`; gives the first event to read.
    pub(super) async fn open(&mut self, first: u64) -> anyhow::Result<u64> {
        let Some(journal) = self.log.journal() else { return Ok(first) };
        let found = journal.consumer(self.plugin.clone()).await?;
        let Consumer { done, begun, ahead } =
            found.unwrap_or_else(|| Consumer { done: first - 1, begun: first - 1, ahead: BTreeSet::new() });
        let opened = Change::Opened { plugin: self.plugin.clone(), done };
        self.log.record(Vec::new(), vec![opened]).await?;
        (self.done, self.begun, self.suspect, self.ahead) = (done, begun, begun, ahead);
        Ok(done + 1)
    }

    /// Whether the effects of this event are committed already.
    pub(super) fn is_done(&self, seq: u64) -> bool {
        self.ahead.contains(&seq)
    }

    /// An event that the lane has yet to read is done.
    pub(super) fn finished(&mut self, seq: u64) {
        self.ahead.insert(seq);
    }

    /// The number of the attempt that handling it now would be, as far as is known.
    pub(super) fn attempt(&self, seq: u64) -> u32 {
        if seq <= self.suspect { 2 } else { 1 }
    }

    /// To be called before events up to `last` are handed to the plugin.
    pub(super) async fn begin(&mut self, last: u64) -> Result<(), CommitError> {
        if last <= self.begun {
            return Ok(());
        }
        let begun = last + AHEAD;
        self.log.record(Vec::new(), vec![Change::Begun { plugin: self.plugin.clone(), begun }]).await?;
        self.begun = begun;
        Ok(())
    }

    /// Whether the journal does not know yet that the lane is done with everything up to `done`, or, if it is `idle`, that
    /// nothing after it was begun.
    pub(super) fn is_behind(&self, done: u64, idle: bool) -> bool {
        self.begun < u64::MAX && (done > self.done || (idle && self.begun > done))
    }

    /// Tells it. `idle`: nothing after `done` was begun.
    pub(super) async fn advance(&mut self, done: u64, idle: bool) -> Result<(), CommitError> {
        let mut changes = vec![Change::Cursor { plugin: self.plugin.clone(), done }];
        if idle {
            changes.push(Change::Begun { plugin: self.plugin.clone(), begun: done });
        }
        self.log.record(Vec::new(), changes).await?;
        if idle {
            self.begun = done;
        }
        self.done = done;
        self.ahead = self.ahead.split_off(&(done + 1));
        Ok(())
    }

    /// The plugin is gone: nobody is to wait for it.
    pub(super) async fn close(&self) {
        if self.begun < u64::MAX
            && let Err(error) = self.log.record(Vec::new(), vec![Change::Removed { plugin: self.plugin.clone() }]).await
        {
            tracing::warn!(plugin = &*self.plugin, %error, "retention waits for a handler that is gone");
        }
    }
}
