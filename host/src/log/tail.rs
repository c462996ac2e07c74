//! The tail: the newest events in memory, bounded in events and in bytes, as shared immutable batches.

use crate::event::Event;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Largest batch: what a consumer gets in one step, so that no step takes long.
const MAX_BATCH: usize = 1_024;
/// Most bytes of a batch: what a client that does not read keeps alive, and a lane takes in at once.
const MAX_BATCH_BYTES: usize = 256 << 10;

/// Events in a row.
#[derive(Debug)]
pub struct Batch {
    events: Box<[Arc<Event>]>,
    bytes: usize,
}

impl Batch {
    /// Cuts events (seqs in a row) into batches of at most `largest` events and [`MAX_BATCH_BYTES`], or one event.
    pub(super) fn split(events: Vec<Arc<Event>>, largest: usize) -> Vec<Arc<Self>> {
        let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        for event in events {
            let weight = event.weight();
            if batch.len() == largest || (bytes + weight > MAX_BATCH_BYTES && !batch.is_empty()) {
                batches.push(Arc::new(Self { events: std::mem::take(&mut batch).into(), bytes }));
                bytes = 0;
            }
            bytes += weight;
            batch.push(event);
        }
        if !batch.is_empty() {
            batches.push(Arc::new(Self { events: batch.into(), bytes }));
        }
        batches
    }

    /// Events (seqs in a row) as one batch; their reader has kept its own bounds.
    pub(super) fn of(events: Vec<Arc<Event>>) -> Arc<Self> {
        let bytes = events.iter().map(|event| event.weight()).sum();
        Arc::new(Self { events: events.into(), bytes })
    }

    /// The events, in order of seq.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// The first one's seq.
    pub fn first(&self) -> u64 {
        self.events.first().map_or(0, |event| event.seq)
    }

    /// The last one's seq.
    pub fn last(&self) -> u64 {
        self.events.last().map_or(0, |event| event.seq)
    }

    /// What its events weigh.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What there is at a place of the log.
#[derive(Debug)]
pub(super) enum Read {
    /// The batch that holds the seq asked for.
    Batch(Arc<Batch>),
    /// Gone; this is the first that is left.
    Evicted(u64),
    /// Not there yet.
    AtHead,
}

/// The bounded ring of the newest batches.
#[derive(Debug)]
pub(super) struct Tail {
    ring: Mutex<Ring>,
    max_events: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    batches: VecDeque<Arc<Batch>>,
    events: usize,
    bytes: usize,
    /// The last seq that was ever here.
    last: u64,
}

impl Tail {
    /// An empty tail, to go on after `last`.
    pub(super) fn new(max_events: usize, max_bytes: usize, last: u64) -> Self {
        Self { ring: Mutex::new(Ring { last, ..Ring::default() }), max_events, max_bytes }
    }

    /// Batches no larger than an eighth of the ring, so that making room for one never empties it.
    pub(super) fn largest_batch(&self) -> usize {
        (self.max_events / 8).clamp(1, MAX_BATCH)
    }

    /// Puts batches at the end and returns those that had to go at the front: thousands of events, perhaps, for the caller to
    /// free where nobody waits for it.
    pub(super) fn push(&self, batches: Vec<Arc<Batch>>) -> Vec<Arc<Batch>> {
        let mut evicted = Vec::new();
        let mut ring = self.ring();
        for batch in batches {
            ring.events += batch.events().len();
            ring.bytes += batch.bytes();
            ring.last = batch.last();
            ring.batches.push_back(batch);
            while (ring.events > self.max_events || ring.bytes > self.max_bytes)
                && ring.batches.len() > 1
                && let Some(oldest) = ring.batches.pop_front()
            {
                ring.events -= oldest.events().len();
                ring.bytes -= oldest.bytes();
                evicted.push(oldest);
            }
        }
        evicted
    }

    pub(super) fn read(&self, seq: u64) -> Read {
        let ring = self.ring();
        if seq > ring.last {
            return Read::AtHead;
        }
        let after = ring.batches.partition_point(|batch| batch.last() < seq);
        match ring.batches.get(after) {
            Some(batch) if batch.first() <= seq => Read::Batch(batch.clone()),
            Some(batch) => Read::Evicted(batch.first()),
            None => Read::Evicted(ring.last + 1),
        }
    }

    /// The first seq that is left; of an empty tail, the first to come.
    pub(super) fn oldest(&self) -> u64 {
        let ring = self.ring();
        ring.batches.front().map_or(ring.last + 1, |batch| batch.first())
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // No code that can panic runs under this lock, and a ring is whole between statements anyway.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

    fn events(seqs: std::ops::RangeInclusive<u64>) -> Vec<Arc<Event>> {
        let event = |seq| {
            let mut event = NewEvent::new("t").admit().unwrap();
            event.seq = seq;
            Arc::new(event)
        };
        seqs.map(event).collect()
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let tail = Tail::new(10, usize::MAX, 0);
        let evicted = tail.push(Batch::split(events(1..=100), tail.largest_batch()));
        assert_eq!((evicted.iter().map(|batch| batch.events().len()).sum::<usize>(), tail.oldest()), (90, 91));
        assert!(matches!(tail.read(90), Read::Evicted(91)));
        assert!(matches!(tail.read(101), Read::AtHead));
        let Read::Batch(batch) = tail.read(95) else { panic!("95 is there") };
        assert!((batch.first()..=batch.last()).contains(&95));
    }

    #[test]
    fn bytes_bound_it_too_and_the_newest_batch_stays() {
        let tail = Tail::new(1000, 1, 0);
        tail.push(Batch::split(events(1..=10), 5));
        assert_eq!(tail.oldest(), 6);
    }
}
