//! WebSocket (RFC 6455) at `/ws/events`: the handshake, and from there on one task a connection ([`client`]).
//!
//! axum hands over the socket; `tungstenite` checks and answers what comes in; what goes out are the frames of a view,
//! made once for all its clients. Start reading at [`upgrade`], then `ws/client.rs`.

mod client;
mod protocol;
mod socket;

use crate::http::{
    App,
    problem::Problem,
    query::{FILTER, Query},
    server::Place,
};
use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use client::Client;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use socket::Socket;
use std::{num::NonZero, sync::Arc};
use tokio::net::TcpStream;

/// What a WebSocket connection may cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebSocketConfig {
    /// Most connections at once; more are answered with 503.
    pub max_connections: usize,
    /// Longest message from a client, in bytes.
    pub max_message_bytes: usize,
    /// A ping goes out this often; in seconds.
    pub ping_s: NonZero<u64>,
    /// A client that has not answered a ping after this is dropped; in seconds.
    pub pong_timeout_s: NonZero<u64>,
    /// A client to which nothing could be written for this long is closed; in seconds.
    pub slow_timeout_s: NonZero<u64>,
    /// Whether each answer to a client's message is announced as an event `ws.message_sent`.
    pub announce_sent: bool,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_message_bytes: 64 << 10,
            ping_s: const { NonZero::new(25).unwrap() },
            pong_timeout_s: const { NonZero::new(10).unwrap() },
            slow_timeout_s: const { NonZero::new(10).unwrap() },
            announce_sent: false,
        }
    }
}

/// The handshake. Everything that can be refused is refused here, as problem+json.
pub(crate) async fn upgrade(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Extension(place): Extension<Place>,
    mut request: Request<Body>,
) -> Result<Response, Problem> {
    let key = handshake_key(&headers)?;
    let query = Query::parse(query.as_deref(), &[&FILTER[..], &["from", "epoch"]].concat())?;
    let start = query.start()?;
    start.check(app.bus.log().epoch())?;
    let question = query.question(&app.questions)?;
    if let Some(problem) = app.stopping() {
        return Err(problem);
    }
    let metrics = app.bus.metrics().clone();
    let counted = Counted::new(&app).ok_or_else(|| {
        metrics.websocket_refused.inc();
        let detail = format!("the hub has its {} WebSocket connections", app.websocket.max_connections);
        Problem::new(503, "connections.full", detail).retry_after("5")
    })?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let upgrading = hyper::upgrade::on(&mut request);
    let cursor = app.views.follow(question, start.from);
    app.tasks.clone().spawn(async move {
        let _place = place;
        // Only a plain TCP socket comes in here: we accepted it ourselves.
        let Ok(upgraded) = upgrading.await else { return };
        let socket = {
            let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
            // The buffer is hyper's, of 8 KiB however little is in it: let go of before the connection begins to wait.
            Socket::new(parts.io.into_inner(), &parts.read_buf, app.websocket.max_message_bytes)
        };
        Client::new(app, socket, cursor).run().await;
        drop(counted);
    });
    let accept =
        HeaderValue::try_from(accept).map_err(|error| Problem::new(400, "websocket.handshake", error.to_string()))?;
    let headers = [
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The client's key, if this is a handshake (RFC 6455, section 4.2.1).
fn handshake_key(headers: &HeaderMap) -> Result<&HeaderValue, Problem> {
    let has = |name, token: &str| {
        let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let wrong = |field: &'static str, expected: &str| {
        let found = headers.get(field).map_or("nothing".into(), |value| format!("{value:?}"));
        Problem::field("websocket.handshake", field, expected, found).with_status(StatusCode::UPGRADE_REQUIRED)
    };
    if !has(header::CONNECTION, "upgrade") {
        return Err(wrong("connection", "upgrade"));
    }
    if !has(header::UPGRADE, "websocket") {
        return Err(wrong("upgrade", "websocket"));
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(wrong("sec-websocket-version", "13"));
    }
    headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| wrong("sec-websocket-key", "a key"))
}

/// One of the connections that there may be at once.
struct Counted(Arc<App>);

impl Counted {
    fn new(app: &Arc<App>) -> Option<Self> {
        let open = &app.bus.metrics().websocket_connections;
        open.add(1);
        let counted = Self(app.clone());
        let fits = open.get() <= i64::try_from(app.websocket.max_connections).unwrap_or(i64::MAX);
        fits.then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.bus.metrics().websocket_connections.add(-1);
    }
}
