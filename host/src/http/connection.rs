//! One connection: hyper serves it, the socket limits its times ([`super::patience`]), and it ends
//! so that the client can read its last answer ([`super::linger`]).

use super::{
    front::Front,
    linger,
    patience::{Patient, Phase, Progress, Refusal, Returned, TimeLimits},
    problem::Problem,
    server::Place,
};
use crate::metrics::Metrics;
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use futures_util::FutureExt;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Most bytes of a body that nobody wanted which are read after the answer, so that the connection
/// can be used again.
const MAX_DRAINED_BYTES: usize = 64 << 10;

/// Serves `stream` until it ends, or, once `closing` is cancelled, until the request that is under
/// way has its answer.
pub(super) async fn serve(
    stream: TcpStream,
    http: http1::Builder,
    limits: TimeLimits,
    front: Arc<Front>,
    place: Place,
    closing: CancellationToken,
) {
    let progress = Arc::new(Progress::default());
    let metrics = front.metrics().clone();
    let (stream, mut returned) = Patient::new(stream, limits, progress.clone(), metrics.clone());
    let ended = {
        let answering = (front, place.clone(), progress.clone());
        let service = service_fn(move |request| {
            let (front, place, progress) = answering.clone();
            progress.enter(Phase::Answer);
            async move { Ok::<_, Infallible>(answer(&front, place, progress, request).await) }
        });
        let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        tokio::select! {
            ended = &mut serving => ended,
            () = closing.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    let is_malformed = ended.as_ref().is_err_and(hyper::Error::is_parse);
    // Not there where the connection was upgraded.
    let Ok(Returned { stream, refusal, is_cut }) = returned.try_recv() else { return };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
        match () {
            () if is_malformed => metrics.problems.inc(malformed(&error)),
            // Counted where it was decided.
            () if is_cut || refusal.is_some() => {}
            // Such an answer has no end, so clients leave in the middle of it.
            () if progress.is_stream() => metrics.sse_left.inc(),
            () => metrics.http_broken.inc(),
        }
    }
    let last_words = refusal.map(|refusal| raw(&metrics, &problem(refusal, &limits))).unwrap_or_default();
    if refusal.is_some() || is_malformed || progress.left_body_unread() {
        linger::close(stream, &last_words).await;
    }
    drop(place);
}

/// The code that counts a request head which hyper refused by itself, with 400, 414 or 431 and no
/// body.
fn malformed(error: &hyper::Error) -> &'static str {
    if error.is_parse_too_large() { "head.too-large" } else { "head.malformed" }
}

fn problem(refusal: Refusal, limits: &TimeLimits) -> Problem {
    match refusal {
        Refusal::HeadTimeout => {
            let detail = format!("the head of the request was not there after {} s", limits.head.as_secs());
            Problem::new(408, "head.timeout", detail)
        }
        Refusal::UriTooLong => Problem::new(414, "target.too-long", "the target of the request is too long"),
        Refusal::MethodTooLong => Problem::new(501, "method.unknown", "the hub knows no method that is as long"),
    }
}

/// `problem` as a whole answer, after which the connection ends. It is counted by its code, as what
/// [`Front`] answers is.
pub(super) fn raw(metrics: &Metrics, problem: &Problem) -> Vec<u8> {
    metrics.problems.inc(problem.code);
    let (status, body) = (problem.status(), serde_json::to_vec(problem).unwrap_or_default());
    let retry_after = problem.seconds_to_retry().map(|seconds| format!("retry-after: {seconds}\r\n"));
    let head = format!(
        "HTTP/1.1 {status}\r\ndate: {}\r\ncontent-type: application/problem+json\r\n{}connection: close\r\ncontent-length: {}\r\n\r\n",
        chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT"),
        retry_after.unwrap_or_default(),
        body.len(),
    );
    [head.into_bytes(), body].concat()
}

async fn answer(
    front: &Front,
    place: Place,
    progress: Arc<Progress>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.insert(place);
    let expects_continue = parts.headers.contains_key(header::EXPECT);
    let (body, rest) = LentBody::lend(incoming);
    let mut response = front.answer(Request::from_parts(parts, body)).await;
    if !rest.drained(expects_continue) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Between this body and the next request nobody could tell the difference.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        progress.leave_body_unread();
    }
    let is_stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    if is_stream {
        progress.enter(Phase::Stream);
    }
    response.map(|body| AnswerBody { body, progress })
}

/// The body of an answer. Once it has gone, the connection waits for the next request.
struct AnswerBody {
    body: Body,
    progress: Arc<Progress>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.progress.enter(Phase::Idle);
    }
}

/// The body of a request while a route has it. What the route leaves of it goes back to the
/// connection.
struct LentBody {
    body: Option<Incoming>,
    rest: Arc<Mutex<Rest>>,
}

/// What a route left of a body.
#[derive(Default)]
enum Rest {
    #[default]
    Nothing,
    Unread(Incoming),
    /// Its framing was wrong or it ended too early.
    Broken,
}

struct Lent(Option<Arc<Mutex<Rest>>>);

impl LentBody {
    fn lend(incoming: Incoming) -> (Body, Lent) {
        if incoming.is_end_stream() {
            return (Body::empty(), Lent(None));
        }
        let rest = Arc::new(Mutex::new(Rest::Nothing));
        let lent = Self { body: Some(incoming), rest: rest.clone() };
        (Body::new(lent), Lent(Some(rest)))
    }

    fn leave(&self, left: Rest) {
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

impl Drop for LentBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            self.leave(Rest::Unread(body));
        }
    }
}

impl HttpBody for LentBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            None => self.body = None,
            Some(Err(_)) => {
                self.body = None;
                self.leave(Rest::Broken);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Lent {
    /// Whether nothing of the body is left, or what is left had arrived and was read now. With
    /// `expects_continue` the client has not sent it, and reading would ask for it.
    fn drained(self, expects_continue: bool) -> bool {
        let Some(rest) = self.0 else { return true };
        let rest = std::mem::take(&mut *rest.lock().unwrap_or_else(PoisonError::into_inner));
        match rest {
            Rest::Nothing => true,
            Rest::Broken => false,
            Rest::Unread(body) => !expects_continue && drain(body),
        }
    }
}

fn drain(mut body: Incoming) -> bool {
    let mut left = MAX_DRAINED_BYTES;
    loop {
        match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).now_or_never() {
            Some(None) => return true,
            Some(Some(Ok(frame))) => match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(fewer) => left = fewer,
                None => return false,
            },
            Some(Some(Err(_))) | None => return false,
        }
    }
}
