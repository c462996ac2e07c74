//! WebSocket (RFC 6455) at `/ws/events`: one task a connection. The handshake is `http/websocket`'s.
//!
//! `tungstenite` checks and answers what comes in; what goes out are the frames of a view, made once for all its clients.
//! Start reading at [`Client`].

mod client;
mod header;
mod out;
mod protocol;
mod socket;

pub use client::Client;
pub use socket::Socket;

use crate::{bus::Bus, incoming::Budget, log::view::Views, question::Questions, seconds::Seconds};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all connections work on.
pub struct Context {
    /// The bus.
    pub bus: Bus,
    /// Its views.
    pub views: Views,
    /// The memory of messages that are not whole.
    pub incoming: Arc<Budget>,
    /// Turns filters into questions.
    pub questions: Questions,
    /// What a connection may cost.
    pub config: WebSocketConfig,
    /// Cancelled when connections are to end.
    pub closing: CancellationToken,
}

/// What a WebSocket connection may cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocketConfig {
    /// Most connections at once; more are answered with 503.
    pub max_connections: usize,
    /// Longest message from a client, in bytes.
    pub max_message_bytes: usize,
    /// A ping goes out this often; in seconds.
    pub ping_s: Seconds,
    /// A client that has not answered a ping so long after it was due is closed, whatever it reads
    /// meanwhile; in seconds.
    pub pong_timeout_s: Seconds,
    /// A client to which nothing could be written for this long is closed; in seconds.
    pub slow_timeout_s: Seconds,
    /// Whether each answer to a client's message is announced as an event `ws.message_sent`.
    pub announce_sent: bool,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_message_bytes: 64 << 10,
            ping_s: Seconds::new(25),
            pong_timeout_s: Seconds::new(10),
            slow_timeout_s: Seconds::new(10),
            announce_sent: false,
        }
    }
}
