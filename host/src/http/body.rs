//! Bodies of requests: JSON, within bounds of size and time, and all together within one budget of
//! memory. What a client has not sent costs nothing, so a body that does not come holds no more
//! than what came of it.

use super::{App, message, problem::Problem};
use crate::metrics::Metrics;
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use std::{
    future::poll_fn,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Largest body, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;
/// Bodies up to so many bytes may use all of the budget, larger ones three quarters of it: a few
/// large bodies that do not come to an end do not keep ordinary events out.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// The memory that all bodies of requests under way may use.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Budget {
    /// One of `limit` bytes, but at least of two bodies of the largest size.
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(2 * MAX_BODY_BYTES), used: AtomicUsize::new(0), metrics })
    }

    fn hold(self: &Arc<Self>) -> Held {
        Held { bytes: 0, budget: self.clone() }
    }
}

/// What one body uses of the budget, given back when it is dropped.
struct Held {
    bytes: usize,
    budget: Arc<Budget>,
}

impl Held {
    /// Uses `bytes` in all, which is more than before. Whether there are as many.
    fn grow(&mut self, bytes: usize) -> bool {
        let budget = &self.budget;
        let limit = if bytes > SMALL_BODY_BYTES { budget.limit / 4 * 3 } else { budget.limit };
        let more = bytes - self.bytes;
        let fits = |used: usize| used.checked_add(more).filter(|sum| *sum <= limit);
        let has_grown = budget.used.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if has_grown {
            budget.metrics.http_body_bytes.add(more as i64);
            self.bytes = bytes;
        }
        has_grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
        self.budget.metrics.http_body_bytes.add(-(self.bytes as i64));
    }
}

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
    match tokio::time::timeout(timeout.duration(), collect(&app.bodies, request.into_body())).await {
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
            if !held.grow(capacity) {
                budget.metrics.http_bodies_refused.inc();
                let detail = format!("bodies of requests under way have {} bytes in all", budget.limit);
                return Err(Problem::new(503, "bodies.full", detail).retry_after("1"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_a_quarter_of_the_budget_to_small_ones() {
        let budget = Budget::new(0, Arc::default());
        assert_eq!(budget.limit, 2 * MAX_BODY_BYTES);
        let (mut large, mut another, mut small) = (budget.hold(), budget.hold(), budget.hold());
        assert!(large.grow(MAX_BODY_BYTES));
        assert!(!another.grow(MAX_BODY_BYTES), "more than three quarters");
        assert!(another.grow(MAX_BODY_BYTES / 2));
        assert!(small.grow(SMALL_BODY_BYTES));
        assert!(!small.grow(SMALL_BODY_BYTES + 1), "no small one any more");
        assert_eq!(budget.metrics.http_body_bytes.get(), (MAX_BODY_BYTES * 3 / 2 + SMALL_BODY_BYTES) as i64);
        drop((large, another, small));
        assert_eq!((budget.used.load(Relaxed), budget.metrics.http_body_bytes.get()), (0, 0));
    }
}
