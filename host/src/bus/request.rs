//! Request and reply: one cursor looks for the replies that anybody waits for.
//!
//! A request that is repeated with the same ids is the first one over again: its reply may be in
//! the log already, so there it is looked for.

use super::{Bus, PublishError, Publishing, Receipt};
use crate::{
    event::{Event, Glob, NewEvent},
    log::{AppendError, Cursor, Step},
    metrics::{Door, Reason},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

/// Most events that may arrive for a request before its own publishing is acknowledged.
const CANDIDATES: usize = 64;

/// Longest wait for a reply that a client may ask for, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 300_000;

/// A request as clients write it, the same over HTTP and WebSocket.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    event: NewEvent,
    reply_type: Glob,
    #[serde(default = "half_a_minute")]
    timeout_ms: u64,
}

fn half_a_minute() -> u64 {
    30_000
}

impl Ask {
    /// Publishes it and waits for the reply.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn answer(self, bus: &Bus, door: Door) -> Result<Reply, RequestError> {
        self.publish(bus, door).await?.reply().await
    }

    /// The first half of [`Ask::answer`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn publish(self, bus: &Bus, door: Door) -> Result<Asked, RequestError> {
        if !(1..=MAX_TIMEOUT_MS).contains(&self.timeout_ms) {
            bus.count_rejected(door, 1, Reason::Invalid);
            return Err(RequestError::TimeoutMs(self.timeout_ms));
        }
        publish(bus, door, self.event, &self.reply_type, Duration::from_millis(self.timeout_ms)).await
    }
}

/// A request that was answered.
#[derive(Debug, Clone, Serialize)]
pub struct Reply {
    /// Where the request stands in the log.
    pub request: Receipt,
    /// What ties the two together.
    pub correlation_id: Arc<str>,
    /// The answer.
    pub reply: Arc<Event>,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A client asked for no time, or too much.
    #[error("timeout_ms: expected 1 to {MAX_TIMEOUT_MS} milliseconds, found {0}")]
    TimeoutMs(u64),
    /// No event of the reply's type with this correlation id came in time. The request stays in the log.
    #[error("no event of type {reply_type} with correlation id {correlation_id} within {timeout:?}")]
    Timeout {
        /// The type that was waited for.
        reply_type: String,
        /// The request's.
        correlation_id: Arc<str>,
        /// How long.
        timeout: Duration,
    },
}

impl RequestError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Publish(error) => error.code(),
            Self::TimeoutMs(_) => "request.timeout-ms",
            Self::Timeout { .. } => "request.timeout",
        }
    }
}

type Waiters = HashMap<Arc<str>, Vec<Waiter>>;

struct Waiter {
    id: Uuid,
    reply_type: Glob,
    candidates: mpsc::Sender<Arc<Event>>,
}

/// Who waits for which correlation id.
pub(super) struct Replies {
    waiters: Arc<Mutex<Waiters>>,
}

/// A request that is in line for the log and waits for its reply.
pub struct Asked {
    bus: Bus,
    waiting: Registration,
    publishing: Publishing,
    reply_type: Glob,
    until: Instant,
    patience: Duration,
}

impl Replies {
    pub(super) fn start(cursor: Cursor) -> Self {
        let waiters = Arc::<Mutex<Waiters>>::default();
        tokio::spawn(look(cursor, waiters.clone()));
        Self { waiters }
    }

    fn register(&self, correlation_id: &Arc<str>, reply_type: &Glob) -> Registration {
        let (candidates, received) = mpsc::channel(CANDIDATES);
        let id = Uuid::now_v7();
        let waiter = Waiter { id, reply_type: reply_type.clone(), candidates };
        lock(&self.waiters).entry(correlation_id.clone()).or_default().push(waiter);
        Registration { waiters: self.waiters.clone(), correlation_id: correlation_id.clone(), id, received }
    }
}

fn lock(waiters: &Mutex<Waiters>) -> MutexGuard<'_, Waiters> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the waiter out again, also when the request's future is dropped.
struct Registration {
    waiters: Arc<Mutex<Waiters>>,
    correlation_id: Arc<str>,
    id: Uuid,
    received: mpsc::Receiver<Arc<Event>>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut waiters = lock(&self.waiters);
        if let Some(list) = waiters.get_mut(&self.correlation_id) {
            list.retain(|waiter| waiter.id != self.id);
            if list.is_empty() {
                waiters.remove(&self.correlation_id);
            }
        }
    }
}

async fn look(mut cursor: Cursor, waiters: Arc<Mutex<Waiters>>) {
    while let Some(step) = cursor.next().await {
        let Step::Events(chunk) = step else { continue };
        let waiters = lock(&waiters);
        if waiters.is_empty() {
            continue;
        }
        for event in chunk.events() {
            let id = event.metadata.correlation_id.as_deref();
            for waiter in id.and_then(|id| waiters.get(id)).into_iter().flatten() {
                if waiter.reply_type.matches(&event.event_type) {
                    // Full only if dozens came before the request's own acknowledgement; the first of them is enough.
                    let _ = waiter.candidates.try_send(event.clone());
                }
            }
        }
    }
    // Nobody will get a reply any more; without their senders they hear of it.
    lock(&waiters).clear();
}

pub(super) async fn request(
    bus: &Bus,
    event: NewEvent,
    reply_type: &Glob,
    patience: Duration,
) -> Result<Reply, RequestError> {
    publish(bus, Door::Library, event, reply_type, patience).await?.reply().await
}

async fn publish(
    bus: &Bus,
    door: Door,
    mut event: NewEvent,
    reply_type: &Glob,
    patience: Duration,
) -> Result<Asked, RequestError> {
    let correlation_id = event.correlation().cloned().unwrap_or_else(|| Uuid::now_v7().to_string().into());
    event = event.correlation_id(correlation_id.clone());
    bus.metrics().requests.inc();
    // Before publishing, so that no reply can come too early to be seen.
    let waiting = bus.shared.replies.register(&correlation_id, reply_type);
    let until = Instant::now() + patience;
    let publishing = bus.begin_publish(door, vec![event]).await?;
    Ok(Asked { bus: bus.clone(), waiting, publishing, reply_type: reply_type.clone(), until, patience })
}

impl Asked {
    /// Waits for the reply.
    ///
    /// # Errors
    /// [`RequestError::Timeout`], or that the request did not get into the log.
    pub async fn reply(self) -> Result<Reply, RequestError> {
        let Self { bus, waiting, publishing, reply_type, until, patience } = self;
        let request = publishing.receipts().await?.pop().ok_or(PublishError::Append(AppendError::Stopped))?;
        let mut correlation_id = waiting.correlation_id.clone();
        let found = async {
            if request.duplicate {
                repeated(&bus, request.seq, waiting, &reply_type, &mut correlation_id).await
            } else {
                waiting.reply_after(request.seq).await
            }
        };
        match timeout_at(until, found).await {
            Ok(Some(reply)) => Ok(Reply { request, correlation_id, reply }),
            Ok(None) => Err(PublishError::Append(AppendError::Stopped).into()),
            Err(_) => {
                bus.metrics().request_timeouts.inc();
                Err(RequestError::Timeout { reply_type: reply_type.to_string(), correlation_id, timeout: patience })
            }
        }
    }
}

impl Registration {
    /// Waits for the first matching event after `seq`. The request itself, and events before it,
    /// are no replies. Returns `None` once the log has ended.
    async fn reply_after(mut self, seq: u64) -> Option<Arc<Event>> {
        loop {
            match self.received.recv().await {
                Some(candidate) if candidate.seq <= seq => {}
                other => return other,
            }
        }
    }
}

/// The reply to the request that stands at `seq` already: the first in the log, or if there is none
/// yet, the next to come. Reads no further than where the log ends, a batch at a time, and for no
/// longer than the caller waits.
async fn repeated(
    bus: &Bus,
    seq: u64,
    mut waiting: Registration,
    reply_type: &Glob,
    correlation_id: &mut Arc<str>,
) -> Option<Arc<Event>> {
    let mut cursor = bus.log().cursor(seq);
    while let Some(step) = cursor.read().await {
        let Step::Events(chunk) = step else { continue };
        for event in chunk.events() {
            let id = event.metadata.correlation_id.as_ref();
            if event.seq == seq {
                // Replies have the first one's, which the hub may have made: this one's was another
                // then.
                if let Some(first) = id.filter(|first| *first != correlation_id) {
                    *correlation_id = first.clone();
                    waiting = bus.shared.replies.register(first, reply_type);
                }
            } else if id == Some(&*correlation_id) && reply_type.matches(&event.event_type) {
                return Some(event.clone());
            }
        }
    }
    waiting.reply_after(cursor.position() - 1).await
}
