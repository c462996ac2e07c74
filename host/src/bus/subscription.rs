//! Native subscribers: a cursor, a filter and a handler in one task.

use super::Bus;
use crate::{
    event::{Event, EventFilter, turn},
    log::{Cursor, Step},
};
use futures_util::FutureExt;
use std::{
    future::ready,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::{TryAcquireError, watch},
    task::yield_now,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How long a subscriber may go on while there are events and its handler does not wait, before other tasks have the thread.
const TURN: Duration = Duration::from_millis(1);
/// Events between two looks at the clock.
const LOOKS: usize = 16;

/// Ends when dropped: the call that is under way finishes, no other begins.
#[derive(Debug)]
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription {
    stop: CancellationToken,
    /// None once it is to go on by itself.
    owned: bool,
    ended: watch::Receiver<()>,
}

impl Subscription {
    /// Lets it go on until the bus stops.
    pub fn detach(mut self) {
        self.owned = false;
    }

    /// Ends it and waits until the call that is under way has finished.
    pub async fn end(self) {
        self.stop.cancel();
        let mut ended = self.ended.clone();
        // An error is what it waits for: the task has dropped its end.
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.owned {
            self.stop.cancel();
        }
    }
}

/// What a handler may return: nothing, or a result whose error is counted and logged.
pub trait IntoOutcome: Send {
    /// The error's text, if it failed.
    fn into_outcome(self) -> Result<(), String>;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: std::fmt::Display + Send> IntoOutcome for Result<(), E> {
    fn into_outcome(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// The three forms of a handler. `None`: the subscriber is gone.
pub(super) trait Handler: Send + 'static {
    fn call(&mut self, event: &Arc<Event>) -> Option<impl Future<Output = Result<(), String>> + Send + use<Self>>;
}

pub(super) struct Asynchronous<H>(pub(super) H);
pub(super) struct Synchronous<H>(pub(super) H);
pub(super) struct Weakly<T, H>(pub(super) Weak<T>, pub(super) H);

impl<H, F> Handler for Asynchronous<H>
where
    H: FnMut(Arc<Event>) -> F + Send + 'static,
    F: Future<Output: IntoOutcome> + Send + 'static,
{
    fn call(&mut self, event: &Arc<Event>) -> Option<impl Future<Output = Result<(), String>> + Send + use<H, F>> {
        Some((self.0)(event.clone()).map(IntoOutcome::into_outcome))
    }
}

impl<H, O> Handler for Synchronous<H>
where
    H: FnMut(&Arc<Event>) -> O + Send + 'static,
    O: IntoOutcome,
{
    fn call(&mut self, event: &Arc<Event>) -> Option<impl Future<Output = Result<(), String>> + Send + use<H, O>> {
        Some(ready((self.0)(event).into_outcome()))
    }
}

impl<T, H, F> Handler for Weakly<T, H>
where
    T: Send + Sync + 'static,
    H: FnMut(Arc<T>, Arc<Event>) -> F + Send + 'static,
    F: Future<Output: IntoOutcome> + Send + 'static,
{
    fn call(&mut self, event: &Arc<Event>) -> Option<impl Future<Output = Result<(), String>> + Send + use<T, H, F>> {
        let subscriber = self.0.upgrade()?;
        Some((self.1)(subscriber, event.clone()).map(IntoOutcome::into_outcome))
    }
}

pub(super) fn spawn(bus: &Bus, filter: EventFilter, handler: impl Handler) -> Subscription {
    let stop = CancellationToken::new();
    let (alive, ended) = watch::channel(());
    let cursor = bus.log().cursor_at_head();
    let progress = bus.consumer(cursor.position() - 1);
    let run = run(bus.clone(), cursor, filter, handler, stop.clone(), progress);
    tokio::spawn(async move {
        run.await;
        drop(alive);
    });
    Subscription { stop, owned: true, ended }
}

async fn run(
    bus: Bus,
    mut cursor: Cursor,
    filter: EventFilter,
    mut handler: impl Handler,
    stop: CancellationToken,
    progress: watch::Sender<u64>,
) {
    let _counted = bus.metrics().subscribers.hold();
    let mut turn = Instant::now();
    while let Some(Some(step)) = stop.run_until_cancelled(cursor.next()).await {
        if let Step::Events(chunk) = step {
            let matching =
                turn::select(chunk.events(), |event| filter.work(event), |event| filter.matches(event)).await;
            for (index, event) in matching.iter().enumerate() {
                if index % LOOKS == LOOKS - 1 && turn.elapsed() > TURN {
                    yield_now().await;
                    turn = Instant::now();
                }
                if stop.is_cancelled() || !call(&bus, &mut handler, event).await {
                    return;
                }
            }
            // Nor may many small chunks.
            tokio::task::consume_budget().await;
        }
        progress.send_replace(cursor.position() - 1);
    }
}

/// One call under a permit. False: the subscriber is gone.
async fn call(bus: &Bus, handler: &mut impl Handler, event: &Arc<Event>) -> bool {
    let metrics = bus.metrics();
    // One that is free is taken at once: to wait for it, even in vain, counts as a turn of the task.
    let permit = match bus.shared.permits.try_acquire() {
        Err(TryAcquireError::NoPermits) => bus.shared.permits.acquire().await.ok(),
        taken => taken.ok(),
    };
    let Some(_permit) = permit else { return false };
    let _active = metrics.active_handlers.hold();
    // A handler that panicked may have left its own state half done; the next event is its own judgement to make.
    let started = std::panic::catch_unwind(AssertUnwindSafe(|| handler.call(event)));
    let outcome = match started {
        Ok(None) => return false,
        Ok(Some(future)) => AssertUnwindSafe(future).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    metrics.events_processed.inc();
    metrics.handler_calls.inc();
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            metrics.handler_errors.inc();
            tracing::warn!(seq = event.seq, event_type = event.event_type, error, "a native handler failed");
        }
        // The panic hook has said where and why.
        Err(_) => {
            metrics.handler_errors.inc();
            metrics.handler_panics.inc();
            tracing::error!(seq = event.seq, event_type = event.event_type, "a native handler panicked");
        }
    }
    true
}
