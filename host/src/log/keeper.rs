//! Keeps the journal in bounds while nobody publishes: gives retention its turn.

use super::{CommitError, Log, Shared};
use crate::journal::Journal;
use std::sync::{Arc, Weak};

pub(super) async fn run(shared: Weak<Shared>, journal: Journal) {
    let mut tick = tokio::time::interval(journal.config().flush_s.duration());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut head = match shared.upgrade() {
        Some(shared) => shared.head.subscribe(),
        None => return,
    };
    loop {
        tokio::select! {
            ended = head.wait_for(|head| head.closed) => {
                drop(ended);
                return;
            }
            _ = tick.tick() => {}
        }
        loop {
            let before = journal.oldest();
            let Some(shared) = shared.upgrade() else { return };
            match (Log { shared }).tidy().await {
                Err(CommitError::Stopped) => return,
                // The next tick tries again: somebody has to find out that there is room again.
                Err(_) => break,
                Ok(()) => {}
            }
            if journal.oldest() == before {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Spawned by the log that it keeps; ends with it.
pub(super) fn start(shared: &Arc<Shared>, journal: &Journal) {
    tokio::spawn(run(Arc::downgrade(shared), journal.clone()));
}
