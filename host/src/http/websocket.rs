//! `/ws/events`: the handshake (RFC 6455, section 4.2). What is wrong with it or with its query is
//! refused here, as problem+json; from there on the connection is [`crate::ws`]'s. A position that
//! cannot be resumed is no refusal: a browser could not read it, so the connection says it.

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
    body::{Body, HttpBody},
    extract::{RawQuery, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD as STANDARD};
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// Answers a handshake, and runs the connection in a task of its own once it is upgraded.
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    Extension(place): Extension<Place>,
    mut request: Request<Body>,
) -> Result<Response, Problem> {
    let accept = match handshake(&request) {
        Ok(key) => tungstenite::handshake::derive_accept_key(key.as_bytes()),
        Err(refused) => return Ok(refused.into_response()),
    };
    let query = Query::parse(query.as_deref(), &[&FILTER[..], &["from", "epoch"]].concat())?;
    let start = query.start()?;
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
    let upgrading = hyper::upgrade::on(&mut request);
    let (from, refused) = app.bus.log().begin_stream(start.epoch, start.from);
    let cursor = app.views.follow(question, from);
    app.tasks.clone().spawn(async move {
        let _place = place;
        // Only a plain TCP socket comes in here: we accepted it ourselves.
        let Ok(upgraded) = upgrading.await else { return };
        let context = app.websocket.clone();
        let socket = {
            let Ok(parts) = upgraded.downcast::<TokioIo<Patient>>() else { return };
            // The buffer is hyper's, of 8 KiB however little is in it: let go of before the connection begins to wait.
            let Some(stream) = parts.io.into_inner().into_inner() else { return };
            Socket::new(stream, &parts.read_buf, context.config.max_message_bytes)
        };
        Client::new(context, socket, cursor, refused).run().await;
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

/// Why a request is no handshake.
enum Refused {
    /// It asks for no WebSocket, or for another version of it: it is told what there is.
    Upgrade(Problem),
    /// It is not what the RFC asks for.
    Malformed(Problem),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let problem = match self {
            Self::Malformed(problem) => return problem.into_response(),
            Self::Upgrade(problem) => problem.with_status(StatusCode::UPGRADE_REQUIRED),
        };
        // RFC 9110, section 15.5.22, and RFC 6455, section 4.4.
        let headers =
            [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade"), (header::SEC_WEBSOCKET_VERSION, "13")];
        (headers, problem.into_response()).into_response()
    }
}

/// The client's key, if this is a handshake (RFC 6455, section 4.2.1). That there is a `Host`, and
/// which, has been looked at before. Subprotocols and extensions may be asked for; the hub has
/// none.
fn handshake(request: &Request<Body>) -> Result<&HeaderValue, Refused> {
    let problem =
        |field: &str, expected: &str, found: String| Problem::field("websocket.handshake", field, expected, found);
    if request.method() != Method::GET {
        return Err(Refused::Malformed(problem("method", "GET", request.method().to_string())));
    }
    if request.version() < Version::HTTP_11 {
        return Err(Refused::Malformed(problem("version", "HTTP/1.1", format!("{:?}", request.version()))));
    }
    let headers = request.headers();
    let wrong = |field: HeaderName, expected: &str| {
        let values: Vec<_> = headers.get_all(&field).iter().map(|value| format!("{value:?}")).collect();
        let found = if values.is_empty() { "nothing".to_owned() } else { values.join(", ") };
        problem(field.as_str(), expected, found)
    };
    let only = |field: &HeaderName| {
        let mut values = headers.get_all(field).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let has = |field: &HeaderName, token: &str| {
        let mut lists = headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
        lists.any(|list| list.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(&header::UPGRADE, "websocket") {
        return Err(Refused::Upgrade(wrong(header::UPGRADE, "websocket")));
    }
    if !has(&header::CONNECTION, "upgrade") {
        return Err(Refused::Upgrade(wrong(header::CONNECTION, "upgrade")));
    }
    if only(&header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::Upgrade(wrong(header::SEC_WEBSOCKET_VERSION, "13, once")));
    }
    let is_key = |key: &&HeaderValue| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16);
    let Some(key) = only(&header::SEC_WEBSOCKET_KEY).filter(is_key) else {
        return Err(Refused::Malformed(wrong(header::SEC_WEBSOCKET_KEY, "16 bytes in base64, once")));
    };
    // What follows the head is frames: nobody may take a part of it for a body.
    if !request.body().is_end_stream() {
        return Err(Refused::Malformed(problem("body", "none", "one".into())));
    }
    Ok(key)
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
