//! One compiler for one file: whoever brings the same file meanwhile, under another name, waits and takes what came of it. And how
//! often the compiler was started, and how often that was not needed.

use crate::{
    metrics::{Counter, Exposition},
    plugin::engine::Hash,
};
use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Which files are at the compiler.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Turns {
    taken: Mutex<HashSet<Hash>>,
    over: Notify,
}

/// Nobody else has it for the same file. Dropped, it is over.
pub(in crate::plugin) struct Turn<'a> {
    turns: &'a Turns,
    hash: Hash,
}

impl Turns {
    /// Waits for it.
    pub(in crate::plugin) async fn take(&self, hash: Hash) -> Turn<'_> {
        loop {
            // Made before it is looked, so that an end in between is heard.
            let over = self.over.notified();
            if self.taken().insert(hash) {
                return Turn { turns: self, hash };
            }
            over.await;
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashSet<Hash>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken().remove(&self.hash);
        self.turns.over.notify_waiters();
    }
}

/// What came of files that were to be compiled. The first three are starts of the compiler.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Tally {
    pub(in crate::plugin) compiled: Counter,
    pub(in crate::plugin) refused: Counter,
    pub(in crate::plugin) failed: Counter,
    /// What the compiler says was known.
    pub(in crate::plugin) saved: Counter,
}

impl Tally {
    pub(in crate::plugin) fn write(&self, out: &mut Exposition) {
        const STARTS: &str = "busway_plugin_compilations_total";
        out.family(
            STARTS,
            "counter",
            "Starts of the compiler, by what came of it; failed: nothing was said of the file.",
        );
        for (outcome, count) in [("compiled", &self.compiled), ("refused", &self.refused), ("failed", &self.failed)] {
            out.sample(STARTS, &[("outcome", outcome)], count.get());
        }
        const SAVED: &str = "busway_plugin_compilations_saved_total";
        out.family(SAVED, "counter", "Loads for which it was known what the compiler says of the file.");
        out.sample(SAVED, &[], self.saved.get());
    }
}
