//! A lane: one handler plugin's cursor on the log, and everything between an event and its commit. Events are handed to the
//! version that is active when their call begins; failures are tried again with growing pauses; what cannot be handled is
//! dead-lettered and counted. [`order`] decides which events may be handled at once.
//!
//! A lane belongs to the plugin's name, not to a version: a reload changes what it calls, not where it stands.

mod call;
mod held;
mod order;

use super::{
    Kind, Name, OnError, Start, Version,
    registry::{Plugin, Registry},
};
use crate::{
    bus::Bus,
    event::{Event, NewEvent},
    log::{Chunk, Cursor, Step, view::Question},
    question::{Questions, Wanted},
};
use call::{Ended, call};
use futures_util::FutureExt;
use held::Held;
use order::Order;
use serde_json::json;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long the calls under way may take when the lanes end.
const LEAVE: Duration = Duration::from_secs(1);

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
    // Where the log stood when a plugin was first seen, its first version still being loaded: its lane starts there.
    let mut seen: Vec<(Arc<Plugin>, u64)> = Vec::new();
    loop {
        let all: Vec<Arc<Plugin>> = changes.borrow_and_update().values().cloned().collect();
        seen.retain(|(plugin, _)| all.iter().any(|other| Arc::ptr_eq(plugin, other)));
        for plugin in &all {
            if !seen.iter().any(|(other, _)| Arc::ptr_eq(plugin, other)) {
                seen.push((plugin.clone(), bus.log().head() + 1));
            }
        }
        let handlers: Vec<Arc<Plugin>> =
            all.into_iter().filter(|plugin| plugin.kind() == Some(Kind::Handler)).collect();
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
                let from = seen.iter().find(|(other, _)| Arc::ptr_eq(&plugin, other)).map(|(_, from)| *from);
                let lane = Lane::new(bus.clone(), plugin.clone(), plugins.clone(), questions.clone(), from);
                lanes.spawn(lane.run(stop.clone()));
                running.push((plugin, stop));
            }
        }
        while lanes.try_join_next().is_some() {}
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    for (_, stop) in running {
        stop.cancel();
    }
    let _ = timeout(LEAVE, async { while lanes.join_next().await.is_some() {} }).await;
    lanes.shutdown().await;
}

/// An event on its way.
#[derive(Debug, Clone)]
struct Job {
    event: Arc<Event>,
    attempt: u32,
}

struct Lane {
    bus: Bus,
    plugin: Arc<Plugin>,
    plugins: Registry,
    changes: watch::Receiver<Arc<BTreeMap<Name, Arc<Plugin>>>>,
    questions: Questions,
    cursor: Cursor,
    active: watch::Receiver<Option<Arc<Version>>>,
    order: Order,
    calls: JoinSet<(Job, Ended)>,
    /// When, and the seq to tell equal times apart; the job is in `waiting`.
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    waiting: HashMap<u64, Job>,
    held: Held,
    progress: watch::Sender<u64>,
}

impl Lane {
    fn new(bus: Bus, plugin: Arc<Plugin>, plugins: Registry, questions: Questions, from: Option<u64>) -> Self {
        let start = plugin.current().map(|version| version.manifest().start).unwrap_or_default();
        let cursor = match start {
            Start::Latest => bus.log().cursor(from.unwrap_or_else(|| bus.log().head() + 1)),
            Start::Earliest => bus.log().cursor(bus.log().oldest()),
        };
        let progress = bus.consumer(cursor.position() - 1);
        Self {
            active: plugin.watch(),
            cursor,
            bus,
            plugin,
            changes: plugins.watch(),
            plugins,
            questions,
            order: Order::default(),
            calls: JoinSet::new(),
            later: BinaryHeap::new(),
            waiting: HashMap::new(),
            held: Held::default(),
            progress,
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let log = self.bus.log().clone();
        let mut draining = std::pin::pin!(log.draining());
        let mut open = true;
        loop {
            let Some(version) = self.active.borrow_and_update().clone() else {
                // Nothing to call: whoever stops the hub is not to wait for it.
                if !self.idle(&stop).await {
                    return self.drain().await;
                }
                continue;
            };
            if !open {
                self.give_up();
            }
            self.begin(&version);
            self.changes.borrow_and_update();
            let reading = self.may_read(&version);
            self.announce(reading);
            let due = self.later.peek().map(|Reverse((due, _))| *due);
            tokio::select! {
                () = stop.cancelled() => return self.drain().await,
                () = &mut draining, if open => open = false,
                _ = self.active.changed() => {}
                changed = self.changes.changed(), if !reading => if changed.is_err() { return self.drain().await },
                Some(ended) = self.calls.join_next() => self.ended(ended),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.wake(),
                step = self.cursor.next(), if reading && self.held.has_room() => match step {
                    Some(Step::Events(chunk)) => self.take(&chunk, &version).await,
                    // Counted by the cursor.
                    Some(Step::Gap(_)) => {}
                    None => return self.drain().await,
                },
            }
        }
    }

    /// Waits for a version to call. False: the plugin is gone.
    async fn idle(&mut self, stop: &CancellationToken) -> bool {
        self.progress.send_replace(u64::MAX);
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = self.active.changed() => {
                    self.announce(true);
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
            self.held.insert(&event);
            self.order.push(version.order_by(), Job { event, attempt: 1 });
        }
    }

    /// Whether the filter that the operator put before this handler can be asked, or lets everything through where it cannot.
    /// Until then the lane reads nothing: what it reads without an answer would be passed over for ever.
    fn may_read(&self, version: &Version) -> bool {
        let Some(name) = &version.manifest().filter else { return true };
        let Some(filter) = self.plugins.get(name.as_str()) else { return false };
        let is_filter = |version: &Arc<Version>| version.kind() == Kind::Filter;
        filter.active().is_some_and(|version| is_filter(&version))
            || filter.current().is_some_and(|version| is_filter(&version) && version.on_error() == OnError::Open)
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
                let called = AssertUnwindSafe(call(&bus, &plugin, active, &job)).catch_unwind().await;
                let ended = called.unwrap_or_else(|_| Ended::Dead {
                    code: "panic",
                    message: "the hub's own code panicked over it".into(),
                });
                (job, ended)
            });
        }
    }

    fn ended(&mut self, ended: Result<(Job, Ended), tokio::task::JoinError>) {
        // Panics are caught, and nobody aborts a call while the lane runs.
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
        self.let_go(&job);
    }

    fn let_go(&mut self, job: &Job) {
        self.held.remove(job.event.seq);
        self.order.done(job);
    }

    /// The hub is stopping: what waits for another try is not waited for.
    fn give_up(&mut self) {
        self.later.clear();
        let waiting = std::mem::take(&mut self.waiting);
        self.bus.metrics().handler_abandoned.add(waiting.len() as u64);
        for job in waiting.into_values() {
            self.let_go(&job);
        }
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
        if event.metadata.source.as_deref() == Some("busway") && event.event_type.starts_with("plugin.") {
            return;
        }
        let data = json!({"plugin": name, "seq": event.seq, "event_id": event.metadata.event_id, "type": event.event_type,
                          "code": code, "message": message, "attempts": attempt});
        if let Ok(letter) = NewEvent::new("plugin.dead_letter").data(data) {
            self.bus.publish_internal(letter.source("busway"));
        }
    }

    /// Through where it is done. Not reading, it is done with everything that it does not hold: nobody is to wait for it.
    fn announce(&self, reading: bool) {
        let read = if reading { self.cursor.position() - 1 } else { u64::MAX };
        let through = self.held.first().map_or(read, |seq| seq - 1);
        self.progress.send_if_modified(|progress| std::mem::replace(progress, through) != through);
    }

    /// The plugin is gone, or the log is at its end: what is at work finishes, the rest is given up and counted.
    async fn drain(mut self) {
        while let Some(ended) = self.calls.join_next().await {
            self.ended(ended);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.bus.metrics().handler_abandoned.add(self.held.len() as u64);
    }
}
