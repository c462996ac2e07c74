//! A view: the log seen through one filter. Clients that ask the same question share one view, so a filter runs once for
//! each event, not once for each client, and the bytes that go out are made once.
//!
//! A view keeps a bounded ring of what matched; a [`ViewCursor`] is a place in it. A cursor that asks for something older
//! reads the log itself through the same filter until it has caught up, and is told of what the log no longer holds.

mod budget;
mod entry;

pub use entry::Entry;

use super::{Cursor, Gap, Head, Log, Step, selection::Selection};
use crate::{
    event::{Event, EventFilter, turn},
    metrics::Metrics,
};
use budget::ViewBudget;
use futures_util::future::BoxFuture;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most bytes of events that the ring of one view holds.
const RING_BYTES: usize = 2 << 20;
/// Most entries of the ring of one view.
const RING_ENTRIES: usize = 4_096;

/// A question beyond native criteria: a named WASM filter with its parameters.
#[derive(Clone)]
pub struct Predicate {
    /// Names the question; equal names are the same question.
    pub name: String,
    /// Picks those of the events that match, and says where there was no verdict.
    pub select: Arc<Select>,
}

/// A function that asks a filter plugin about events: see [`Predicate::select`].
pub type Select = dyn Fn(Vec<Arc<Event>>) -> BoxFuture<'static, Selection> + Send + Sync;

/// What a client wants to see.
#[derive(Clone)]
pub struct Question {
    /// Native criteria, asked first. Normalised, so that equal questions share a view.
    pub filter: EventFilter,
    /// Asked about the events that meet them.
    pub predicate: Option<Predicate>,
}

impl Question {
    /// The events among `events` that match, and where the filter gave no verdict.
    pub async fn select(&self, events: &[Arc<Event>]) -> Selection {
        let matching = turn::select(events, |event| self.filter.work(event), |event| self.filter.matches(event)).await;
        match &self.predicate {
            Some(predicate) if !matching.is_empty() => (predicate.select)(matching).await,
            _ => matching.into(),
        }
    }

    fn key(&self) -> Key {
        (self.filter.clone(), self.predicate.as_ref().map(|predicate| predicate.name.clone()))
    }
}

type Key = (EventFilter, Option<String>);

/// All views of a log.
#[derive(Clone)]
pub struct Views {
    log: Log,
    open: Arc<Mutex<HashMap<Key, Weak<View>>>>,
    budget: Arc<ViewBudget>,
}

impl Views {
    /// No view yet.
    pub fn new(log: Log) -> Self {
        let budget = ViewBudget::new(log.view_bytes(), log.metrics().clone());
        Self { log, open: Arc::default(), budget }
    }

    /// The log they look at.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A cursor on the view of `question`, which is opened for the first and closed after the last of its clients.
    /// `from`: the first seq wanted; none: the next one published.
    pub fn follow(&self, question: Question, from: Option<u64>) -> ViewCursor {
        let view = self.join(question);
        let next = from.unwrap_or_else(|| self.log.head() + 1).max(1);
        ViewCursor { head: view.ring.covered.subscribe(), log: self.log.clone(), view, next, history: None }
    }

    fn join(&self, question: Question) -> Arc<View> {
        let key = question.key();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = open.get(&key).and_then(Weak::upgrade) {
            return view;
        }
        open.retain(|_, view| view.strong_count() > 0);
        let view = View::open(&self.log, question, self.budget.clone());
        open.insert(key, Arc::downgrade(&view));
        view
    }
}

struct View {
    question: Question,
    ring: Arc<Ring>,
    metrics: Arc<Metrics>,
    /// Ends the task that fills the ring when the last client has gone.
    _stop: DropGuard,
}

impl View {
    fn open(log: &Log, question: Question, budget: Arc<ViewBudget>) -> Arc<Self> {
        let cursor = log.cursor_at_head();
        let ring = Arc::new(Ring::new(cursor.position(), budget));
        let stop = CancellationToken::new();
        let metrics = log.metrics().clone();
        metrics.views.add(1);
        ring.budget.open();
        let fill = fill(ring.clone(), question.clone(), cursor);
        tokio::spawn(stop.clone().run_until_cancelled_owned(fill));
        Arc::new(Self { question, ring, metrics, _stop: stop.drop_guard() })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.metrics.views.add(-1);
        self.ring.budget.close();
    }
}

async fn fill(ring: Arc<Ring>, question: Question, mut cursor: Cursor) {
    while let Some(step) = cursor.next().await {
        match step {
            Step::Events(chunk) => {
                let selection = question.select(chunk.events()).await;
                ring.push(selection, chunk.last());
            }
            Step::Gap(gap) => ring.skip(gap.to),
        }
    }
    ring.covered.send_modify(|head| head.closed = true);
}

struct Ring {
    state: Mutex<RingState>,
    /// How far the filter has been asked.
    covered: watch::Sender<Head>,
    budget: Arc<ViewBudget>,
}

struct RingState {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// From here to `covered` the ring holds every event that matched.
    floor: u64,
}

/// What the ring says to a cursor.
enum Look {
    Entry(Arc<Entry>),
    /// Nothing more matched up to here.
    NothingUntil(u64),
    /// It asks for what the ring does not cover.
    BelowFloor,
}

impl Ring {
    fn new(floor: u64, budget: Arc<ViewBudget>) -> Self {
        let state = RingState { entries: VecDeque::new(), bytes: 0, floor };
        Self { state: Mutex::new(state), covered: watch::Sender::new(Head { seq: floor - 1, closed: false }), budget }
    }

    fn push(&self, selection: Selection, covered: u64) {
        let mut evicted = Vec::new();
        let mut state = self.state();
        if !selection.is_empty() {
            let entry = Arc::new(Entry::new(selection, Some(self.budget.clone())));
            state.bytes += entry.weight();
            state.entries.push_back(entry);
            while (state.bytes > RING_BYTES || state.entries.len() > RING_ENTRIES)
                && state.entries.len() > 1
                && let Some(oldest) = state.entries.pop_front()
            {
                state.bytes -= oldest.weight();
                state.floor = oldest.last() + 1;
                evicted.push(oldest);
            }
        }
        // Also where nothing matched: a view that is idle makes room for those that are not.
        if self.budget.is_exceeded() {
            let share = self.budget.share();
            let mut held: usize = state.entries.iter().map(|entry| entry.held()).sum();
            while held > share
                && let Some(oldest) = state.entries.pop_front()
            {
                held -= oldest.held().min(held);
                state.bytes -= oldest.weight();
                state.floor = oldest.last() + 1;
                evicted.push(oldest);
            }
        }
        drop(state);
        drop(evicted);
        self.covered.send_modify(|head| head.seq = covered);
    }

    /// The log had nothing up to `covered` any more: cursors are to find that out from the log itself.
    fn skip(&self, covered: u64) {
        let mut state = self.state();
        state.entries.clear();
        state.bytes = 0;
        state.floor = covered + 1;
        drop(state);
        self.covered.send_modify(|head| head.seq = covered);
    }

    fn look(&self, next: u64) -> Look {
        // Read before the entries: what is pushed in between is found by the next look.
        let covered = self.covered.borrow().seq;
        let state = self.state();
        if next < state.floor {
            return Look::BelowFloor;
        }
        let after = state.entries.partition_point(|entry| entry.last() < next);
        match state.entries.get(after) {
            Some(entry) => Look::Entry(entry.clone()),
            None => Look::NothingUntil(covered),
        }
    }

    fn state(&self) -> MutexGuard<'_, RingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client gets next.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// Events that match, and failures of the filter; what
    /// is about seqs before `from` was delivered already.
    Events {
        /// They and their bytes.
        entry: Arc<Entry>,
        /// Where this client begins.
        from: u64,
    },
    /// Events that are gone. Whether they would have matched is not known.
    Gap(Gap),
}

/// A client's way through the log itself. Kept from one look to the next, because asking a filter takes time, and whoever
/// waits for the answer may turn to something else meanwhile.
struct History {
    cursor: Cursor,
    /// What was found in the chunk that was read last, and that chunk's end.
    asked: Option<(BoxFuture<'static, Selection>, u64)>,
}

/// One client's place in a view: a number, and until it has caught up a cursor on the log.
pub struct ViewCursor {
    log: Log,
    view: Arc<View>,
    next: u64,
    head: watch::Receiver<Head>,
    history: Option<Box<History>>,
}

impl ViewCursor {
    /// The seq to resume from.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// What comes next, waiting for it; `None` once the log has closed and all was delivered. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let closed = self.head.borrow_and_update().closed;
            match self.view.ring.look(self.next) {
                Look::Entry(entry) => {
                    let from = std::mem::replace(&mut self.next, entry.last() + 1);
                    self.history = None;
                    return Some(Delivery::Events { entry, from });
                }
                Look::BelowFloor => match self.catch_up().await {
                    Some(delivery) => return Some(delivery),
                    None => continue,
                },
                Look::NothingUntil(covered) => {
                    self.next = self.next.max(covered + 1);
                    self.history = None;
                }
            }
            if closed || self.head.changed().await.is_err() {
                return None;
            }
        }
    }

    /// One step through the log itself; `None` if nothing in it matched or failed.
    async fn catch_up(&mut self) -> Option<Delivery> {
        let log = &self.log;
        let history =
            self.history.get_or_insert_with(|| Box::new(History { cursor: log.cursor(self.next), asked: None }));
        let (selecting, last) = match &mut history.asked {
            Some(asked) => asked,
            none => match history.cursor.read().await? {
                Step::Gap(gap) => {
                    self.next = gap.to + 1;
                    return Some(Delivery::Gap(gap));
                }
                Step::Events(chunk) => {
                    let (question, last) = (self.view.question.clone(), chunk.last());
                    let selecting = async move { question.select(chunk.events()).await };
                    none.insert((Box::pin(selecting), last))
                }
            },
        };
        let (selection, last) = (selecting.await, *last);
        history.asked = None;
        let from = std::mem::replace(&mut self.next, last + 1);
        (!selection.is_empty()).then(|| Delivery::Events { entry: Arc::new(Entry::new(selection, None)), from })
    }
}

#[cfg(test)]
mod tests;
