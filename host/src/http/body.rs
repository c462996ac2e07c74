//! Bodies of requests: JSON, within bounds of size and time, and all together within one budget of
//! memory. What a client has not sent costs nothing, so a body that does not come holds no more
//! than what came of it.

use super::{App, message, problem::Problem};
use crate::incoming::{Budget, Held, MAX_BODY_BYTES};
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use std::{future::poll_fn, ops::Deref, pin::Pin, sync::Arc};

/// A whole body. It counts against the budget until it is dropped.
pub(super) struct RequestBody {
    bytes: Vec<u8>,
    _held: Held,
}

impl Deref for RequestBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of a JSON request.
///
/// # Errors
/// `body.content-type`, `body.content-encoding`, `body.too-large`, `body.timeout`,
/// `body.unreadable`, `bodies.full`.
pub(super) async fn read(app: &App, request: Request<Body>) -> Result<RequestBody, Problem> {
    check_content_type(request.headers())?;
    check_content_encoding(request.headers())?;
    let timeout = app.http.body_timeout_s;
    match tokio::time::timeout(timeout.duration(), collect(&app.incoming, request.into_body())).await {
        Ok(body) => body,
        Err(_) => Err(Problem::new(408, "body.timeout", format!("the body was not there after {timeout}"))),
    }
}

/// Asked for also because a page of another origin cannot send it without the browser asking us
/// first.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let is_json =
        |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if kind.is_some_and(is_json) {
        return Ok(());
    }
    let found = kind.unwrap_or("none");
    let problem = Problem::field("body.content-type", "content-type", "application/json", found);
    Err(problem.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// RFC 9110, sections 8.4, 12.5.3 and 15.5.16. `identity` is no coding and should not be there, but
/// says what is true.
fn check_content_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let codings = message::list(headers, header::CONTENT_ENCODING).unwrap_or_else(|| vec!["bytes that are not ASCII"]);
    match codings.iter().find(|coding| !coding.eq_ignore_ascii_case("identity")) {
        None => Ok(()),
        Some(unknown) => {
            let problem = Problem::field("body.content-encoding", "content-encoding", "none", *unknown);
            let identity = (header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            Err(problem.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE).with_header(identity))
        }
    }
}

async fn collect(budget: &Arc<Budget>, mut body: Body) -> Result<RequestBody, Problem> {
    let declared = body.size_hint().lower();
    // Refused before it is asked for, where the client waits for that (`Expect: 100-continue`).
    if declared > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let expected = body.size_hint().exact().map_or(MAX_BODY_BYTES, |_| declared as usize);
    let (mut bytes, mut held) = (Vec::new(), budget.hold());
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| Problem::new(400, "body.unreadable", error.to_string()))?;
        // Trailers have no meaning here.
        let data = frame.into_data().unwrap_or_else(|_| Bytes::new());
        let needed = bytes.len() + data.len();
        if needed > MAX_BODY_BYTES {
            return Err(too_large());
        }
        if needed > bytes.capacity() {
            let capacity = needed.max((2 * bytes.capacity()).min(expected));
            if !held.set(capacity) {
                return Err(Problem::new(503, "bodies.full", budget.refusal()).retry_after("1"));
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        // Copied: the frame would keep a whole buffer of the connection.
        bytes.extend_from_slice(&data);
    }
    Ok(RequestBody { bytes, _held: held })
}

fn too_large() -> Problem {
    Problem::new(413, "body.too-large", format!("a body has at most {MAX_BODY_BYTES} bytes"))
}
