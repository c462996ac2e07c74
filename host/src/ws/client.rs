//! One WebSocket connection: a place in a view, a socket, and one loop. Nothing here waits for another connection, and
//! nothing waits for this one: what it has not been able to take in costs a number (I4).

mod hear;

use super::{
    Context,
    out::{Clock, Out},
    protocol::{End, ToClient},
    socket::{Fill, ReadError, Socket},
};
use crate::{
    event::{NewEvent, types},
    incoming::Held,
    log::{
        ResumeError,
        view::{Delivery, ViewCursor},
    },
    metrics::{Door, Reason},
};
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use serde_json::json;
use std::{io, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};
use tungstenite::Message;
use uuid::Uuid;

/// Most messages of one connection whose events wait to be in the log; then nothing more is read from it.
const MAX_PUBLISHING: usize = 64;
/// How often the socket is read once a pong is overdue, before the client is given up: 1 MiB.
const LAST_READS: usize = 256;
/// How long a client may take to read what was on its way when the hub closed the connection, the close frame included.
const CLOSING: Duration = Duration::from_secs(5);

/// See the module's head.
pub struct Client {
    context: Arc<Context>,
    id: Uuid,
    socket: Socket,
    /// None: unsubscribed from everything.
    cursor: Option<ViewCursor>,
    /// What it uses of the memory of messages that are not whole.
    held: Held,
    /// Why `cursor` does not begin where the client asked; said after the welcome.
    refused: Option<ResumeError>,
    out: Out,
    requests: FuturesUnordered<BoxFuture<'static, ToClient>>,
    /// What it publishes, in its order; the answer, if there is one.
    publishing: FuturesOrdered<BoxFuture<'static, Option<ToClient>>>,
    clock: Clock,
    delivered: u64,
}

impl Client {
    /// A connection that has been upgraded, and its place in a view.
    pub fn new(context: Arc<Context>, socket: Socket, cursor: ViewCursor, refused: Option<ResumeError>) -> Self {
        let next_ping = Instant::now() + context.config.ping_s.duration();
        let clock = Clock { next_ping, pong_due: None, alarm: Box::pin(sleep_until(next_ping)) };
        let held = context.incoming.hold();
        Self {
            context,
            held,
            id: Uuid::now_v7(),
            socket,
            cursor: Some(cursor),
            refused,
            out: Out::default(),
            requests: FuturesUnordered::new(),
            publishing: FuturesOrdered::new(),
            clock,
            delivered: 0,
        }
    }

    /// Runs the connection to its end; both ends of it are announced as events.
    pub async fn run(mut self) {
        self.context.bus.metrics().websocket_accepted.inc();
        self.announce(types::WS_CLIENT_CONNECTED, &json!({"connection_id": self.id}));
        let log = self.context.bus.log();
        let (epoch, seq) = (log.epoch(), log.head());
        self.say(&ToClient::Welcome { connection_id: self.id, epoch, seq, next: self.position() });
        if let Some(error) = self.refused.take() {
            self.context.bus.metrics().problems.inc(error.code());
            self.say(&ToClient::Epoch(error.notice(self.position())));
        }
        let end = self.serve().await.unwrap_or(End::Client);
        if !matches!(end, End::Violation) {
            // What it has published is in the log, and it is told so.
            let told = async {
                while let Some(answer) = self.publishing.next().await {
                    self.published(answer);
                }
            };
            let _ = timeout(CLOSING, told).await;
        }
        let resume = self.resume();
        if !matches!(end, End::Client | End::Violation) {
            self.socket.say_close(end.frame(resume, epoch));
        }
        let metrics = self.context.bus.metrics();
        match end {
            End::Slow => metrics.websocket_slow.inc(),
            End::NoPong => metrics.websocket_dead.inc(),
            End::Violation | End::Binary => metrics.websocket_violations.inc(),
            End::GoingAway | End::Client | End::Full => {}
        }
        let (code, reason) = end.codes();
        let gone = json!({"connection_id": self.id, "code": code, "reason": reason, "resume": resume, "delivered": self.delivered});
        self.announce(types::WS_CLIENT_DISCONNECTED, &gone);
        self.part().await;
    }

    /// The loop. An error is a connection that broke.
    async fn serve(&mut self) -> io::Result<End> {
        let closing = self.context.closing.clone();
        // What came right behind the handshake.
        if let Some(end) = self.read().await {
            return Ok(end);
        }
        loop {
            self.refill();
            let writing = !self.out.is_done();
            self.clock.set(&self.out, &self.context.config);
            tokio::select! {
                () = closing.cancelled() => return Ok(End::GoingAway),
                () = &mut self.clock.alarm => if let Some(end) = self.tick().await? { return Ok(end) },
                writable = self.socket.writable(), if writing => {
                    writable?;
                    self.write()?;
                }
                delivery = next(&mut self.cursor, &self.context), if !writing => match delivery {
                    Some(delivery) => self.deliver(delivery)?,
                    None => return Ok(End::GoingAway),
                },
                Some(reply) = self.requests.next(), if !self.requests.is_empty() => self.answer(&reply),
                Some(answer) = self.publishing.next(), if !self.publishing.is_empty() => self.published(answer),
                readable = self.socket.readable(), if self.socket.may_read() && self.publishing.len() < MAX_PUBLISHING => {
                    readable?;
                    if let (_, Some(end)) = self.receive().await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn position(&self) -> u64 {
        self.cursor.as_ref().map_or_else(|| self.context.bus.log().head() + 1, ViewCursor::position)
    }

    /// The seq that a client which connects again is to ask for: of the first event of which nothing is on its way to it.
    fn resume(&self) -> u64 {
        let unsent = self.out.frames.as_ref().and_then(|frames| frames.ends.get(frames.begun(self.out.at)));
        unsent.map_or(self.position(), |record| self.position().min(record.first))
    }

    /// Takes what waits to be said, if nothing is being written.
    fn refill(&mut self) {
        if self.out.is_done()
            && let Some(bytes) = self.socket.unsaid()
        {
            self.out = Out { bytes, ..Out::default() };
        }
    }

    fn deliver(&mut self, delivery: Delivery) -> io::Result<()> {
        match delivery {
            Delivery::Gap(gap) => {
                self.context.bus.metrics().websocket_lagged.inc();
                self.say(&ToClient::lagged(gap));
                Ok(())
            }
            Delivery::Events { entry, from } => {
                self.context.bus.metrics().websocket_filter_errors.add(entry.failures_from(from));
                let frames = entry.websocket().clone();
                self.out =
                    Out { bytes: frames.bytes.clone(), at: frames.offset_of(from), frames: Some(frames), stuck: None };
                // Most often the socket takes it at once, and asking first would be a call to the system more.
                self.write()
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let written = self.socket.try_write(&self.out.bytes[self.out.at..])?;
        if written == 0 {
            self.out.stuck.get_or_insert_with(Instant::now);
            return Ok(());
        }
        self.out.stuck = None;
        let metrics = self.context.bus.metrics();
        metrics.websocket_bytes.add(written as u64);
        let before = self.out.at;
        self.out.at += written;
        if let Some(frames) = &self.out.frames {
            let delivered = (frames.whole_events(self.out.at) - frames.whole_events(before)) as u64;
            metrics.websocket_deliveries.add(delivered);
            self.delivered += delivered;
        }
        if self.out.is_done() {
            // Lets go of the bytes: they are shared with other clients, and may be large.
            self.out = Out::default();
        }
        Ok(())
    }

    /// Reads what is there, up to a bound, and handles it.
    async fn receive(&mut self) -> io::Result<(Fill, Option<End>)> {
        let fill = self.socket.fill()?;
        let end = if fill == Fill::Closed { Some(End::Client) } else { self.read().await };
        Ok((fill, end))
    }

    /// Handles the messages that were read.
    async fn read(&mut self) -> Option<End> {
        loop {
            match self.socket.message() {
                Ok(None) if self.held.set(self.socket.unfinished()) => return None,
                Ok(None) => {
                    tracing::debug!(connection_id = %self.id, "{}", self.context.incoming.refusal());
                    self.context.bus.count_rejected(Door::Websocket, 1, Reason::Full);
                    return Some(End::Full);
                }
                Ok(Some(Message::Text(text))) => {
                    self.context.bus.metrics().websocket_messages.inc();
                    // Many may have come at once.
                    while self.publishing.len() >= MAX_PUBLISHING
                        && let Some(answer) = self.publishing.next().await
                    {
                        self.published(answer);
                    }
                    self.hear(text.as_str()).await;
                }
                Ok(Some(Message::Binary(_))) => return Some(End::Binary),
                Ok(Some(Message::Pong(_))) => self.clock.pong_due = None,
                Ok(Some(Message::Ping(_) | Message::Frame(_))) => {}
                Ok(Some(Message::Close(_))) => return Some(End::Client),
                // A connection that broke is no violation.
                Err(ReadError::Ended) => return Some(End::Client),
                Err(ReadError::Violation(frame)) => {
                    self.socket.say_close(frame);
                    return Some(End::Violation);
                }
            }
        }
    }

    fn published(&mut self, answer: Option<ToClient>) {
        if let Some(answer) = answer {
            self.answer(&answer);
        }
    }

    fn answer(&mut self, message: &ToClient) {
        if matches!(message, ToClient::Error { .. }) {
            self.context.bus.metrics().websocket_errors.inc();
        }
        self.say(message);
        if self.context.config.announce_sent
            && let Some(op) = message.answers()
        {
            self.announce(types::WS_MESSAGE_SENT, &json!({"connection_id": self.id, "op": op}));
        }
    }

    fn say(&mut self, message: &ToClient) {
        self.socket.say(Message::text(message.text()));
    }

    fn announce(&self, event_type: &str, data: &impl serde::Serialize) {
        if let Ok(event) = NewEvent::new(event_type).data(data) {
            self.context.bus.publish_internal(event.source("busway"));
        }
    }

    /// What the clock says: a ping, or the end.
    async fn tick(&mut self) -> io::Result<Option<End>> {
        let (now, config) = (Instant::now(), &self.context.config);
        if self.out.stuck.is_some_and(|since| now >= since + config.slow_timeout_s.duration()) {
            return Ok(Some(End::Slow));
        }
        // Whatever was written to it meanwhile: the buffers of a dead connection take much, and of
        // a slow one little by little.
        if self.clock.pong_due.is_some_and(|due| now >= due) {
            return self.last_look().await;
        }
        if now >= self.clock.next_ping {
            self.clock.next_ping = now + config.ping_s.duration();
            let due = now + config.pong_timeout_s.duration();
            self.clock.pong_due.get_or_insert(due);
            self.socket.say(Message::Ping(Bytes::new()));
        }
        Ok(None)
    }

    /// Whether the pong has come and only has not been read yet: the hub was short of time, or did
    /// not read because too much of what this client publishes waited for the log.
    async fn last_look(&mut self) -> io::Result<Option<End>> {
        for _ in 0..LAST_READS {
            match self.receive().await? {
                (_, Some(end)) => return Ok(Some(end)),
                _ if self.clock.pong_due.is_none() => return Ok(None),
                (Fill::Nothing, None) => break,
                (_, None) => {}
            }
        }
        Ok(Some(End::NoPong))
    }

    /// Writes the rest of the frame that is under way, and the close frame, for as long as the client reads, and waits for
    /// its own close.
    async fn part(&mut self) {
        let end = match &self.out.frames {
            Some(frames) => {
                frames.begun(self.out.at).checked_sub(1).map_or(self.out.at, |index| frames.ends[index].end)
            }
            None => self.out.bytes.len(),
        };
        let rest = self.out.bytes.slice(self.out.at..end.max(self.out.at));
        // A copy of one frame at most: the chunk that it is part of is let go.
        let mut bytes = rest.to_vec();
        self.out = Out::default();
        self.cursor = None;
        bytes.extend_from_slice(&self.socket.unsaid().unwrap_or_default());
        let write = async {
            let mut at = 0;
            while at < bytes.len() {
                self.socket.writable().await?;
                at += self.socket.try_write(&bytes[at..])?;
            }
            self.socket.shutdown().await;
            self.socket.drain().await;
            io::Result::Ok(())
        };
        let _ = timeout(CLOSING, write).await;
    }
}

/// What comes next in the view; for a client that is unsubscribed from everything, nothing until the log ends.
async fn next(cursor: &mut Option<ViewCursor>, context: &Context) -> Option<Delivery> {
    match cursor {
        Some(cursor) => cursor.next().await,
        None => {
            context.bus.log().ended().await;
            None
        }
    }
}
