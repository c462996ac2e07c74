//! `/ws/events`: the handshake (RFC 6455, section 4.2). What can be refused is refused here, as problem+json; from there on the
//! connection is [`crate::ws`]'s.

use super::{
    App,
    patience::Patient,
    problem::Problem,
    query::{FILTER, Query},
    server::Place,
};
use crate::ws::{Client, Socket};
use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// The handshake. Everything that can be refused is refused here, as problem+json.
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Extension(place): Extension<Place>,
    mut request: Request<Body>,
) -> Result<Response, Problem> {
    let key = handshake_key(&headers)?;
    let query = Query::parse(query.as_deref(), &[&FILTER[..], &["from", "epoch"]].concat())?;
    let start = query.start()?;
    start.check(app.bus.log())?;
    let question = query.question(&app.questions).await?;
    if let Some(problem) = app.stopping() {
        return Err(problem);
    }
    let metrics = app.bus.metrics().clone();
    let counted = Counted::new(&app).ok_or_else(|| {
        metrics.websocket_refused.inc();
        let detail = format!("the hub has its {} WebSocket connections", app.websocket.config.max_connections);
        Problem::new(503, "connections.full", detail).retry_after("5")
    })?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let upgrading = hyper::upgrade::on(&mut request);
    let cursor = app.views.follow(question, start.from);
    app.tasks.clone().spawn(async move {
        let _place = place;
        // Only a plain TCP socket comes in here: we accepted it ourselves.
        let Ok(upgraded) = upgrading.await else { return };
        let context = app.websocket.clone();
        let socket = {
            let Ok(parts) = upgraded.downcast::<TokioIo<Patient>>() else { return };
            // The buffer is hyper's, of 8 KiB however little is in it: let go of before the connection begins to wait.
            Socket::new(parts.io.into_inner().into_inner(), &parts.read_buf, context.config.max_message_bytes)
        };
        Client::new(context, socket, cursor).run().await;
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
        let fits = open.get() <= i64::try_from(app.websocket.config.max_connections).unwrap_or(i64::MAX);
        fits.then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.bus.metrics().websocket_connections.add(-1);
    }
}
