//! The state of the simulation, its clock, and the one place where events leave it.

use super::agenda::{Agenda, Micros};
use super::agent::{self, Agent};
use super::chance::Chance;
use super::peer::{self, Peer};
use super::task::{self, Task};
use super::workflow::{self, Workflow};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const SECOND: Micros = 1_000_000;

/// What can happen, by actor.
#[derive(Debug)]
pub(super) enum Step {
    Agent(usize, agent::Step),
    Workflow(workflow::Step),
    Task(u64, task::Step),
    Peer(peer::Step),
    Log,
}

/// Everything there is. Actors are found by number, in ordered maps: the order decides what chance decides.
#[derive(Debug)]
pub(super) struct World {
    pub(super) agenda: Agenda<Step>,
    pub(super) chance: Chance,
    pub(super) agents: Vec<Agent>,
    pub(super) workflows: BTreeMap<u64, Workflow>,
    pub(super) tasks: BTreeMap<u64, Task>,
    /// Tasks that no executor has taken yet.
    pub(super) queue: VecDeque<u64>,
    pub(super) peers: BTreeMap<u64, Peer>,
    /// Nothing new begins any more.
    pub(super) closing: bool,
    /// The agents have been told to stop, the last thing to happen.
    pub(super) stopping: bool,
    numbers: u64,
    out: VecDeque<(Duration, Value)>,
}

/// An event before it leaves the world.
pub(super) struct Draft<'a> {
    event_type: &'static str,
    source: &'a str,
    data: Value,
    correlation_id: Option<&'a str>,
    tags: &'a [&'static str],
}

impl<'a> Draft<'a> {
    pub(super) fn new(event_type: &'static str, source: &'a str, data: Value) -> Self {
        Self { event_type, source, data, correlation_id: None, tags: &[] }
    }

    pub(super) fn correlated(self, id: &'a str) -> Self {
        Self { correlation_id: Some(id), ..self }
    }

    pub(super) fn tagged(self, tags: &'a [&'static str]) -> Self {
        Self { tags, ..self }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            agenda: Agenda::new(),
            chance: Chance::new(seed),
            agents: agent::crew(),
            workflows: BTreeMap::new(),
            tasks: BTreeMap::new(),
            queue: VecDeque::new(),
            peers: BTreeMap::new(),
            closing: false,
            stopping: false,
            numbers: 0,
            out: VecDeque::new(),
        };
        for index in 0..world.agents.len() {
            let delay = world.chance.around(150) * index as u64;
            world.agenda.after(delay, Step::Agent(index, agent::Step::Start));
        }
        world.agenda.after(SECOND, Step::Log);
        world.agenda.after(2 * SECOND, Step::Workflow(workflow::Step::Arrive));
        world.agenda.after(3 * SECOND, Step::Peer(peer::Step::Discover));
        world
    }

    /// Lets things happen until there is an event; `None` once nothing will happen any more.
    pub(super) fn next_event(&mut self) -> Option<(Duration, Value)> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Some(event);
            }
            match self.agenda.next() {
                Some(Step::Agent(index, step)) => self.agent_step(index, step),
                Some(Step::Workflow(step)) => self.workflow_step(step),
                Some(Step::Task(number, step)) => self.task_step(number, step),
                Some(Step::Peer(step)) => self.peer_step(step),
                Some(Step::Log) => self.log_step(),
                None if self.stopping => return None,
                None => self.stop_agents(),
            }
        }
    }

    fn stop_agents(&mut self) {
        self.stopping = true;
        for index in 0..self.agents.len() {
            let delay = self.chance.around(50);
            self.agenda.after(delay, Step::Agent(index, agent::Step::Stop));
        }
    }

    pub(super) fn emit(&mut self, draft: Draft<'_>) {
        let mut metadata = json!({"source": draft.source});
        if let Some(id) = draft.correlation_id {
            metadata["correlation_id"] = id.into();
        }
        if !draft.tags.is_empty() {
            metadata["tags"] = draft.tags.into();
        }
        let event = json!({"type": draft.event_type, "data": draft.data, "metadata": metadata});
        self.out.push_back((Duration::from_micros(self.agenda.now()), event));
    }

    /// Milliseconds since `then`.
    pub(super) fn millis_since(&self, then: Micros) -> u64 {
        (self.agenda.now() - then) / 1000
    }

    /// A new number, never given before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A name for `number` that tells two seeds apart.
    pub(super) fn name(&mut self, kind: &str, number: u64) -> String {
        format!("{kind}-{number}-{}", self.chance.hex(6))
    }
}
