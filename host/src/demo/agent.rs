//! Agents: they start, work, are restarted now and then, and stop once their task has ended.

use super::agenda::Micros;
use super::task;
use super::world::{self, Draft, World};
use crate::event::types;
use serde_json::json;

/// Between a start and the restart that comes sooner or later.
const UPTIME_SECONDS: std::ops::Range<u64> = 120..600;
const SECOND: Micros = 1_000_000;

#[derive(Debug)]
pub(super) enum Step {
    Start,
    Started { startup: Micros },
    Restart,
    Stop,
    Stopped,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) name: &'static str,
    role: &'static str,
    up: bool,
    stopping: bool,
    since: Micros,
    /// What an executor is working on.
    task: Option<u64>,
}

/// Those that there are from the beginning.
pub(super) fn crew() -> Vec<Agent> {
    let agent = |(name, role)| Agent { name, role, up: false, stopping: false, since: 0, task: None };
    let crew = [
        ("planner", "planner"),
        ("p2p", "gateway"),
        ("executor-1", "executor"),
        ("executor-2", "executor"),
        ("executor-3", "executor"),
        ("executor-4", "executor"),
    ];
    crew.into_iter().map(agent).collect()
}

impl World {
    pub(super) fn agent_step(&mut self, index: usize, step: Step) {
        let (name, role) = (self.agents[index].name, self.agents[index].role);
        match step {
            Step::Start => {
                let data = json!({"agent_id": name, "role": role, "version": "2.4.1", "pid": self.chance.between(300..32_000)});
                self.emit(Draft::new(types::AGENT_STARTING, name, data));
                let startup = self.chance.around(700);
                self.agenda.after(startup, world::Step::Agent(index, Step::Started { startup }));
            }
            Step::Started { startup } => {
                let data = json!({"agent_id": name, "role": role, "startup_ms": startup / 1000});
                self.emit(Draft::new(types::AGENT_STARTED, name, data));
                let since = self.agenda.now();
                self.agents[index] = Agent { up: true, stopping: false, since, task: None, name, role };
                if role == "executor" {
                    let uptime = self.chance.between(UPTIME_SECONDS) * SECOND;
                    self.agenda.after(uptime, world::Step::Agent(index, Step::Restart));
                    self.hand_out_tasks();
                }
            }
            Step::Restart if self.closing => {}
            Step::Restart => self.restart(index),
            Step::Stop => self.stop(index, "shutdown"),
            Step::Stopped => {
                let uptime = self.millis_since(self.agents[index].since);
                self.agents[index].up = false;
                let data = json!({"agent_id": name, "role": role, "uptime_ms": uptime});
                self.emit(Draft::new(types::AGENT_STOPPED, name, data));
                if !self.stopping {
                    let pause = self.chance.around(1200);
                    self.agenda.after(pause, world::Step::Agent(index, Step::Start));
                }
            }
        }
    }

    fn restart(&mut self, index: usize) {
        let reason = self.chance.pick(&["memory_limit", "configuration_changed", "rolling_update"]);
        if reason == "memory_limit" {
            let name = self.agents[index].name;
            let used = self.chance.between(1950..2100);
            let message = format!("resident memory {used} MiB is over the limit of 1950 MiB");
            let data = json!({"agent_id": name, "error": {"code": reason, "message": message}, "fatal": false});
            self.emit(Draft::new(types::AGENT_ERROR, name, data));
        }
        self.stop(index, reason);
    }

    fn stop(&mut self, index: usize, reason: &str) {
        let agent = &mut self.agents[index];
        agent.stopping = true;
        let (name, busy) = (agent.name, agent.task.is_some());
        let data = json!({"agent_id": name, "reason": reason, "waits_for_task": busy});
        self.emit(Draft::new(types::AGENT_STOPPING, name, data));
        if !busy {
            self.stop_soon(index);
        }
    }

    fn stop_soon(&mut self, index: usize) {
        let delay = self.chance.around(200);
        self.agenda.after(delay, world::Step::Agent(index, Step::Stopped));
    }

    /// Gives waiting tasks to idle executors, first come, first served.
    pub(super) fn hand_out_tasks(&mut self) {
        let idle = |agent: &Agent| agent.role == "executor" && agent.up && !agent.stopping && agent.task.is_none();
        while let Some(index) = self.agents.iter().position(idle)
            && let Some(number) = self.queue.pop_front()
        {
            self.agents[index].task = Some(number);
            let delay = self.chance.around(15);
            self.agenda.after(delay, world::Step::Task(number, task::Step::Start { executor: index }));
        }
    }

    /// Frees the executor that works on a task, or has been given it.
    pub(super) fn release_executor(&mut self, number: u64) {
        if let Some(index) = self.agents.iter().position(|agent| agent.task == Some(number)) {
            self.agents[index].task = None;
            if self.agents[index].stopping {
                self.stop_soon(index);
            }
        }
        self.hand_out_tasks();
    }
}
