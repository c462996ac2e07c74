//! What was published lately: an event that comes again, with the id that its publisher gave it and the same source, is
//! acknowledged with the first one's seq and not stored again. Bounded in time and in number.

use crate::event::Event;
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

/// Source and id, as a keyed hash of 128 bits: nobody can make two that are equal, and two of a million by chance are not.
type Identity = u128;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Dedup {
    window: Duration,
    most: usize,
    seqs: HashMap<Identity, u64>,
    order: VecDeque<(Instant, Identity)>,
    keys: [RandomState; 2],
}

impl Dedup {
    pub(super) fn new(window: Duration, most: usize) -> Self {
        let (seqs, order) = (HashMap::new(), VecDeque::new());
        Self { window, most, seqs, order, keys: [RandomState::new(), RandomState::new()] }
    }

    /// The seq of the first that was the same; none, and remembered as `seq`, if it is the first itself.
    pub(super) fn first(&mut self, event: &Event, seq: u64) -> Option<u64> {
        self.remember(event.metadata.source.as_deref(), &event.metadata.event_id, seq, Instant::now())
    }

    pub(super) fn remember(&mut self, source: Option<&str>, id: &str, seq: u64, at: Instant) -> Option<u64> {
        if self.most == 0 {
            return None;
        }
        let [low, high] = self.keys.each_ref().map(|key| u128::from(key.hash_one((source, id))));
        let identity = high << 64 | low;
        if let Some(first) = self.seqs.get(&identity) {
            return Some(*first);
        }
        self.seqs.insert(identity, seq);
        self.order.push_back((at, identity));
        None
    }

    /// Forgets the newest `count`: they were not written.
    pub(super) fn take_back(&mut self, count: usize) {
        for _ in 0..count {
            let newest = self.order.pop_back();
            newest.map(|(_, identity)| self.seqs.remove(&identity));
        }
    }

    /// Forgets what is too old, or too much; gives how many were forgotten before their time.
    pub(super) fn forget(&mut self) -> u64 {
        let now = Instant::now();
        let mut early = 0;
        while let Some((at, identity)) = self.order.front() {
            let old = now.duration_since(*at) >= self.window;
            if !old && self.order.len() <= self.most {
                break;
            }
            early += u64::from(!old);
            self.seqs.remove(identity);
            self.order.pop_front();
        }
        early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dedup(window: Duration, most: usize) -> Dedup {
        Dedup::new(window, most)
    }

    #[test]
    fn the_same_id_of_the_same_source_is_the_same_event() {
        let (mut dedup, now) = (dedup(Duration::from_secs(60), 10), Instant::now());
        assert_eq!(dedup.remember(Some("a"), "1", 1, now), None);
        assert_eq!(dedup.remember(Some("b"), "1", 2, now), None);
        assert_eq!(dedup.remember(None, "1", 3, now), None);
        assert_eq!(dedup.remember(Some("a"), "1", 4, now), Some(1));
        dedup.take_back(1);
        assert_eq!(dedup.remember(None, "1", 5, now), None, "what was not written is not known");
    }

    #[test]
    fn it_is_bounded_in_time_and_in_number() {
        let mut dedup = dedup(Duration::from_secs(60), 2);
        let now = Instant::now();
        let before = now.checked_sub(Duration::from_secs(61)).unwrap_or(now);
        dedup.remember(None, "old", 1, before);
        assert_eq!(dedup.forget(), 0);
        for (seq, id) in ["a", "b", "c"].into_iter().enumerate() {
            dedup.remember(None, id, seq as u64, now);
        }
        assert_eq!((dedup.forget(), dedup.seqs.len(), dedup.order.len()), (1, 2, 2));
        assert_eq!(dedup.remember(None, "c", 9, now), Some(2));
    }
}
