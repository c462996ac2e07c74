//! A lane: one handler plugin's cursor on the log, and everything between an event and its commit. Events are handed to the
//! version that is active when their call begins; failures are tried again with growing pauses; what cannot be handled is
//! dead-lettered and counted. [`order`] decides which events may be handled at once.
//!
//! A lane belongs to the plugin's name, not to a version: a reload changes what it calls, not where it stands.

mod order;

use super::{
    CallError, FailureKind, FaultCode, Kind, Start, Version,
    registry::{Plugin, Registry},
};
use crate::{
    bus::Bus,
    event::{Event, NewEvent},
    kv::Transaction,
    log::{Chunk, Cursor, Step, view::Question},
    question::{Questions, Wanted},
};
use order::Order;
use serde_json::json;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Most events that a lane holds at once: at work, waiting for their turn or for another try. It reads no further until
/// there is room.
const HELD: usize = 1_024;
/// First pause before another try; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause of the lane's own before another try.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Most times that a call is run again because another had changed what it read, before that counts as a failed attempt.
const CONFLICTS: u32 = 1_000;

/// The lanes of all handler plugins: one for each, for as long as the plugin is there.
pub struct Lanes {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Lanes {
    /// Opens a lane for each handler plugin that there is or comes to be.
    pub fn start(bus: Bus, plugins: Registry, questions: Questions) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(tend(bus, plugins, questions, stop.clone()));
        Self { stop, task }
    }

    /// Ends them; calls that are under way are dropped. To let them finish, stop the bus first.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

async fn tend(bus: Bus, plugins: Registry, questions: Questions, stop: CancellationToken) {
    let mut running: Vec<(Arc<Plugin>, CancellationToken)> = Vec::new();
    let mut lanes = JoinSet::new();
    let mut changes = plugins.watch();
    loop {
        let handlers: Vec<Arc<Plugin>> = changes
            .borrow_and_update()
            .values()
            .filter(|plugin| plugin.kind() == Some(Kind::Handler))
            .cloned()
            .collect();
        // The same plugin, not only the same name: a file that was removed and put back is a new one.
        running.retain(|(plugin, stop)| {
            let there = handlers.iter().any(|other| Arc::ptr_eq(plugin, other));
            if !there {
                stop.cancel();
            }
            there
        });
        for plugin in handlers {
            if !running.iter().any(|(other, _)| Arc::ptr_eq(&plugin, other)) {
                let stop = CancellationToken::new();
                lanes.spawn(Lane::new(bus.clone(), plugin.clone(), questions.clone()).run(stop.clone()));
                running.push((plugin, stop));
            }
        }
        while lanes.try_join_next().is_some() {}
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    lanes.shutdown().await;
}

/// An event on its way.
#[derive(Debug, Clone)]
struct Job {
    event: Arc<Event>,
    attempt: u32,
}

/// How a job's call ended.
enum Ended {
    Done,
    Again { pause: Duration },
    Dead { code: &'static str, message: String },
}

struct Lane {
    bus: Bus,
    plugin: Arc<Plugin>,
    questions: Questions,
    cursor: Cursor,
    active: watch::Receiver<Option<Arc<Version>>>,
    order: Order,
    calls: JoinSet<(Job, Ended)>,
    /// When, and the seq to tell equal times apart; the job is in `waiting`.
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    waiting: HashMap<u64, Job>,
    /// Seqs of all events that it holds: everything before the first of them is done.
    held: BTreeSet<u64>,
    progress: watch::Sender<u64>,
}

impl Lane {
    fn new(bus: Bus, plugin: Arc<Plugin>, questions: Questions) -> Self {
        let start = plugin.active().map(|version| version.manifest().start).unwrap_or_default();
        let cursor = match start {
            Start::Latest => bus.log().cursor_at_head(),
            Start::Earliest => bus.log().cursor(bus.log().oldest()),
        };
        let progress = bus.consumer(cursor.position() - 1);
        Self {
            active: plugin.watch(),
            cursor,
            bus,
            plugin,
            questions,
            order: Order::default(),
            calls: JoinSet::new(),
            later: BinaryHeap::new(),
            waiting: HashMap::new(),
            held: BTreeSet::new(),
            progress,
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        loop {
            let Some(version) = self.active.borrow_and_update().clone() else {
                // Nothing to call: whoever stops the hub is not to wait for it.
                if !self.idle(&stop).await {
                    return self.drain().await;
                }
                continue;
            };
            self.begin(&version);
            let due = self.later.peek().map(|Reverse((due, _))| *due);
            tokio::select! {
                () = stop.cancelled() => return self.drain().await,
                _ = self.active.changed() => {}
                Some(ended) = self.calls.join_next() => self.ended(ended),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.wake(),
                step = self.cursor.next(), if self.held.len() < HELD => match step {
                    Some(Step::Events(chunk)) => self.take(&chunk, &version).await,
                    // Counted by the cursor.
                    Some(Step::Gap(_)) => {}
                    None => return self.drain().await,
                },
            }
            self.announce();
        }
    }

    /// Waits for a version to call. False: the plugin is gone.
    async fn idle(&mut self, stop: &CancellationToken) -> bool {
        self.progress.send_replace(u64::MAX);
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = self.active.changed() => {
                    self.announce();
                    return changed.is_ok();
                }
                Some(ended) = self.calls.join_next() => self.ended(ended),
            }
        }
    }

    /// Puts the events that the version wants in line.
    async fn take(&mut self, chunk: &Chunk, version: &Version) {
        let wanted = |event: &&Arc<Event>| version.subscriptions().iter().any(|filter| filter.matches(event));
        let mut events: Vec<Arc<Event>> = chunk.events().iter().filter(wanted).cloned().collect();
        if let Some(question) = self.front(version) {
            events = question.select(&events).await;
        }
        for event in events {
            self.held.insert(event.seq);
            self.order.push(version.order_by(), Job { event, attempt: 1 });
        }
    }

    /// The filter that the operator put before this handler.
    fn front(&self, version: &Version) -> Option<Question> {
        let manifest = version.manifest();
        let plugin = Some(manifest.filter.as_ref()?.to_string());
        // A filter that is not there yet lets nothing through, so this cannot fail for want of it.
        self.questions
            .resolve_later(Wanted { plugin, params: manifest.filter_params.clone(), ..Wanted::default() })
            .ok()
    }

    /// Begins as many calls as may run at once.
    fn begin(&mut self, version: &Version) {
        while self.calls.len() < version.concurrency()
            && let Some(job) = self.order.pop()
        {
            let (bus, plugin, active) = (self.bus.clone(), self.plugin.clone(), self.active.clone());
            self.calls.spawn(async move {
                let _active = bus.metrics().active_handlers.hold();
                let ended = call(&bus, &plugin, active, &job).await;
                (job, ended)
            });
        }
    }

    fn ended(&mut self, ended: Result<(Job, Ended), tokio::task::JoinError>) {
        // A call neither panics nor is it aborted while the lane runs.
        let Ok((job, ended)) = ended else { return };
        let metrics = self.bus.metrics();
        metrics.events_processed.inc();
        match ended {
            Ended::Done => {}
            Ended::Again { pause } => {
                metrics.handler_errors.inc();
                metrics.handler_retries.inc();
                self.later.push(Reverse((Instant::now() + pause, job.event.seq)));
                self.waiting.insert(job.event.seq, Job { attempt: job.attempt + 1, ..job });
                return;
            }
            Ended::Dead { code, message } => {
                metrics.handler_errors.inc();
                metrics.dead_letters.inc();
                self.bury(&job, code, &message);
            }
        }
        self.held.remove(&job.event.seq);
        self.order.done(&job);
    }

    /// Puts jobs whose pause is over back in line; those behind them in their order have waited too.
    fn wake(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, seq))) = self.later.peek().copied()
            && due <= now
        {
            self.later.pop();
            if let Some(job) = self.waiting.remove(&seq) {
                self.order.again(job);
            }
        }
    }

    fn bury(&self, job: &Job, code: &'static str, message: &str) {
        let Job { event, attempt } = job;
        let name = self.plugin.name().as_str();
        tracing::warn!(
            plugin = name,
            seq = event.seq,
            event_type = event.event_type,
            code,
            message,
            attempt,
            "dead letter"
        );
        // What tells of dead letters must not make new ones.
        if event.event_type.starts_with("plugin.") {
            return;
        }
        let data = json!({"plugin": name, "seq": event.seq, "event_id": event.metadata.event_id, "type": event.event_type,
                          "code": code, "message": message, "attempts": attempt});
        if let Ok(letter) = NewEvent::new("plugin.dead_letter").data(data) {
            self.bus.publish_internal(letter.source("busway"));
        }
    }

    fn announce(&self) {
        let through = self.held.first().map_or(self.cursor.position(), |seq| *seq) - 1;
        self.progress.send_if_modified(|progress| std::mem::replace(progress, through) != through);
    }

    /// The plugin is gone, or the log is at its end: what is at work finishes, the rest is given up and counted.
    async fn drain(mut self) {
        while let Some(ended) = self.calls.join_next().await {
            self.ended(ended);
        }
        self.bus.metrics().handler_abandoned.add(self.held.len() as u64);
    }
}

/// One attempt: call and commit, again for as long as another call changes what this one reads (I8).
async fn call(bus: &Bus, plugin: &Plugin, mut active: watch::Receiver<Option<Arc<Version>>>, job: &Job) -> Ended {
    for _ in 0..CONFLICTS {
        // An attempt belongs to the version that is active when it begins, and finishes on it.
        let version = tokio::select! {
            biased;
            active = active.wait_for(Option::is_some) => active.ok().and_then(|active| active.clone()),
            () = plugin.gone().cancelled() => None,
        };
        let Some(version) = version else {
            return Ended::Dead { code: "gone", message: "the plugin was removed".into() };
        };
        let result = version.handle(&job.event, job.attempt).await;
        plugin.report(&version, result.as_ref().err());
        let effects = match result {
            Ok(effects) => effects,
            Err(error) => return failed(&version, job, error),
        };
        let writes = effects.writes;
        if effects.outbox.is_empty() && writes.as_ref().is_none_or(Transaction::is_read_only) {
            return Ended::Done;
        }
        let events = effects.outbox.into_iter().map(Arc::new).collect();
        let apply = move || writes.map_or(Ok(()), |writes| writes.commit().map_err(|_| crate::log::Conflict));
        match bus.log().commit(events, Box::new(apply)).await {
            Ok(()) => return Ended::Done,
            Err(crate::log::CommitError::Conflict(_)) => {}
            Err(error @ crate::log::CommitError::Stopped) => {
                return Ended::Dead { code: "stopped", message: error.to_string() };
            }
        }
    }
    let message = format!("{CONFLICTS} times another call changed what this one had read");
    Ended::Dead { code: "conflict", message }
}

fn failed(version: &Version, job: &Job, error: CallError) -> Ended {
    let (code, message, pause) = match error {
        CallError::Failure(failure) if failure.kind == FailureKind::Reject => {
            return Ended::Dead { code: "reject", message: failure.message };
        }
        // It would go round in the same circle.
        CallError::Fault(fault) if fault.code == FaultCode::Loop => {
            return Ended::Dead { code: fault.code.as_str(), message: fault.message };
        }
        CallError::Failure(failure) => {
            ("retry", failure.message, failure.retry_after_ms.map(u64::from).map(Duration::from_millis))
        }
        CallError::Fault(fault) => (fault.code.as_str(), fault.message, None),
    };
    if job.attempt >= version.manifest().retry.attempts {
        return Ended::Dead { code, message };
    }
    Ended::Again { pause: pause.unwrap_or_else(|| pause_before(job.attempt + 1)) }
}

/// Doubles with each attempt; up to a half is taken off by chance, so that what failed together is not tried again together
/// ("Exponential Backoff And Jitter", Amazon Builders' Library).
fn pause_before(attempt: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(2).min(16)).min(LONGEST_PAUSE);
    whole.mul_f64(1.0 - fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_have_a_bound() {
        for (attempt, longest) in [(2, 100), (3, 200), (4, 400), (100, 30_000)] {
            let pause = pause_before(attempt).as_millis();
            assert!(pause <= longest && pause >= longest / 2, "{attempt}: {pause}");
        }
    }
}
