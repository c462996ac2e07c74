//! Which of a lane's events may be handled now. Events with the same key are handled one after the other in order of seq,
//! also while one of them waits for another try; events without a key, or with different ones, at once.

use super::Job;
use crate::{event::Event, plugin::OrderBy};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

/// What events have in common that must not overtake one another; none: nothing.
type Key = Option<Arc<str>>;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Order {
    ready: VecDeque<Job>,
    /// For each key with an event at work: its key, and those that wait behind it.
    busy: HashMap<Arc<str>, VecDeque<Job>>,
    /// Keys of the events at work, by seq: another version may order otherwise, and they are done under the key they began with.
    keys: HashMap<u64, Arc<str>>,
}

impl Order {
    /// Puts an event in line, behind those with its key.
    pub(super) fn push(&mut self, by: Option<OrderBy>, job: Job) {
        let Some(key) = key(by, &job.event) else { return self.ready.push_back(job) };
        self.keys.insert(job.event.seq, key.clone());
        match self.busy.entry(key) {
            Entry::Occupied(mut behind) => behind.get_mut().push_back(job),
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                self.ready.push_back(job);
            }
        }
    }

    /// Takes the key of an event that waits for another try since before the lane was opened. False: it is taken, or another
    /// event of that key waits so.
    pub(super) fn claim(&mut self, by: Option<OrderBy>, job: &Job) -> bool {
        let Some(key) = key(by, &job.event) else { return true };
        if self.busy.contains_key(&key) {
            return false;
        }
        self.keys.insert(job.event.seq, key.clone());
        self.busy.insert(key, VecDeque::new());
        true
    }

    /// Whether there is an event that may be handled.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next event that may be handled.
    pub(super) fn pop(&mut self) -> Option<Job> {
        self.ready.pop_front()
    }

    /// Puts an event that is still at work back in line for another try, before those that are new.
    pub(super) fn again(&mut self, job: Job) {
        self.ready.push_front(job);
    }

    /// Puts events that had been done back in line, with those that are in line, by seq. Nothing is
    /// at work. `waiting`: the seqs of those that wait for another try, which keep their keys.
    pub(super) fn put_back(&mut self, by: Option<OrderBy>, jobs: Vec<Job>, waiting: impl Iterator<Item = u64>) {
        let behind = self.busy.drain().flat_map(|(_, behind)| behind);
        let mut all: Vec<Job> = self.ready.drain(..).chain(behind).chain(jobs).collect();
        all.sort_unstable_by_key(|job| job.event.seq);
        let keys = std::mem::take(&mut self.keys);
        for seq in waiting {
            if let Some(key) = keys.get(&seq) {
                self.keys.insert(seq, key.clone());
                self.busy.insert(key.clone(), VecDeque::new());
            }
        }
        all.into_iter().for_each(|job| self.push(by, job));
    }

    /// Ends an event: the next one with its key may be handled.
    pub(super) fn done(&mut self, job: &Job) {
        let Some(key) = self.keys.remove(&job.event.seq) else { return };
        if let Entry::Occupied(mut behind) = self.busy.entry(key) {
            match behind.get_mut().pop_front() {
                Some(next) => self.ready.push_back(next),
                None => {
                    behind.remove();
                }
            }
        }
    }
}

fn key(by: Option<OrderBy>, event: &Event) -> Key {
    match by? {
        OrderBy::Seq => Some(Arc::default()),
        OrderBy::CorrelationId => event.metadata.correlation_id.clone(),
        OrderBy::Source => event.metadata.source.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

    fn job(seq: u64, source: Option<&str>) -> Job {
        let event = NewEvent::new("a");
        let mut event = source.map_or(event.clone(), |source| event.source(source)).admit().unwrap();
        event.seq = seq;
        Job { event: Arc::new(event), attempt: 1, recorded: false, faulted: false, conflicts: 0 }
    }

    fn ready(order: &mut Order) -> Vec<u64> {
        std::iter::from_fn(|| order.pop()).map(|job| job.event.seq).collect()
    }

    #[test]
    fn events_with_the_same_key_go_one_after_the_other_and_others_go_at_once() {
        let mut order = Order::default();
        for (seq, source) in [(1, Some("a")), (2, Some("a")), (3, Some("b")), (4, None), (5, None), (6, Some("a"))] {
            order.push(Some(OrderBy::Source), job(seq, source));
        }
        assert_eq!(ready(&mut order), [1, 3, 4, 5]);
        order.done(&job(3, Some("b")));
        order.done(&job(4, None));
        assert!(ready(&mut order).is_empty());
        order.done(&job(1, Some("a")));
        assert_eq!(ready(&mut order), [2]);
        order.again(job(2, Some("a")));
        assert_eq!(ready(&mut order), [2], "another try holds up its own key only");
        order.done(&job(2, Some("a")));
        assert_eq!(ready(&mut order), [6]);
        order.done(&job(6, Some("a")));
        assert!(order.busy.is_empty() && order.keys.is_empty());
    }

    #[test]
    fn ordered_by_seq_it_is_one_at_a_time() {
        let mut order = Order::default();
        for seq in 1..=3 {
            order.push(Some(OrderBy::Seq), job(seq, None));
        }
        for seq in 1..=3 {
            assert_eq!(ready(&mut order), [seq]);
            order.done(&job(seq, None));
        }
    }
}
