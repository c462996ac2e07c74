//! The messages of the WebSocket protocol; docs/api.md describes them for those who speak it.

use crate::{
    bus::{Ask, Bus, Receipt},
    event::{Event, EventFilter, NewEvent, unique},
    log::{EpochNotice, Gap},
    metrics::{Door, Reason},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{borrow::Cow, sync::Arc};
use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use uuid::Uuid;

/// The code of a message with a known `op` and other keys than it has.
const MALFORMED: &str = "message.json";

/// What the client calls its question; comes back with the answer.
pub(super) type Id = Option<Box<RawValue>>;

/// What a client says.
pub(super) enum FromClient {
    Subscribe(Subscribe),
    Unsubscribe,
    Publish(Vec<NewEvent>),
    Request(Box<Ask>),
    Ping,
    /// Anything else is an event, `ws.message_received`: its data.
    Other(Box<RawValue>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    #[serde(default)]
    pub(super) filter: EventFilter,
    #[serde(default)]
    pub(super) plugin: Option<String>,
    #[serde(default, deserialize_with = "unique::optional")]
    pub(super) params: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) from: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    #[serde(default)]
    event: Option<NewEvent>,
    #[serde(default)]
    events: Vec<NewEvent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    op: Option<Cow<'a, str>>,
    #[serde(default)]
    id: Id,
}

/// A message with a known `op` that cannot be read.
pub(super) struct Unreadable {
    /// How many events it was to hand in, as far as that can be told.
    pub(super) events: usize,
    pub(super) error: serde_json::Error,
}

impl Unreadable {
    /// Counts it; the answer.
    pub(super) fn refused(self, id: Id, bus: &Bus) -> ToClient {
        bus.count_rejected(Door::Websocket, self.events, Reason::Invalid);
        ToClient::refused(id, MALFORMED, &self.error)
    }
}

/// Reads a message. The error goes back to the client with the id.
pub(super) fn read(text: &str) -> (Id, Result<FromClient, Unreadable>) {
    // Serde would read an array as an envelope too.
    let envelope = text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
    let Some(Envelope { op: Some(op), id }) = envelope else { return (None, Ok(other(text))) };
    let read = match &*op {
        "subscribe" => body(text).map(FromClient::Subscribe),
        "unsubscribe" => body(text).map(|Nothing {}| FromClient::Unsubscribe),
        "publish" => {
            body(text).map(|Publish { event, events }| FromClient::Publish(event.into_iter().chain(events).collect()))
        }
        "request" => body(text).map(|ask| FromClient::Request(Box::new(ask))),
        "ping" => body(text).map(|Nothing {}| FromClient::Ping),
        _ => return (None, Ok(other(text))),
    };
    (id, read.map_err(|error| Unreadable { events: meant(&op, text), error }))
}

/// How many events a message was to hand in that cannot be read: at least one, if it is of a kind
/// that hands in any.
fn meant(op: &str, text: &str) -> usize {
    #[derive(Deserialize)]
    struct Meant<'a> {
        #[serde(borrow, default)]
        event: Option<&'a RawValue>,
        #[serde(borrow, default)]
        events: Vec<&'a RawValue>,
    }
    match op {
        "publish" => {
            serde_json::from_str(text).map_or(1, |Meant { event, events }| events.len() + event.iter().len()).max(1)
        }
        "request" => 1,
        _ => 0,
    }
}

/// A message without its envelope, so that unknown keys are refused.
fn body<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Whole(#[serde(deserialize_with = "unique::map")] std::collections::BTreeMap<String, Box<RawValue>>);
    let Whole(mut keys) = serde_json::from_str(text)?;
    keys.remove("op");
    keys.remove("id");
    let rest = serde_json::to_string(&keys)?;
    serde_json::from_str(&rest)
}

fn other(text: &str) -> FromClient {
    let raw = RawValue::from_string(text.to_owned()).or_else(|_| serde_json::value::to_raw_value(text));
    FromClient::Other(raw.unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

/// The data of `ws.message_received`.
#[derive(Serialize)]
pub(super) struct Received<'a> {
    pub(super) connection_id: Uuid,
    pub(super) message: &'a RawValue,
}

/// What the hub says besides events and `filter_error`, which is
/// encoded with the events of its view: see [`crate::log::frames`].
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum ToClient {
    Welcome { connection_id: Uuid, epoch: Uuid, seq: u64, next: u64 },
    Epoch(EpochNotice),
    Lagged { missed: u64, from: u64, to: u64 },
    Subscribed { id: Id, next: u64 },
    Published { id: Id, events: Vec<Receipt> },
    Reply { id: Id, request: Receipt, correlation_id: Arc<str>, event: Arc<Event> },
    Pong { id: Id },
    Error { id: Id, code: &'static str, detail: String },
}

impl ToClient {
    pub(super) fn lagged(gap: Gap) -> Self {
        Self::Lagged { missed: gap.missed(), from: gap.from, to: gap.to }
    }

    pub(super) fn refused(id: Id, code: &'static str, error: &impl std::fmt::Display) -> Self {
        Self::Error { id, code, detail: error.to_string() }
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether it answers something that the client said.
    pub(super) fn answers(&self) -> Option<&'static str> {
        match self {
            Self::Welcome { .. } | Self::Epoch(_) | Self::Lagged { .. } => None,
            Self::Subscribed { .. } => Some("subscribed"),
            Self::Published { .. } => Some("published"),
            Self::Reply { .. } => Some("reply"),
            Self::Pong { .. } => Some("pong"),
            Self::Error { .. } => Some("error"),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The hub is stopping.
    GoingAway,
    /// A binary message.
    Binary,
    /// What clients are sending uses all the memory for it.
    Full,
    /// It did not read.
    Slow,
    /// It did not answer a ping.
    NoPong,
    /// It broke the protocol, and was told how.
    Violation,
    /// The client closed, or its connection broke.
    Client,
}

impl End {
    /// The close code (RFC 6455, section 7.4) and the code for programs.
    pub(super) fn codes(self) -> (u16, &'static str) {
        match self {
            Self::GoingAway => (1001, "going-away"),
            Self::Binary => (1003, "binary"),
            Self::Full => (1013, "bodies.full"),
            Self::Slow => (4001, "slow"),
            Self::NoPong => (4002, "no-pong"),
            Self::Violation => (1002, "violation"),
            Self::Client => (1000, "client"),
        }
    }

    /// The close frame; `resume` is the seq to connect again from, in the numbering of `epoch`.
    pub(super) fn frame(self, resume: u64, epoch: Uuid) -> CloseFrame {
        let (code, reason) = self.codes();
        let reason = format!(r#"{{"code":"{reason}","resume":{resume},"epoch":"{epoch}"}}"#);
        CloseFrame { code: CloseCode::from(code), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str) {
        let (_, read) = read(text);
        assert!(read.is_err(), "{text} should be refused");
    }

    #[test]
    fn what_has_no_known_op_is_an_event() {
        for text in
            [r#"{"op":"dance"}"#, "hello", "[1,2]", r#"{"type":"subscribe"}"#, "7", r#"{"op":3}"#, r#"["ping"]"#]
        {
            let (_, read) = read(text);
            let Ok(FromClient::Other(data)) = read else { panic!("{text} should be an event") };
            assert!(data.get() == text || data.get() == format!("{text:?}"), "{text} became {data}");
        }
    }

    #[test]
    fn a_known_op_with_unknown_or_wrong_keys_is_refused() {
        refused(r#"{"op":"subscribe","filtre":{}}"#);
        refused(r#"{"op":"subscribe","filter":{"event_types":["a*",""]}}"#);
        refused(r#"{"op":"subscribe","filter":{"types":["a"]}}"#);
        refused(r#"{"op":"publish","event":{"data":1}}"#);
        refused(r#"{"op":"ping","extra":1}"#);
        refused(r#"{"op":"request","event":{"type":"a"}}"#);
        refused(r#"{"op":"publish","event":{"type":"a"},"event":{"type":"b"}}"#);
        refused(r#"{"op":"subscribe","params":{"a":1,"a":2}}"#);
        refused(r#"{"op":"subscribe","from":-1}"#);
        refused(r#"{"op":"subscribe","from":18446744073709551616}"#);
        refused(r#"{"op":"publish","event":{"type":"\ud800"}}"#);
    }

    #[test]
    fn ids_come_back_as_they_are() {
        let (id, read) = read(r#"{"op":"ping","id":{"a":1.10}}"#);
        assert!(matches!(read, Ok(FromClient::Ping)));
        assert_eq!(ToClient::Pong { id }.text(), r#"{"op":"pong","id":{"a":1.10}}"#);
    }

    #[test]
    fn close_reasons_fit_into_a_control_frame() {
        for end in [End::GoingAway, End::Binary, End::Slow, End::NoPong, End::Client] {
            assert!(end.frame(u64::MAX, Uuid::max()).reason.as_str().len() <= 123);
        }
    }
}
