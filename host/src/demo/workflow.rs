//! Workflows: a command comes in, is planned, its nodes become tasks as soon as those before them are done.
//!
//! All that one command sets off carries one correlation id, from the command's arrival to its completion.

use super::agenda::Micros;
use super::words::{self, Plan};
use super::world::{self, Draft, World};
use crate::event::types;
use serde_json::{Value, json};
use std::sync::Arc;

/// More commands than this at once are turned away at the (simulated) door.
const MOST_AT_ONCE: usize = 6;
/// One command in so many comes every other second or so.
const BETWEEN_COMMANDS_MS: u64 = 2_600;
const MOST_ATTEMPTS: u32 = 2;

#[derive(Debug)]
pub(super) enum Step {
    Arrive,
    Plan(u64),
    Begin(u64),
    Retry { workflow: u64, node: usize, attempt: u32 },
    Cancel(u64),
}

/// What everything in a workflow shares.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) number: u64,
    pub(super) workflow_id: String,
    pub(super) correlation_id: String,
    pub(super) urgent: bool,
}

impl Thread {
    pub(super) fn tags(&self) -> &'static [&'static str] {
        if self.urgent { &["urgent"] } else { &[] }
    }
}

#[derive(Debug)]
pub(super) struct Workflow {
    thread: Arc<Thread>,
    plan: &'static Plan,
    nodes: Vec<Node>,
    received: Micros,
    started: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Waiting,
    Released,
    Done,
}

impl World {
    pub(super) fn workflow_step(&mut self, step: Step) {
        match step {
            Step::Arrive if self.closing => {}
            Step::Arrive => {
                if self.workflows.len() < MOST_AT_ONCE {
                    self.receive_command();
                }
                let pause = self.chance.around(BETWEEN_COMMANDS_MS);
                self.agenda.after(pause, world::Step::Workflow(Step::Arrive));
            }
            Step::Plan(number) => self.plan_command(number),
            Step::Begin(number) => self.begin_workflow(number),
            Step::Retry { workflow, node, attempt } => {
                if let Some(workflow) = self.workflows.get(&workflow) {
                    let (thread, node_plan) = (workflow.thread.clone(), &workflow.plan.nodes[node]);
                    self.create_task(thread, node, node_plan, attempt);
                }
            }
            Step::Cancel(number) => {
                if self.workflows.contains_key(&number) {
                    self.abort_workflow(number, "cancelled", json!("cancelled by the user"));
                }
            }
        }
    }

    fn receive_command(&mut self) {
        let number = self.number();
        let plan = &words::PLANS[self.chance.between(0..words::PLANS.len() as u64) as usize];
        let thread = Arc::new(Thread {
            number,
            workflow_id: self.name("wf", number),
            correlation_id: self.name("cmd", number),
            urgent: self.chance.one_in(6),
        });
        let user = self.chance.pick(words::USERS);
        let data = json!({"command_id": thread.correlation_id, "command": plan.command, "user": user});
        self.emit_for(&thread, types::DSL_COMMAND_RECEIVED, "dsl", data);
        let nodes = vec![Node::Waiting; plan.nodes.len()];
        let received = self.agenda.now();
        self.workflows.insert(number, Workflow { thread, plan, nodes, received, started: received });
        let thinking = self.chance.around(180);
        self.agenda.after(thinking, world::Step::Workflow(Step::Plan(number)));
    }

    fn plan_command(&mut self, number: u64) {
        let Some(workflow) = self.workflows.get(&number) else { return };
        let (thread, nodes) = (workflow.thread.clone(), workflow.plan.nodes.len());
        let data = json!({"command_id": thread.correlation_id, "stage": "planned", "nodes": nodes,
                          "workflow_id": thread.workflow_id});
        self.emit_for(&thread, types::DSL_COMMAND_PROGRESS, "planner", data);
        let delay = self.chance.around(40);
        self.agenda.after(delay, world::Step::Workflow(Step::Begin(number)));
    }

    fn begin_workflow(&mut self, number: u64) {
        let now = self.agenda.now();
        let Some(workflow) = self.workflows.get_mut(&number) else { return };
        workflow.started = now;
        let (thread, plan) = (workflow.thread.clone(), workflow.plan);
        let node = |index: usize| {
            let after: Vec<_> = plan.nodes[index].after.iter().map(|before| plan.nodes[*before].name).collect();
            json!({"node_id": plan.nodes[index].name, "after": after})
        };
        let nodes: Vec<Value> = (0..plan.nodes.len()).map(node).collect();
        let data = json!({"workflow_id": thread.workflow_id, "name": plan.name, "nodes": nodes});
        self.emit_for(&thread, types::WORKFLOW_STARTED, "planner", data);
        if self.chance.one_in(20) {
            let patience = self.chance.around(2_500);
            self.agenda.after(patience, world::Step::Workflow(Step::Cancel(number)));
        }
        self.release_nodes(number);
    }

    /// Makes tasks of the nodes that nothing holds back any more.
    fn release_nodes(&mut self, number: u64) {
        let Some(workflow) = self.workflows.get_mut(&number) else { return };
        let (thread, plan) = (workflow.thread.clone(), workflow.plan);
        let is_ready = |nodes: &[Node], index: usize| {
            nodes[index] == Node::Waiting && plan.nodes[index].after.iter().all(|before| nodes[*before] == Node::Done)
        };
        let ready: Vec<usize> = (0..plan.nodes.len()).filter(|index| is_ready(&workflow.nodes, *index)).collect();
        ready.iter().for_each(|index| workflow.nodes[*index] = Node::Released);
        for index in ready {
            self.create_task(thread.clone(), index, &plan.nodes[index], 1);
        }
    }

    /// A node's task is done.
    pub(super) fn node_done(&mut self, thread: &Thread, node: usize) {
        let Some(workflow) = self.workflows.get_mut(&thread.number) else { return };
        workflow.nodes[node] = Node::Done;
        let total = workflow.nodes.len();
        let done = workflow.nodes.iter().filter(|state| **state == Node::Done).count();
        let data = json!({"workflow_id": thread.workflow_id, "completed": done, "total": total});
        self.emit_for(thread, types::WORKFLOW_PROGRESS, "planner", data);
        if done == total {
            self.end_workflow(thread.number, "succeeded", Value::Null);
        } else {
            self.release_nodes(thread.number);
        }
    }

    /// A node's task has failed: it is tried again, or takes the workflow with it.
    pub(super) fn node_failed(&mut self, thread: &Thread, node: usize, attempt: u32, error: Value) {
        if attempt < MOST_ATTEMPTS {
            let pause = self.chance.around(1_000);
            let retry = Step::Retry { workflow: thread.number, node, attempt: attempt + 1 };
            self.agenda.after(pause, world::Step::Workflow(retry));
        } else {
            self.abort_workflow(thread.number, "failed", error);
        }
    }

    /// Whether a task that failed in this attempt gets another.
    pub(super) fn will_retry(attempt: u32) -> bool {
        attempt < MOST_ATTEMPTS
    }

    fn abort_workflow(&mut self, number: u64, status: &str, error: Value) {
        let numbers: Vec<u64> =
            self.tasks.iter().filter(|(_, task)| task.thread.number == number).map(|(task, _)| *task).collect();
        for task in numbers {
            self.cancel_task(task, &format!("workflow {status}"));
        }
        self.end_workflow(number, status, error);
    }

    fn end_workflow(&mut self, number: u64, status: &str, error: Value) {
        let Some(workflow) = self.workflows.remove(&number) else { return };
        let thread = workflow.thread;
        let mut data = json!({"workflow_id": thread.workflow_id, "name": workflow.plan.name, "status": status,
                              "duration_ms": self.millis_since(workflow.started)});
        if !error.is_null() {
            data["error"] = error;
        }
        self.emit_for(&thread, types::WORKFLOW_COMPLETED, "planner", data);
        let data = json!({"command_id": thread.correlation_id, "status": status,
                          "duration_ms": self.millis_since(workflow.received)});
        self.emit_for(&thread, types::DSL_COMMAND_COMPLETED, "dsl", data);
    }

    /// Emits with what the thread's events have in common.
    pub(super) fn emit_for(&mut self, thread: &Thread, event_type: &'static str, source: &str, data: Value) {
        let draft = Draft::new(event_type, source, data);
        self.emit(draft.correlated(&thread.correlation_id).tagged(thread.tags()));
    }
}
