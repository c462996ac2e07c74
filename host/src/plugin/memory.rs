//! The memory of all instances of a hub together. Limits of one instance do not add up to anything that a machine has: so what they
//! take is counted here as it grows, and refused before the kernel ends the hub and every plugin with it.
//!
//! A plugin gets no more than it leaves to the others: alone half of it all, of three that take what they can each a quarter. So whoever
//! comes finds something, and an instance that is refused is one of a plugin that has much. Instances that only wait for a call have no
//! more than half of it between them, for those that are called do end. Knows nothing of what an instance is.

mod machine;

use super::stats::Stats;
use crate::metrics::{Counter, Exposition};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What an element of a table takes: a pointer.
const TABLE_ELEMENT: usize = size_of::<usize>();

/// All that there is for instances.
#[derive(Debug)]
pub(crate) struct Memory {
    most: usize,
    held: AtomicUsize,
    refused: Counter,
}

/// What the instances of one plugin hold.
#[derive(Debug, Default)]
pub(super) struct Held(AtomicUsize);

/// What one instance holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Arc<Memory>,
    plugin: Arc<Stats>,
    bytes: usize,
}

impl Memory {
    /// Of `most` bytes; 0 is half of what the machine has or the process may have of it: the other half is for the log, what waits to
    /// be written, compiled code and compilers. In any case enough for one instance of `largest`.
    pub(super) fn new(most: usize, largest: usize) -> Arc<Self> {
        let most = match most {
            0 => (machine::memory() / 2).max(largest.saturating_mul(2)),
            set => set,
        };
        Arc::new(Self { most, held: AtomicUsize::new(0), refused: Counter::default() })
    }

    pub(super) fn write_metrics(&self, out: &mut Exposition) {
        const MOST: &str = "busway_plugin_memory_limit_bytes";
        out.family(MOST, "gauge", "What all instances together may hold (plugins.max_total_memory).");
        out.sample(MOST, &[], self.most);
        const REFUSED: &str = "busway_plugin_memory_refusals_total";
        out.family(REFUSED, "counter", "Times an instance was refused memory because of what all of them hold.");
        out.sample(REFUSED, &[], self.refused.get());
    }
}

impl Held {
    /// In bytes.
    pub(super) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Share {
    /// Of an instance of the plugin whose statistics these are: it has nothing yet.
    pub(super) fn new(memory: &Arc<Memory>, plugin: &Arc<Stats>) -> Self {
        Self { memory: Arc::clone(memory), plugin: Arc::clone(plugin), bytes: 0 }
    }

    /// Takes as many bytes more, or nothing if that is too much.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        // Added first, so that of two at once none passes by the other.
        let all = self.memory.held.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let own = self.plugin.held().0.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let fits = own <= self.memory.most.saturating_sub(all);
        if fits {
            self.bytes += bytes;
        } else {
            self.give_back(bytes);
            self.memory.refused.inc();
        }
        fits
    }

    /// The same, for elements of a table.
    pub(crate) fn grow_table(&mut self, elements: usize) -> bool {
        self.grow(elements.saturating_mul(TABLE_ELEMENT))
    }

    /// Whether so much is free that it may be kept by an instance that is not called.
    pub(crate) fn may_rest(&self) -> bool {
        self.memory.held.load(Relaxed) <= self.memory.most / 2
    }

    /// Of which it is a share.
    pub(crate) fn most(&self) -> usize {
        self.memory.most
    }

    fn give_back(&self, bytes: usize) {
        self.memory.held.fetch_sub(bytes, Relaxed);
        self.plugin.held().0.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_at_most_what_it_leaves_and_what_is_dropped_comes_back() {
        let memory = Memory::new(100, 1);
        let (one, other) = (Arc::default(), Arc::default());
        let [mut first, mut second] = [&one, &one].map(|plugin| Share::new(&memory, plugin));
        assert!(first.grow(30) && !second.grow(21) && second.grow(20), "half of it, all its instances together");
        assert!(first.may_rest());
        let mut third = Share::new(&memory, &other);
        assert!(!third.grow(26) && third.grow(25), "half of what was left");
        assert!(!first.may_rest() && !first.grow(1));
        drop(second);
        assert!(!first.grow(8) && first.grow(7) && !first.grow_table(1));
        assert_eq!((one.held().get(), other.held().get(), memory.refused.get()), (37, 25, 5));
        assert!(!third.grow(usize::MAX), "no overflow helps");
        drop((first, third));
        assert_eq!((one.held().get(), other.held().get(), memory.held.load(Relaxed)), (0, 0, 0));
    }

    #[test]
    fn many_that_take_all_they_can_leave_something_to_whoever_comes() {
        const MIB: usize = 1 << 20;
        let memory = Memory::new(1 << 30, 1);
        let plugins: Vec<Arc<Stats>> = (0..9).map(|_| Arc::default()).collect();
        let mut shares: Vec<Share> = plugins[..8].iter().map(|plugin| Share::new(&memory, plugin)).collect();
        // In turns, as calls grow.
        for _ in 0..1_024 {
            for share in &mut shares {
                let _ = share.grow(MIB);
            }
        }
        let held: Vec<usize> = plugins.iter().map(|plugin| plugin.held().get() / MIB).collect();
        assert_eq!(held, [114, 114, 114, 114, 114, 114, 113, 113, 0]);
        assert!(Share::new(&memory, &plugins[8]).grow(56 * MIB));
    }

    #[test]
    fn what_is_not_set_is_half_of_the_machines_and_enough_for_one() {
        assert_eq!(Memory::new(0, 1).most, machine::memory() / 2);
        assert_eq!(Memory::new(0, 1 << 50).most, 1 << 51);
        assert_eq!(Memory::new(7, 1 << 50).most, 7);
    }
}
