//! Room for instances: the engine's pool has so much, and no plugin can make another one's call fail by filling it. Whoever needs an
//! instance waits here until there is room, before its time begins; instances that may wait for another call get no more than half of it.

use crate::metrics::{Counter, Exposition};
use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;

/// Tables of the pool for each memory of it.
pub(super) const TABLES: u32 = 4;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Room {
    all: u32,
    free: Arc<Semaphore>,
    /// What those have that may wait for another call, also while they are called.
    kept: AtomicU32,
    /// Calls that had to wait for room.
    waits: Counter,
}

/// An instance's place in the pool, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    permit: OwnedSemaphorePermit,
    kept: bool,
}

impl Room {
    /// For so many instances with one memory each.
    pub(super) fn new(all: u32) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(all as usize));
        Arc::new(Self { all, free, kept: AtomicU32::new(0), waits: Counter::default() })
    }

    /// How much of it an instance of `component` takes: 1, if it has one memory and few tables.
    pub(super) fn needed_for(&self, component: &Component) -> u32 {
        let needed = component.resources_required();
        let needed = needed.map_or(1, |needed| needed.num_memories.max(needed.num_tables.div_ceil(TABLES)).max(1));
        needed.min(self.all)
    }

    /// Waits for a place.
    pub(super) async fn enter(self: &Arc<Self>, needed: u32) -> Place {
        let permit = match self.free.clone().try_acquire_many_owned(needed) {
            Ok(permit) => permit,
            Err(_) => {
                self.waits.inc();
                match self.free.clone().acquire_many_owned(needed).await {
                    Ok(permit) => permit,
                    // It is never closed.
                    Err(_) => pending().await,
                }
            }
        };
        Place { room: self.clone(), permit, kept: false }
    }

    pub(super) fn write_metrics(&self, out: &mut Exposition) {
        const TAKEN: &str = "busway_plugin_instances";
        out.family(
            TAKEN,
            "gauge",
            "Instances in the pool, those that wait for a call included; one of several memories counts as several.",
        );
        out.sample(TAKEN, &[], u64::from(self.all) - self.free.available_permits() as u64);
        const WAITS: &str = "busway_plugin_instance_waits_total";
        out.family(WAITS, "counter", "Calls that had to wait because the pool of instances was full.");
        out.sample(WAITS, &[], self.waits.get());
    }
}

impl Place {
    /// Whether the instance may wait here for another call, from now on.
    #[inline]
    pub(super) fn keep(&mut self) -> bool {
        if !self.kept {
            let (own, most) = (self.permit.num_permits() as u32, self.room.all / 2);
            let before = self.room.kept.fetch_add(own, Relaxed);
            self.kept = before + own <= most;
            if !self.kept {
                self.room.kept.fetch_sub(own, Relaxed);
            }
        }
        self.kept
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.kept {
            self.room.kept.fetch_sub(self.permit.num_permits() as u32, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_full_pool_is_waited_for_and_instances_that_may_wait_have_half_of_it() {
        let room = Room::new(4);
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(room.enter(1).await);
        }
        let mut next = Box::pin(room.enter(2));
        assert!(next.as_mut().now_or_never().is_none(), "there is no room");
        for _ in 0..2 {
            let kept: Vec<bool> = places.iter_mut().map(Place::keep).collect();
            assert_eq!(kept, [true, true, false, false]);
        }
        places.truncate(3);
        assert!(next.as_mut().now_or_never().is_none(), "there is room for one");
        places.truncate(2);
        assert!(next.now_or_never().is_some());
        drop(places.remove(0));
        assert_eq!(room.kept.load(Relaxed), 1);
        drop(places);
        assert_eq!((room.kept.load(Relaxed), room.free.available_permits(), room.waits.get()), (0, 4, 1));
    }
}
