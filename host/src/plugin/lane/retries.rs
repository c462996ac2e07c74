//! What the journal says is to be tried again, taken into the lane: after a start, and when dead letters are replayed.

use super::{
    Job,
    worker::{Lane, PATIENCE},
};
use crate::journal::{Change, DeadLetter, Retries};
use tokio::time::Instant;

impl Lane {
    pub(super) async fn reload_retries(&mut self) {
        if let Err(error) = self.load_retries().await {
            tracing::warn!(plugin = &*self.name, %error, "cannot read what is to be handled again");
            self.more_retries = true;
            self.read_at = Some(Instant::now() + PATIENCE);
        }
    }

    /// Takes in as much of it as there is room for.
    pub(super) async fn load_retries(&mut self) -> anyhow::Result<()> {
        let Some(journal) = self.bus.log().journal() else { return Ok(()) };
        let by = self.plugin.current().and_then(|version| version.order_by());
        let Retries { found, more } = journal.retries(self.name.clone(), self.held.seqs()).await?;
        (self.more_retries, self.retries_next) = (more, false);
        for (retry, event) in found {
            if !self.held.has_room() {
                self.more_retries = true;
                break;
            }
            let Some(event) = event else {
                self.bury_gone(retry.seq, retry.attempt).await?;
                continue;
            };
            let job = Job { event, attempt: retry.attempt, recorded: true, faulted: false, conflicts: 0 };
            self.held.insert(&job.event, true);
            if !retry.pause.is_zero() && self.order.claim(by, &job) {
                self.wait(Instant::now() + retry.pause, job);
            } else {
                self.order.push(by, job);
            }
        }
        Ok(())
    }

    /// Retention, or damage, has taken an event that was to be tried again.
    async fn bury_gone(&self, seq: u64, attempt: u32) -> anyhow::Result<()> {
        let message = "the event is no longer in the journal".to_owned();
        tracing::warn!(plugin = &*self.name, seq, message, "dead letter");
        let (plugin, code, attempts) = (self.name.clone(), "gone", attempt - 1);
        let letter = DeadLetter { plugin, seq, code, message, attempts, version: None, event: "null".into() };
        let done = Change::Done { plugin: self.name.clone(), seq };
        self.bus.log().record(Vec::new(), vec![Change::Dead(Box::new(letter)), done]).await?;
        self.bus.metrics().dead_letters.inc();
        self.bus.metrics().events_processed.inc();
        Ok(())
    }
}
