//! When a task that compares many events with filters gives the thread back: [`Turn`].

/// Most units of work (see [`super::EventFilter::work`]) before others on the thread have a turn:
/// about 0.1 ms.
pub const TURN_WORK: usize = 16_384;

/// Counts the work of one task since it last gave the thread back.
#[derive(Debug, Default)]
pub struct Turn(usize);

impl Turn {
    /// Counts `work` that is about to be done, and first yields to the runtime if the turn's work
    /// would exceed [`TURN_WORK`]. It is cancel safe: nothing is counted before the yield.
    pub async fn begin(&mut self, work: usize) {
        if self.0 > 0 && self.0 + work > TURN_WORK {
            tokio::task::yield_now().await;
            self.0 = 0;
        }
        self.0 += work;
    }
}
