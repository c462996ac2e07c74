//! A lane's own task: reads events, hands them to the plugin as far as order and room allow, and does with each what its
//! attempt meant. Everything that it holds is bounded; what waits for another try is held too.

use super::{Job, call::Returned, held::Held, order::Order, pace::Pace, pipeline::Pipeline, place::Place};
use crate::{
    bus::Bus,
    event::{Event, turn},
    log::{Chunk, Cursor, Step},
    plugin::{
        Kind, Name, Start, Version,
        feed::Observed,
        registry::{Plugin, Registry},
    },
    question::Questions,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// After the journal could not be written or read.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The lane reads no further than this past an event that is not settled: what is done behind it is remembered one by one.
const FURTHEST: u64 = 65_536;

pub(super) struct Lane {
    pub(super) bus: Bus,
    pub(super) plugin: Arc<Plugin>,
    pub(super) name: Arc<str>,
    pub(super) plugins: Registry,
    changes: watch::Receiver<Arc<BTreeMap<Name, Arc<Plugin>>>>,
    pub(super) questions: Questions,
    pub(super) cursor: Cursor,
    pub(super) active: watch::Receiver<Option<Arc<Version>>>,
    pub(super) order: Order,
    pub(super) calls: JoinSet<Returned>,
    pub(super) pipeline: Pipeline,
    /// Events of calls that may have read what is being rolled back. They are handled again.
    pub(super) stale: Vec<Job>,
    pub(super) pace: Pace,
    /// When, and the seq to tell equal times apart; the job is in `waiting`.
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(super) waiting: HashMap<u64, Job>,
    pub(super) held: Held,
    pub(super) place: Place,
    /// How often the place is written, where there is a journal.
    pub(super) flush: Option<Duration>,
    flush_at: Instant,
    /// Not before then: the journal could not be written or read.
    pub(super) read_at: Option<Instant>,
    /// No call begins before this time, since the journal could not be written.
    pub(super) begin_at: Option<Instant>,
    /// The journal has more to try again than the lane holds.
    pub(super) more_retries: bool,
    /// They and new events take turns: neither is to wait for all of the other.
    pub(super) retries_next: bool,
    /// The event about which the filter before the
    /// handler was starved last, and how often in a row.
    pub(super) starved: Option<(u64, u32)>,
    progress: watch::Sender<u64>,
}

impl Lane {
    pub(super) fn new(bus: Bus, plugin: Arc<Plugin>, plugins: Registry, questions: Questions) -> Self {
        let name: Arc<str> = plugin.name().as_str().into();
        let log = bus.log();
        Self {
            active: plugin.watch(),
            cursor: log.cursor_at_head(),
            changes: plugins.watch(),
            plugins,
            questions,
            order: Order::default(),
            calls: JoinSet::new(),
            stale: Vec::new(),
            pipeline: Pipeline::new(log.committer(), log.metrics().clone()),
            pace: Pace::default(),
            later: BinaryHeap::new(),
            waiting: HashMap::new(),
            held: Held::default(),
            place: Place::new(log.clone(), name.clone()),
            flush: log.journal().map(|journal| journal.config().flush_s.duration()),
            flush_at: Instant::now(),
            read_at: None,
            begin_at: None,
            more_retries: false,
            retries_next: false,
            starved: None,
            progress: bus.consumer(0),
            bus,
            plugin,
            name,
        }
    }

    /// Runs until the plugin is gone or the log ends. `from`: the first event after the plugin was first seen.
    pub(super) async fn run(mut self, from: u64, stop: CancellationToken) {
        if self.open(from, &stop).await {
            self.serve(&stop).await;
        }
        // What is at work finishes; the rest is found again with a journal, and counted without.
        while !self.is_idle() {
            self.finish_one().await;
        }
        self.save(true).await;
        // Or a filter has taken its place.
        if self.plugin.gone().is_cancelled() || self.plugin.kind() == Some(Kind::Filter) {
            self.place.close().await;
        }
    }

    /// Finds where to begin, trying until that can be read and written. False: there is no more to do.
    async fn open(&mut self, from: u64, stop: &CancellationToken) -> bool {
        let log = self.bus.log().clone();
        let (oldest, next) = (log.oldest(), log.head() + 1);
        let first = match self.plugin.current().map(|version| version.manifest().start).unwrap_or_default() {
            Start::Latest => from,
            Start::Earliest => oldest,
            Start::Seq(seq) => seq.clamp(oldest, next),
        };
        loop {
            let opened = async {
                let next = self.place.open(first).await?;
                self.cursor = log.cursor(next);
                self.progress.send_replace(next - 1);
                self.load_retries().await
            };
            let error = match opened.await {
                Ok(()) => return true,
                Err(error) => error,
            };
            tracing::warn!(plugin = &*self.name, %error, "cannot find where the handler stands");
            // Nobody is to wait for it.
            self.progress.send_replace(u64::MAX);
            tokio::select! {
                () = stop.cancelled() => return false,
                () = log.draining() => return false,
                () = tokio::time::sleep(PATIENCE) => {}
            }
        }
    }

    async fn serve(&mut self, stop: &CancellationToken) {
        let (log, plugin) = (self.bus.log().clone(), self.plugin.clone());
        let mut draining = std::pin::pin!(log.draining());
        let mut open = true;
        loop {
            self.recover();
            let Some(version) = self.active.borrow_and_update().clone() else {
                if !self.idle(stop).await {
                    return;
                }
                continue;
            };
            // With a journal the next start goes on where this one stops, so only what is at work is waited for.
            let leaving = !open && self.flush.is_some();
            if leaving && self.is_idle() {
                return self.leave().await;
            }
            if !open {
                self.give_up();
            }
            // Before anything is waited for: what made it necessary may have come while no version was active.
            if self.more_retries && self.held.is_half_empty() && self.read_at.is_none() && !leaving {
                self.reload_retries().await;
            }
            if !leaving {
                // A hub that is stopping is not kept waiting.
                self.begin(&version, open);
            }
            self.changes.borrow_and_update();
            let reading = !leaving && self.may_read(&version);
            self.show(reading);
            let near = self.cursor.position() - self.settled() <= FURTHEST;
            // What is to be tried again and what is new take turns; in an order, the older goes first.
            let turn = !self.more_retries || (version.order_by().is_none() && !self.retries_next);
            let taking = reading && near && turn && self.held.has_room() && self.read_at.is_none();
            let due = self.later.peek().map(|Reverse((due, _))| *due).filter(|_| !leaving);
            let held_back = self.pace.until().filter(|_| !leaving);
            let alarm = [due, held_back, self.read_at, self.begin_at, self.flush_due()].into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut draining, if open => open = false,
                _ = self.active.changed() => {}
                changed = self.changes.changed(), if !leaving => if changed.is_err() { return },
                Some(returned) = self.calls.join_next() => self.returned(returned),
                result = self.pipeline.result(), if !self.pipeline.is_empty() => self.acknowledge(result),
                () = plugin.replayed(), if !leaving => self.more_retries = true,
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => self.wake().await,
                step = self.cursor.next(), if taking => match step {
                    Some(Step::Events(chunk)) => self.take(&chunk, &version).await,
                    // Counted by the cursor.
                    Some(Step::Gap(_)) => {}
                    None => return,
                },
            }
        }
    }

    /// Waits for a version to call. False: the plugin is gone.
    async fn idle(&mut self, stop: &CancellationToken) -> bool {
        self.progress.send_replace(u64::MAX);
        loop {
            self.recover();
            if self.is_idle() {
                self.save(true).await;
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = self.active.changed() => {
                    self.announce(true);
                    return changed.is_ok();
                }
                Some(returned) = self.calls.join_next() => self.returned(returned),
                result = self.pipeline.result(), if !self.pipeline.is_empty() => self.acknowledge(result),
            }
        }
    }

    /// Puts the events that the version wants in line.
    async fn take(&mut self, chunk: &Chunk, version: &Version) {
        self.retries_next = true;
        let shadow = self.plugin.shadow();
        let candidate = shadow.as_ref().and_then(|shadow| shadow.version());
        let is_of_interest = |event: &Event| version.wants(event) || candidate.is_some_and(|other| other.wants(event));
        let is_wanted =
            |event: &Event| is_of_interest(event) && !self.place.is_done(event.seq) && !self.held.contains(event.seq);
        let work = |event: &Event| version.work(event) + candidate.as_ref().map_or(0, |other| other.work(event));
        let mut events = turn::select(chunk.events(), work, is_wanted).await;
        if let Some(question) = self.front(version) {
            let asked = self.front_generation(version);
            let selection = question.select(&events).await;
            // It may have gone out of service before it was asked, or in between: then no answer was a no.
            if !self.may_read(version) || self.front_generation(version) != asked {
                return self.go_back(chunk);
            }
            events = self.prefiltered(selection);
        }
        if candidate.is_some() {
            let (wanted, others): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| version.wants(event));
            others.into_iter().for_each(|event| self.plugin.feed().tell(Observed::unasked(event)));
            events = wanted;
        }
        if let Some(last) = events.last()
            && let Err(error) = self.place.begin(last.seq).await
        {
            tracing::warn!(plugin = &*self.name, %error, "the handler waits for the journal");
            self.go_back(chunk);
            self.read_at = self.read_at.max(Some(Instant::now() + PATIENCE));
            return;
        }
        for event in events {
            let attempt = self.place.attempt(event.seq);
            self.held.insert(&event, false);
            self.order.push(version.order_by(), Job { event, attempt, recorded: false, faulted: false, conflicts: 0 });
        }
    }

    pub(super) fn wait(&mut self, due: Instant, job: Job) {
        self.later.push(Reverse((due, job.event.seq)));
        self.waiting.insert(job.event.seq, job);
    }

    pub(super) fn let_go(&mut self, job: &Job) {
        // A retry from before the start, or a replay: the cursor has yet to come by.
        if job.event.seq >= self.cursor.position() {
            self.place.finished(job.event.seq);
        }
        self.held.remove(job.event.seq);
        self.order.done(job);
    }

    /// The hub is stopping: in memory, what waits for another try is not waited for. With a journal it is found again.
    fn give_up(&mut self) {
        if self.flush.is_some() {
            return;
        }
        self.later.clear();
        let waiting = std::mem::take(&mut self.waiting);
        self.bus.metrics().handler_abandoned.add(waiting.len() as u64);
        for job in waiting.into_values() {
            self.let_go(&job);
        }
    }

    /// Whether no call runs and no commit waits for its result.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.pipeline.is_empty()
    }

    /// Does what is due: puts jobs whose pause is over back in line (those behind them in their order have waited too), and
    /// writes how far the lane is.
    async fn wake(&mut self) {
        let now = Instant::now();
        self.read_at = self.read_at.filter(|at| *at > now);
        self.begin_at = self.begin_at.filter(|at| *at > now);
        while let Some(Reverse((due, seq))) = self.later.peek().copied()
            && due <= now
        {
            self.later.pop();
            if let Some(job) = self.waiting.remove(&seq) {
                self.order.again(job);
            }
        }
        if self.flush_due().is_some_and(|at| at <= now) {
            self.save(false).await;
        }
    }

    /// When the journal is to be told how far the lane is; none if it knows.
    fn flush_due(&self) -> Option<Instant> {
        (self.flush.is_some() && self.place.is_behind(self.settled(), false)).then_some(self.flush_at)
    }

    /// Through which event everything is settled: done, or known to the journal as waiting for another try.
    fn settled(&self) -> u64 {
        self.held.first_unsettled().map_or(self.cursor.position() - 1, |seq| seq - 1)
    }

    /// Shows how far it is, and through which event nobody has to wait for it any more.
    fn show(&self, reading: bool) {
        self.plugin.show_place(self.settled(), self.waiting.len());
        self.announce(reading);
    }

    /// Tells the journal how far the lane is. `idle`: nothing is at work, so nothing after it was begun and not ended.
    async fn save(&mut self, idle: bool) {
        let settled = self.settled();
        if self.place.is_behind(settled, idle) {
            // It is tried again, now and then or after the next start: what was handled without effects is handled again.
            if let Err(error) = self.place.advance(settled, idle).await {
                tracing::warn!(plugin = &*self.name, %error, "cannot write how far the handler is");
            }
        }
        self.flush_at = Instant::now() + self.flush.unwrap_or_default();
    }

    /// The hub is stopping and nothing is at work.
    async fn leave(&mut self) {
        self.save(true).await;
        self.progress.send_replace(u64::MAX);
    }

    /// Through where it is done. Not reading, it is done with everything that it does not hold: nobody is to wait for it.
    fn announce(&self, reading: bool) {
        let read = if reading { self.cursor.position() - 1 } else { u64::MAX };
        let through = match self.held.first() {
            // With a journal nobody waits but for what is at work: see `leave`.
            _ if self.flush.is_some() => 0,
            Some(seq) => seq - 1,
            None => read,
        };
        self.progress.send_if_modified(|progress| std::mem::replace(progress, through) != through);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.flush.is_none() {
            self.bus.metrics().handler_abandoned.add(self.held.len() as u64);
        }
    }
}
