//! One WebSocket connection: a place in a view, a socket, and one loop. Nothing here waits for another connection, and
//! nothing waits for this one: what it has not been able to take in costs a number (I4).

use super::{
    Context,
    out::{Clock, Out, violation},
    protocol::{self, End, FromClient, Id, Received, Subscribe, ToClient},
    socket::Socket,
};
use crate::{
    bus::{Ask, Publishing, Reply},
    event::{NewEvent, types},
    log::view::{Delivery, ViewCursor},
    question::Wanted,
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
use tungstenite::{Message, error::Error};
use uuid::Uuid;

/// Most requests of one connection that wait for their reply.
const MAX_REQUESTS: usize = 16;
/// Most messages of one connection whose events wait to be in the log; then nothing more is read from it.
const MAX_PUBLISHING: usize = 64;
/// How long a client may take to read what was on its way when the hub closed the connection, the close frame included.
const CLOSING: Duration = Duration::from_secs(5);

/// See the module's head.
pub struct Client {
    context: Arc<Context>,
    id: Uuid,
    socket: Socket,
    /// None: unsubscribed from everything.
    cursor: Option<ViewCursor>,
    out: Out,
    requests: FuturesUnordered<BoxFuture<'static, ToClient>>,
    /// What it publishes, in its order; the answer, if there is one.
    publishing: FuturesOrdered<BoxFuture<'static, Option<ToClient>>>,
    clock: Clock,
    delivered: u64,
}

impl Client {
    /// A connection that has been upgraded, and its place in a view.
    pub fn new(context: Arc<Context>, socket: Socket, cursor: ViewCursor) -> Self {
        let next_ping = Instant::now() + context.config.ping_s.duration();
        let clock = Clock { next_ping, pong_due: None, alarm: Box::pin(sleep_until(next_ping)) };
        Self {
            context,
            id: Uuid::now_v7(),
            socket,
            cursor: Some(cursor),
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
            End::GoingAway | End::Client => {}
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
                () = &mut self.clock.alarm => if let Some(end) = self.tick() { return Ok(end) },
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
                    if !self.socket.fill()? {
                        return Ok(End::Client);
                    }
                    if let Some(end) = self.read().await {
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
        unsent.map_or(self.position(), |(seq, _)| self.position().min(*seq))
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
        // A client that takes what it is given is there: its pong may be behind all that it has yet to read.
        if let Some(due) = &mut self.clock.pong_due {
            *due = Instant::now() + self.context.config.pong_timeout_s.duration();
        }
        let metrics = self.context.bus.metrics();
        metrics.websocket_bytes.add(written as u64);
        let before = self.out.at;
        self.out.at += written;
        if let Some(frames) = &self.out.frames {
            let delivered = (frames.whole(self.out.at) - frames.whole(before)) as u64;
            metrics.websocket_deliveries.add(delivered);
            self.delivered += delivered;
        }
        if self.out.is_done() {
            // Lets go of the bytes: they are shared with other clients, and may be large.
            self.out = Out::default();
        }
        Ok(())
    }

    /// Handles the messages that were read.
    async fn read(&mut self) -> Option<End> {
        loop {
            match self.socket.message() {
                Ok(None) => return None,
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
                Err(error) => {
                    // A connection that broke is no violation.
                    if matches!(error, Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed) {
                        return Some(End::Client);
                    }
                    self.socket.say_close(violation(&error));
                    return Some(End::Violation);
                }
            }
        }
    }

    async fn hear(&mut self, text: &str) {
        let (id, read) = protocol::read(text);
        let answer = match read {
            Err(error) => ToClient::refused(id, protocol::MALFORMED, &error),
            Ok(FromClient::Ping) => ToClient::Pong { id },
            Ok(FromClient::Subscribe(wanted)) => self.subscribe(id, wanted).await,
            Ok(FromClient::Unsubscribe) => {
                self.cursor = None;
                ToClient::Subscribed { id, next: self.position() }
            }
            Ok(FromClient::Publish(events)) => match self.context.bus.begin_publish(events).await {
                Ok(publishing) => return self.publishing.push_back(Box::pin(acknowledge(id, publishing, true))),
                Err(error) => ToClient::refused(id, error.code(), &error),
            },
            Ok(FromClient::Request(ask)) => match self.request(id, *ask).await {
                Some(refused) => refused,
                None => return,
            },
            Ok(FromClient::Other(message)) => {
                let received = Received { connection_id: self.id, message: &message };
                let event = match NewEvent::new(types::WS_MESSAGE_RECEIVED).data(received) {
                    Ok(event) => self.context.bus.begin_publish_heard(event).await,
                    Err(error) => Err(error.into()),
                };
                match event {
                    Ok(publishing) => return self.publishing.push_back(Box::pin(acknowledge(id, publishing, false))),
                    Err(error) => ToClient::refused(id, error.code(), &error),
                }
            }
        };
        self.answer(&answer);
    }

    async fn subscribe(&mut self, id: Id, wanted: Subscribe) -> ToClient {
        let Subscribe { filter, plugin, params, from } = wanted;
        let next = self.context.bus.log().head() + 1;
        if let Some(from) = from.filter(|from| *from > next) {
            let detail = format!("seq {from} is ahead of the log, whose next is {next}");
            return ToClient::Error { id, code: "from.ahead", detail };
        }
        match self.context.questions.resolve(Wanted { filter, plugin, params }).await {
            Err(error) => ToClient::refused(id, error.code(), &error),
            Ok(question) => {
                // Where the old question stands: what lies between would otherwise be asked by nobody.
                let from = from.unwrap_or_else(|| self.position());
                let cursor = self.context.views.follow(question, Some(from));
                let next = cursor.position();
                self.cursor = Some(cursor);
                ToClient::Subscribed { id, next }
            }
        }
    }

    /// Publishes the request, in its turn, and begins to wait for its reply; the answer is a refusal.
    async fn request(&mut self, id: Id, ask: Ask) -> Option<ToClient> {
        if self.requests.len() >= MAX_REQUESTS {
            let detail = format!("{MAX_REQUESTS} requests of this connection wait for their reply already");
            return Some(ToClient::Error { id, code: "request.too-many", detail });
        }
        let asked = match ask.publish(&self.context.bus).await {
            Ok(asked) => asked,
            Err(error) => return Some(ToClient::refused(id, error.code(), &error)),
        };
        self.requests.push(Box::pin(async move {
            match asked.reply().await {
                Ok(Reply { request, correlation_id, reply }) => {
                    ToClient::Reply { id, request, correlation_id, event: reply }
                }
                Err(error) => ToClient::refused(id, error.code(), &error),
            }
        }));
        None
    }

    fn published(&mut self, answer: Option<ToClient>) {
        if let Some(answer) = answer {
            self.answer(&answer);
        }
    }

    fn answer(&mut self, message: &ToClient) {
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
    fn tick(&mut self) -> Option<End> {
        let (now, config) = (Instant::now(), &self.context.config);
        if self.out.stuck.is_some_and(|since| now >= since + config.slow_timeout_s.duration()) {
            return Some(End::Slow);
        }
        if self.clock.pong_due.is_some_and(|due| now >= due) {
            return Some(End::NoPong);
        }
        if now >= self.clock.next_ping {
            self.clock.next_ping = now + config.ping_s.duration();
            let due = now + config.pong_timeout_s.duration();
            self.clock.pong_due.get_or_insert(due);
            self.socket.say(Message::Ping(Bytes::new()));
        }
        None
    }

    /// Writes the rest of the frame that is under way, and the close frame, for as long as the client reads, and waits for
    /// its own close.
    async fn part(&mut self) {
        let end = match &self.out.frames {
            Some(frames) => frames.begun(self.out.at).checked_sub(1).map_or(self.out.at, |index| frames.ends[index].1),
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

/// What the client is told once its events are in the log; of what was `asked` to be published, also that it is.
async fn acknowledge(id: Id, publishing: Publishing, asked: bool) -> Option<ToClient> {
    match publishing.receipts().await {
        Ok(events) => asked.then_some(ToClient::Published { id, events }),
        Err(error) => Some(ToClient::refused(id, error.code(), &error)),
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
