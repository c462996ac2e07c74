//! The bus: the face of the library. Publish, subscribe, request, stats, stop.
//!
//! Checks what publishers hand in and gives it to the log; runs native subscribers as cursors on it. Knows nothing of
//! plugins, sockets or HTTP: an admission filter is a function it is given. Start reading at [`Bus::publish`].

mod publish;
mod request;
mod stats;
mod subscription;

pub use publish::{PublishError, Publishing, Receipt, Refusal, Rejection};
pub use request::{Ask, Asked, MAX_TIMEOUT_MS, Reply, RequestError};
pub use stats::Stats;
pub use subscription::{IntoOutcome, Subscription};

use crate::{
    event::{Event, EventError, EventFilter, Glob, NewEvent},
    log::{AppendError, Log},
    metrics::{Door, Metrics, Reason},
};
use futures_util::future::BoxFuture;
use request::Replies;
use serde::{Deserialize, Serialize};
use std::{
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

/// Bounds of the bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// Most native handlers at work at once.
    pub max_concurrent_handlers: NonZero<usize>,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self { max_concurrent_handlers: const { NonZero::new(100).unwrap() } }
    }
}

/// Asks whether an event may come in.
pub type Admission = Arc<dyn Fn(Arc<Event>) -> BoxFuture<'static, Result<(), Refusal>> + Send + Sync>;

/// A handle on the bus; clones are the same bus.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    log: Log,
    metrics: Arc<Metrics>,
    admission: Option<Admission>,
    permits: Semaphore,
    consumers: Mutex<Vec<watch::Receiver<u64>>>,
    replies: Replies,
}

impl Bus {
    /// A bus on a log. Needs a tokio runtime.
    pub fn start(config: &BusConfig, log: Log, admission: Option<Admission>) -> Self {
        let metrics = log.metrics().clone();
        let replies = Replies::start(log.cursor_at_head());
        let permits = Semaphore::new(config.max_concurrent_handlers.get().min(Semaphore::MAX_PERMITS));
        Self { shared: Arc::new(Shared { log, metrics, admission, permits, consumers: Mutex::default(), replies }) }
    }

    /// The log under it.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Publishes an event and waits until it is in the log. Never waits for a consumer.
    ///
    /// # Errors
    /// See [`PublishError`]; the event is then nowhere.
    pub async fn publish(&self, event: NewEvent) -> Result<Receipt, PublishError> {
        let mut receipts = self.publish_all(vec![event]).await?;
        receipts.pop().ok_or(PublishError::Append(AppendError::Stopped))
    }

    /// Publishes events one behind the other, all of them or none, and waits until they are in the log.
    ///
    /// # Errors
    /// See [`PublishError`]; it names the first event that was refused.
    pub async fn publish_all(&self, events: Vec<NewEvent>) -> Result<Vec<Receipt>, PublishError> {
        self.begin_publish(Door::Library, events).await?.receipts().await
    }

    /// The first half of [`Bus::publish_all`]: asks the admission filters and puts the events in line. What is begun later
    /// comes later, whoever waits for it first. They are counted at `door`.
    ///
    /// # Errors
    /// See [`PublishError`]; it names the first event that was refused.
    pub async fn begin_publish(&self, door: Door, events: Vec<NewEvent>) -> Result<Publishing, PublishError> {
        self.take_in(door, events, NewEvent::admit_from_outside).await
    }

    /// As [`Bus::begin_publish`], for what a client said that is no event, in the hub's own name. It comes from outside all
    /// the same: it passes the admission filters and is counted as sent.
    ///
    /// # Errors
    /// As [`Bus::begin_publish`].
    pub async fn begin_publish_heard(&self, door: Door, event: NewEvent) -> Result<Publishing, PublishError> {
        self.take_in(door, vec![event.source("busway")], NewEvent::admit).await
    }

    async fn take_in(
        &self,
        door: Door,
        events: Vec<NewEvent>,
        admit: fn(NewEvent) -> Result<Event, EventError>,
    ) -> Result<Publishing, PublishError> {
        if events.is_empty() {
            return Err(PublishError::Empty);
        }
        let identified = events.iter().any(NewEvent::is_identified);
        let events = self.count(door, events.len(), self.admit(events, admit).await)?;
        let ids: Vec<Arc<str>> = events.iter().map(|event| event.metadata.event_id.clone()).collect();
        let appended = self.shared.log.append(door, events, identified).map_err(PublishError::from);
        let submitted = self.count(door, ids.len(), appended)?;
        // Before anybody waits: they will be in the log, though their publisher may be gone by then.
        self.shared.metrics.doors[door].sent.add(ids.len() as u64);
        Ok(Publishing { submitted, ids })
    }

    /// Publishes an event without waiting: it is in the queue, its seq is not known yet.
    ///
    /// # Errors
    /// See [`PublishError`]; `MustWait` if there are admission filters.
    pub fn try_publish(&self, event: NewEvent) -> Result<(), PublishError> {
        let door = Door::Library;
        if self.shared.admission.is_some() {
            return self.count(door, 1, Err(PublishError::MustWait));
        }
        let event = self.count(door, 1, event.admit_from_outside().map_err(PublishError::from))?;
        self.count(door, 1, self.shared.log.try_append(door, vec![Arc::new(event)]).map_err(PublishError::from))?;
        self.shared.metrics.doors[door].sent.inc();
        Ok(())
    }

    /// Publishes an event made of its parts; see [`Bus::publish`].
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn publish_data(
        &self,
        event_type: &str,
        data: impl Serialize,
        source: Option<&str>,
        correlation_id: Option<&str>,
        tags: &[&str],
    ) -> Result<Receipt, PublishError> {
        let mut event =
            self.count(Door::Library, 1, NewEvent::new(event_type).data(data).map_err(PublishError::from))?;
        if let Some(source) = source {
            event = event.source(source);
        }
        if let Some(id) = correlation_id {
            event = event.correlation_id(id);
        }
        self.publish(tags.iter().fold(event, |event, tag| event.tag(*tag))).await
    }

    /// Publishes an event of the hub's own, if there is room; it is counted if there is none.
    pub fn publish_internal(&self, event: NewEvent) {
        let metrics = &self.shared.metrics;
        let taken = event.admit().is_ok_and(|event| self.shared.log.try_append_own(vec![Arc::new(event)]).is_ok());
        if !taken {
            metrics.internal_dropped.inc();
        }
    }

    async fn admit(
        &self,
        events: Vec<NewEvent>,
        admit: fn(NewEvent) -> Result<Event, EventError>,
    ) -> Result<Vec<Arc<Event>>, PublishError> {
        let mut admitted = Vec::with_capacity(events.len());
        for (index, event) in events.into_iter().enumerate() {
            let event = admit(event).map_err(|error| PublishError::Invalid { index, error })?;
            admitted.push(Arc::new(event));
        }
        // Before any filter is asked about what could not be taken anyway.
        self.shared.log.check_size(&admitted)?;
        if let Some(admission) = &self.shared.admission {
            for (index, event) in admitted.iter().enumerate() {
                admission(event.clone()).await.map_err(|refusal| PublishError::refused(index, refusal))?;
            }
        }
        Ok(admitted)
    }

    /// Counts a refusal, so that accepted, duplicate and rejected add up to sent (I1, I2).
    fn count<T>(&self, door: Door, events: usize, result: Result<T, PublishError>) -> Result<T, PublishError> {
        result.inspect_err(|error| self.count_rejected(door, events, error.reason()))
    }

    /// Counts events that were refused before they could become [`NewEvent`]s, such as text that is not JSON.
    pub fn count_rejected(&self, door: Door, events: usize, reason: Reason) {
        self.shared.metrics.doors[door].reject(events as u64, reason);
    }

    /// Publishes `event` and waits for the first later event with its correlation id and a type that matches
    /// `reply_type`. Without a correlation id the event gets one. A plugin that answers simply emits.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(&self, event: NewEvent, reply_type: &Glob, timeout: Duration) -> Result<Reply, RequestError> {
        request::request(self, event, reply_type, timeout).await
    }

    /// Calls `handler` with each event from now on that matches, one after the other in order of seq, until the
    /// subscription is dropped. A handler that is slow falls behind, and misses what the log no longer holds (counted);
    /// a panic is counted and ends nothing.
    pub fn subscribe<H, F>(&self, filter: EventFilter, handler: H) -> Subscription
    where
        H: FnMut(Arc<Event>) -> F + Send + 'static,
        F: Future<Output: IntoOutcome> + Send + 'static,
    {
        subscription::spawn(self, filter, subscription::Asynchronous(handler))
    }

    /// As [`Bus::subscribe`] with a handler that does not wait. It runs on the runtime's own threads: work that blocks
    /// belongs into `tokio::task::spawn_blocking`.
    pub fn subscribe_sync<H, O>(&self, filter: EventFilter, handler: H) -> Subscription
    where
        H: FnMut(&Arc<Event>) -> O + Send + 'static,
        O: IntoOutcome,
    {
        subscription::spawn(self, filter, subscription::Synchronous(handler))
    }

    /// As [`Bus::subscribe`] for every event.
    pub fn subscribe_all<H, F>(&self, handler: H) -> Subscription
    where
        H: FnMut(Arc<Event>) -> F + Send + 'static,
        F: Future<Output: IntoOutcome> + Send + 'static,
    {
        self.subscribe(EventFilter::all(), handler)
    }

    /// As [`Bus::subscribe`], for a subscriber that somebody else owns: the subscription does not keep it alive, and
    /// ends at the first matching event after its last `Arc` is gone. Nobody needs to hold the [`Subscription`].
    pub fn subscribe_weak<T, H, F>(&self, filter: EventFilter, subscriber: &Arc<T>, handler: H)
    where
        T: Send + Sync + 'static,
        H: FnMut(Arc<T>, Arc<Event>) -> F + Send + 'static,
        F: Future<Output: IntoOutcome> + Send + 'static,
    {
        subscription::spawn(self, filter, subscription::Weakly(Arc::downgrade(subscriber), handler)).detach();
    }

    /// Registers a consumer that [`Bus::stop`] is to wait for. It announces through which seq it is done; when the
    /// sender is dropped it is no longer waited for.
    pub fn consumer(&self, done: u64) -> watch::Sender<u64> {
        let (progress, receiver) = watch::channel(done);
        let mut consumers = self.consumers();
        consumers.retain(|other| other.has_changed().is_ok());
        consumers.push(receiver);
        progress
    }

    fn consumers(&self) -> std::sync::MutexGuard<'_, Vec<watch::Receiver<u64>>> {
        self.shared.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers, with the names that they have always had.
    pub fn stats(&self) -> Stats {
        Stats::of(self)
    }

    /// Takes no more events, lets every consumer finish what is in the log and what handlers emit on the way, then ends
    /// the log. Returns whether all were done within `timeout`; the log has ended either way.
    pub async fn stop(&self, timeout: Duration) -> bool {
        let log = &self.shared.log;
        log.drain();
        let done = tokio::time::timeout_at(Instant::now() + timeout, self.caught_up()).await.is_ok();
        log.close();
        let mut head = log.watch_head();
        // The sequencer ends within one round; there is nothing it could wait for.
        let _ = head.wait_for(|head| head.closed).await;
        done
    }

    async fn caught_up(&self) {
        let mut head = self.shared.log.watch_head();
        loop {
            // What the publishers' queue still held is in the log once the sequencer has gone round.
            self.shared.log.settled().await;
            let target = head.borrow_and_update().seq;
            let consumers = self.consumers().clone();
            for mut consumer in consumers {
                // An error means that it has ended by itself.
                let _ = consumer.wait_for(|done| *done >= target).await;
            }
            if head.borrow().seq == target {
                return;
            }
        }
    }
}
