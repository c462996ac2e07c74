//! Made-up but believable agent traffic: a small discrete-event simulation with its own clock.
//!
//! A planner turns commands into workflows, executors work through their tasks and call tools, peers come, exchange
//! cards, ask for tools and go, services write logs, some with (fake) secrets in them. All of it follows from a seed.
//! Knows nothing of hubs: [`Generator`] is an iterator. Start reading at `world`, which holds the state and the clock;
//! `agent`, `workflow`, `task`, `peer` and `logs` each say how one kind of actor moves.

mod agenda;
mod agent;
mod chance;
mod logs;
mod peer;
mod task;
mod words;
mod workflow;
mod world;

use serde_json::Value;
use std::time::Duration;
use world::World;

/// An endless stream of events in the order of their time, each with its offset from the beginning and its JSON form
/// as a publisher hands it in (`type`, `data`, `metadata` without id and timestamp).
///
/// The same seed gives the same events, on every machine.
#[derive(Debug)]
pub struct Generator {
    world: World,
}

impl Generator {
    /// The events of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { world: World::new(seed) }
    }

    /// Lets nothing new begin: what is under way comes to its end, then the agents stop, then the iterator ends.
    pub fn wind_down(&mut self) {
        self.world.closing = true;
    }
}

impl Iterator for Generator {
    type Item = (Duration, Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.world.next_event()
    }
}

#[cfg(test)]
mod tests;
