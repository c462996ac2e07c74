//! The events that a lane holds: at work, waiting for their turn or for another try. Bounded in number and in weight.

use crate::event::Event;
use std::collections::{BTreeMap, BTreeSet};

/// Most events held at once. The lane reads no further until there is room.
const EVENTS: usize = 1_024;
/// Most bytes; asked before each chunk, so that one chunk more than this may be held.
const BYTES: usize = 8 << 20;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By seq, with the weight of each: everything before the first of them is done.
    events: BTreeMap<u64, usize>,
    /// Those that the journal does not know to be waiting for another try: everything before the first of them is settled.
    unsettled: BTreeSet<u64>,
    bytes: usize,
}

impl Held {
    pub(super) fn insert(&mut self, event: &Event, recorded: bool) {
        let weight = event.weight();
        if self.events.insert(event.seq, weight).is_none() {
            self.bytes += weight;
        }
        if !recorded {
            self.unsettled.insert(event.seq);
        }
    }

    /// The journal knows that it waits for another try.
    pub(super) fn recorded(&mut self, seq: u64) {
        self.unsettled.remove(&seq);
    }

    pub(super) fn remove(&mut self, seq: u64) {
        self.bytes -= self.events.remove(&seq).unwrap_or(0);
        self.unsettled.remove(&seq);
    }

    /// The seqs of all of them.
    pub(super) fn seqs(&self) -> BTreeSet<u64> {
        self.events.keys().copied().collect()
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        self.events.contains_key(&seq)
    }

    /// The first that the journal would not know of, were the hub to end now.
    pub(super) fn first_unsettled(&self) -> Option<u64> {
        self.unsettled.first().copied()
    }

    pub(super) fn has_room(&self) -> bool {
        self.events.len() < EVENTS && self.bytes < BYTES
    }

    pub(super) fn is_half_empty(&self) -> bool {
        self.events.len() <= EVENTS / 2 && self.bytes <= BYTES / 2
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.events.keys().next().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

    fn event(seq: u64, bytes: usize) -> Event {
        let mut event = NewEvent::new("a").data("x".repeat(bytes)).unwrap().admit().unwrap();
        event.seq = seq;
        event
    }

    #[test]
    fn a_lane_holds_a_bounded_number_of_events_and_of_bytes() {
        let mut held = Held::default();
        for seq in 1..=8 {
            assert!(held.has_room(), "{seq}");
            held.insert(&event(seq, (1 << 20) - 100), false);
        }
        held.insert(&event(9, 1_000), true);
        assert!(!held.has_room());
        held.remove(1);
        assert!(held.has_room() && held.first() == Some(2));
        held.recorded(2);
        assert!(held.first_unsettled() == Some(3) && held.contains(2) && !held.contains(1));
        (2..=9).for_each(|seq| held.remove(seq));
        assert_eq!((held.len(), held.bytes), (0, 0));
        (1..=1_024).for_each(|seq| held.insert(&event(seq, 0), false));
        assert!(!held.has_room());
    }
}
