//! Tasks: created by the planner, taken by an executor, worked on in turns of thinking and calling tools, ended once.

use super::agenda::Micros;
use super::words::{self, PlannedNode};
use super::workflow::Thread;
use super::world::{self, World};
use crate::event::types;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// One task in so many fails.
const FAILS_ONE_IN: u64 = 14;

#[derive(Debug)]
pub(super) enum Step {
    Start { executor: usize },
    Next,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) thread: Arc<Thread>,
    task_id: String,
    node: usize,
    plan: &'static PlannedNode,
    attempt: u32,
    created: Micros,
    started: Micros,
    executor: &'static str,
    /// What is still to do.
    turns: VecDeque<Turn>,
    turns_in_all: usize,
    call: Option<Call>,
    error: Option<Value>,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Think,
    Call { fails: bool },
}

/// A tool at work.
#[derive(Debug)]
struct Call {
    call_id: String,
    tool: &'static str,
    since: Micros,
    fails: bool,
}

impl World {
    pub(super) fn create_task(&mut self, thread: Arc<Thread>, node: usize, plan: &'static PlannedNode, attempt: u32) {
        let number = self.number();
        let task_id = self.name("task", number);
        let data = json!({"task_id": task_id, "workflow_id": thread.workflow_id, "node_id": plan.name,
                          "kind": plan.kind.name, "title": plan.title, "attempt": attempt,
                          "priority": if thread.urgent { "urgent" } else { "normal" }});
        self.emit_for(&thread, types::TASK_CREATED, "planner", data);
        let created = self.agenda.now();
        let urgent = thread.urgent;
        let task = Task {
            thread,
            task_id,
            node,
            plan,
            attempt,
            created,
            started: created,
            executor: "",
            turns: VecDeque::new(),
            turns_in_all: 0,
            call: None,
            error: None,
        };
        self.emit_node_status(&task, "queued");
        self.tasks.insert(number, task);
        if urgent {
            self.queue.push_front(number);
        } else {
            self.queue.push_back(number);
        }
        self.hand_out_tasks();
    }

    /// A task that was cancelled has steps left in the agenda: they find nothing and do nothing.
    pub(super) fn task_step(&mut self, number: u64, step: Step) {
        let Some(task) = self.tasks.remove(&number) else { return };
        match step {
            Step::Start { executor } => self.start_task(number, task, executor),
            Step::Next => self.go_on(number, task),
        }
    }

    fn start_task(&mut self, number: u64, mut task: Task, executor: usize) {
        task.started = self.agenda.now();
        task.executor = self.agents[executor].name;
        let fails = self.chance.one_in(FAILS_ONE_IN);
        let calls = self.chance.between(1..4);
        for call in 1..=calls {
            task.turns.extend([Turn::Think, Turn::Call { fails: fails && call == calls }]);
        }
        task.turns.push_back(Turn::Think);
        task.turns_in_all = task.turns.len();
        let data = json!({"task_id": task.task_id, "executor": task.executor, "attempt": task.attempt,
                          "waited_ms": self.millis_since(task.created)});
        self.emit_for(&task.thread, types::TASK_STARTED, task.executor, data);
        self.emit_node_status(&task, "running");
        self.go_on(number, task);
    }

    /// Ends the turn that the task is in and begins the next, or ends the task.
    fn go_on(&mut self, number: u64, mut task: Task) {
        if let Some(call) = task.call.take() {
            self.end_call(&mut task, &call);
        }
        let turn = if task.error.is_some() { None } else { task.turns.pop_front() };
        let duration = match turn {
            None => return self.end_task(number, task),
            Some(Turn::Think) => {
                if self.chance.one_in(3) {
                    self.write_log(task.executor, Some(&task.thread));
                }
                self.chance.around(task.plan.kind.thinking_ms)
            }
            Some(Turn::Call { fails }) => {
                let tool = self.chance.pick(task.plan.kind.tools);
                let call_number = self.number();
                let call_id = self.name("call", call_number);
                let data = json!({"call_id": call_id, "tool": tool.name, "task_id": task.task_id,
                                  "arguments": {tool.argument: self.chance.pick(tool.values)}});
                self.emit_for(&task.thread, types::TOOL_STARTING, task.executor, data);
                task.call = Some(Call { call_id, tool: tool.name, since: self.agenda.now(), fails });
                self.chance.around(tool.millis)
            }
        };
        self.tasks.insert(number, task);
        self.agenda.after(duration, world::Step::Task(number, Step::Next));
    }

    fn end_call(&mut self, task: &mut Task, call: &Call) {
        let mut data = json!({"call_id": call.call_id, "tool": call.tool, "task_id": task.task_id,
                              "duration_ms": self.millis_since(call.since)});
        if call.fails {
            let (code, message) = self.chance.pick(words::TOOL_ERRORS);
            let error = json!({"code": code, "message": message});
            data["error"] = error.clone();
            task.error = Some(error);
            self.emit_for(&task.thread, types::TOOL_FAILED, task.executor, data);
            return;
        }
        data["output_bytes"] = self.chance.between(120..48_000).into();
        self.emit_for(&task.thread, types::TOOL_COMPLETED, task.executor, data);
        let percent = 100 * (task.turns_in_all - task.turns.len()) / (task.turns_in_all + 1);
        let data = json!({"task_id": task.task_id, "percent": percent, "message": format!("{} done", call.tool)});
        self.emit_for(&task.thread, types::TASK_PROGRESS, task.executor, data);
    }

    fn end_task(&mut self, number: u64, task: Task) {
        let mut data = json!({"task_id": task.task_id, "duration_ms": self.millis_since(task.started)});
        self.release_executor(number);
        if let Some(error) = task.error.clone() {
            data["error"] = error.clone();
            data["will_retry"] = Self::will_retry(task.attempt).into();
            self.emit_for(&task.thread, types::TASK_FAILED, task.executor, data);
            self.emit_node_status(&task, "failed");
            self.node_failed(&task.thread, task.node, task.attempt, error);
        } else {
            let tokens = self.chance.between(400..9_000);
            data["result"] = json!({"summary": format!("{}: done", task.plan.title), "tokens": tokens});
            self.emit_for(&task.thread, types::TASK_COMPLETED, task.executor, data);
            self.emit_node_status(&task, "completed");
            self.node_done(&task.thread, task.node);
        }
    }

    /// Ends a task early, wherever it stands, and the tool call it is in.
    pub(super) fn cancel_task(&mut self, number: u64, reason: &str) {
        let Some(task) = self.tasks.remove(&number) else { return };
        self.queue.retain(|waiting| *waiting != number);
        if let Some(call) = &task.call {
            let data = json!({"call_id": call.call_id, "tool": call.tool, "task_id": task.task_id,
                              "duration_ms": self.millis_since(call.since),
                              "error": {"code": "cancelled", "message": reason}});
            self.emit_for(&task.thread, types::TOOL_FAILED, task.executor, data);
        }
        let data = json!({"task_id": task.task_id, "reason": reason});
        self.emit_for(&task.thread, types::TASK_CANCELLED, "planner", data);
        self.emit_node_status(&task, "cancelled");
        self.release_executor(number);
    }

    fn emit_node_status(&mut self, task: &Task, status: &str) {
        let thread = &task.thread;
        let data = json!({"workflow_id": thread.workflow_id, "node_id": task.plan.name, "status": status,
                          "attempt": task.attempt});
        self.emit_for(thread, types::NODE_STATUS_UPDATE, "planner", data);
    }
}
