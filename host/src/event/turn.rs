//! When a task that compares many events with filters gives the thread back: [`Turn`], [`select`].

use super::Event;
use std::sync::Arc;

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

/// Selects the events for which `is_wanted` is true. `work` is what one comparison costs; the task
/// yields whenever a turn's work is done.
pub async fn select(
    events: &[Arc<Event>],
    work: impl Fn(&Event) -> usize,
    is_wanted: impl Fn(&Event) -> bool,
) -> Vec<Arc<Event>> {
    let (mut selected, mut turn) = (Vec::new(), Turn::default());
    for event in events {
        turn.begin(work(event)).await;
        if is_wanted(event) {
            selected.push(event.clone());
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use futures_util::FutureExt;

    #[test]
    fn the_thread_is_given_back_whenever_the_work_of_a_turn_is_done() {
        let events: Vec<_> = (0..100).map(|_| Arc::new(NewEvent::new("a").admit().unwrap())).collect();
        // Of so much work each, and so many yields in all.
        for (work, expected) in
            [(1, 0), (TURN_WORK / 10, 9), (TURN_WORK / 2, 49), (TURN_WORK, 99), (10 * TURN_WORK, 99)]
        {
            let mut selecting = Box::pin(select(&events, |_| work, |_| true));
            let mut yields = 0;
            let selected = loop {
                match selecting.as_mut().now_or_never() {
                    Some(selected) => break selected,
                    None => yields += 1,
                }
            };
            assert_eq!((selected.len(), yields), (100, expected), "{work}");
        }
    }
}
