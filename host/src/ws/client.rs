//! One WebSocket connection: a place in a view, a socket, and one loop. Nothing here waits for another connection, and
//! nothing waits for this one: what it has not been able to take in costs a number (I4).

use super::{
    Context, WebSocketConfig,
    protocol::{self, End, FromClient, Id, Received, Subscribe, ToClient},
    socket::Socket,
};
use crate::{
    bus::{Ask, Reply},
    event::{NewEvent, types},
    log::{
        frames::Frames,
        view::{Delivery, ViewCursor},
    },
    question::Wanted,
};
use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;
use std::{io, pin::Pin, sync::Arc, time::Duration};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tungstenite::{Message, error::Error};
use uuid::Uuid;

/// Most requests of one connection that wait for their reply.
const MAX_REQUESTS: usize = 16;
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
    clock: Clock,
    delivered: u64,
}

/// What is being written: whole frames, from `at` on.
#[derive(Default)]
struct Out {
    bytes: Bytes,
    at: usize,
    /// Which events they are; none for other messages.
    frames: Option<Frames>,
    /// Since when the socket takes nothing.
    stuck: Option<Instant>,
}

impl Out {
    fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// When the client is to be pinged, and when it is given up.
struct Clock {
    next_ping: Instant,
    pong_due: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl Client {
    /// A connection that has been upgraded, and its place in a view.
    pub fn new(context: Arc<Context>, socket: Socket, cursor: ViewCursor) -> Self {
        let next_ping = Instant::now() + Duration::from_secs(context.config.ping_s.get());
        let clock = Clock { next_ping, pong_due: None, alarm: Box::pin(sleep_until(next_ping)) };
        let (out, requests) = (Out::default(), FuturesUnordered::new());
        Self { context, id: Uuid::now_v7(), socket, cursor: Some(cursor), out, requests, clock, delivered: 0 }
    }

    /// Runs the connection to its end; both ends of it are announced as events.
    pub async fn run(mut self) {
        self.context.bus.metrics().websocket_accepted.inc();
        self.announce(types::WS_CLIENT_CONNECTED, &json!({"connection_id": self.id}));
        let log = self.context.bus.log();
        let (epoch, seq) = (log.epoch(), log.head());
        self.say(&ToClient::Welcome { connection_id: self.id, epoch, seq, next: self.position() });
        let end = self.serve().await.unwrap_or(End::Client);
        let resume = self.resume();
        if end != End::Client {
            self.socket.say_close(end.frame(resume));
        }
        let metrics = self.context.bus.metrics();
        match end {
            End::Slow => metrics.websocket_slow.inc(),
            End::NoPong => metrics.websocket_dead.inc(),
            End::GoingAway | End::Binary | End::Client => {}
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
                delivery = next(&mut self.cursor), if !writing => match delivery {
                    Some(delivery) => self.deliver(delivery)?,
                    None => return Ok(End::GoingAway),
                },
                Some(reply) = self.requests.next(), if !self.requests.is_empty() => self.answer(&reply),
                readable = self.socket.readable(), if self.socket.may_read() => {
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

    /// The seq that a client which connects again is to ask for: of the first event that it has not got whole.
    fn resume(&self) -> u64 {
        let unsent = self.out.frames.as_ref().and_then(|frames| frames.ends.get(frames.whole(self.out.at)));
        unsent.map_or_else(|| self.position(), |(seq, _)| *seq)
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
                    self.hear(text.as_str()).await;
                }
                Ok(Some(Message::Binary(_))) => return Some(End::Binary),
                Ok(Some(Message::Pong(_))) => self.clock.pong_due = None,
                Ok(Some(Message::Ping(_) | Message::Frame(_))) => {}
                Ok(Some(Message::Close(_))) => return Some(End::Client),
                Err(error) => {
                    self.socket.say_close(violation(&error));
                    return Some(End::Client);
                }
            }
        }
    }

    async fn hear(&mut self, text: &str) {
        let (id, read) = protocol::read(text);
        let answer = match read {
            Err(error) => ToClient::refused(id, protocol::MALFORMED, &error),
            Ok(FromClient::Ping) => ToClient::Pong { id },
            Ok(FromClient::Subscribe(wanted)) => self.subscribe(id, wanted),
            Ok(FromClient::Unsubscribe) => {
                self.cursor = None;
                ToClient::Subscribed { id, next: self.position() }
            }
            Ok(FromClient::Publish(events)) => match self.context.bus.publish_all(events).await {
                Ok(events) => ToClient::Published { id, events },
                Err(error) => ToClient::refused(id, error.code(), &error),
            },
            Ok(FromClient::Request(ask)) => match self.request(id, *ask) {
                Some(refused) => refused,
                None => return,
            },
            Ok(FromClient::Other(message)) => {
                let received = Received { connection_id: self.id, message: &message };
                self.announce(types::WS_MESSAGE_RECEIVED, &received);
                return;
            }
        };
        self.answer(&answer);
    }

    fn subscribe(&mut self, id: Id, wanted: Subscribe) -> ToClient {
        let Subscribe { filter, plugin, params, from } = wanted;
        match self.context.questions.resolve(Wanted { filter, plugin, params }) {
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

    /// Begins to wait for a reply; the answer is a refusal.
    fn request(&mut self, id: Id, ask: Ask) -> Option<ToClient> {
        if self.requests.len() >= MAX_REQUESTS {
            let detail = format!("{MAX_REQUESTS} requests of this connection wait for their reply already");
            return Some(ToClient::Error { id, code: "request.too-many", detail });
        }
        let bus = self.context.bus.clone();
        self.requests.push(Box::pin(async move {
            match ask.answer(&bus).await {
                Ok(Reply { request, correlation_id, reply }) => {
                    ToClient::Reply { id, request, correlation_id, event: reply }
                }
                Err(error) => ToClient::refused(id, error.code(), &error),
            }
        }));
        None
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
        if self.out.stuck.is_some_and(|since| now >= since + Duration::from_secs(config.slow_timeout_s.get())) {
            return Some(End::Slow);
        }
        if self.clock.pong_due.is_some_and(|due| now >= due) {
            return Some(End::NoPong);
        }
        if now >= self.clock.next_ping {
            self.clock.next_ping = now + Duration::from_secs(config.ping_s.get());
            let due = now + Duration::from_secs(config.pong_timeout_s.get());
            self.clock.pong_due.get_or_insert(due);
            self.socket.say(Message::Ping(Bytes::new()));
        }
        None
    }

    /// Writes the rest of the frame that is under way, and the close frame, for as long as the client reads, and waits for
    /// its own close.
    async fn part(&mut self) {
        let rest = match &self.out.frames {
            Some(frames) => {
                let unsent = frames.ends.get(frames.whole(self.out.at)).map_or(self.out.at, |(_, end)| *end);
                let begun = frames.offset_of(self.resume()) < self.out.at;
                self.out.bytes.slice(self.out.at..if begun { unsent } else { self.out.at })
            }
            None => self.out.bytes.slice(self.out.at..),
        };
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

/// What comes next in the view; nothing ever for a client that is unsubscribed from everything.
async fn next(cursor: &mut Option<ViewCursor>) -> Option<Delivery> {
    match cursor {
        Some(cursor) => cursor.next().await,
        None => std::future::pending().await,
    }
}

impl Clock {
    /// Sets the alarm to whatever comes first.
    fn set(&mut self, out: &Out, config: &WebSocketConfig) {
        let slow = Duration::from_secs(config.slow_timeout_s.get());
        let due =
            [Some(self.next_ping), self.pong_due, out.stuck.map(|since| since + slow)].into_iter().flatten().min();
        if let Some(due) = due
            && due != self.alarm.deadline()
        {
            self.alarm.as_mut().reset(due);
        }
    }
}

/// The close frame for what RFC 6455 forbids.
fn violation(error: &Error) -> tungstenite::protocol::CloseFrame {
    use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    };
    // A control frame carries 125 bytes, two of them the code.
    let reason: String = error.to_string().chars().take(60).collect();
    CloseFrame { code, reason: reason.into() }
}
