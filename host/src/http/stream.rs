//! `/v1/events/stream`: server-sent events (WHATWG HTML, section 9.2), a cursor on a view.

use super::{
    App,
    problem::Problem,
    query::{FILTER, Query, Start, parse_epoch},
};
use crate::{
    log::view::{Delivery, ViewCursor},
    metrics::Metrics,
};
use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long a stream says nothing before it shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn follow(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = [&FILTER[..], &["from", "epoch"]].concat();
    let query = Query::parse(query.as_deref(), &known)?;
    let start = match headers.get("last-event-id") {
        Some(id) => after(id)?,
        None => query.start()?,
    };
    start.check(app.bus.log())?;
    let epoch = app.bus.log().epoch().to_string();
    Ok(respond(&app, Events { cursor: app.views.follow(query.question(&app.questions).await?, start.from), epoch }))
}

/// Where a stream's records come from.
pub(super) trait Source: Send + 'static {
    /// The next ones; none where there are no more. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// An answer that goes on for as long as there are records, the client listens and the hub runs.
pub(super) fn respond(app: &App, source: impl Source) -> Response {
    let stream = Stream { source, closing: app.closing.clone(), _open: Open::new(app.bus.metrics().clone()) };
    // Sent before the first event, so that the client knows that it is connected.
    let hello = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b": busway\n\n")) });
    let rest = stream::unfold(stream, |mut stream| async {
        let bytes = stream.next().await?;
        Some((Ok(bytes), stream))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(stream::StreamExt::chain(hello, rest))).into_response()
}

/// `Last-Event-ID` is what our records carry, `<epoch>:<seq>`, or a bare seq.
fn after(id: &HeaderValue) -> Result<Start, Problem> {
    let refused = |found: &str| {
        Problem::field("query.last-event-id", "Last-Event-ID", "`<epoch>:<seq>` or a seq", format!("{found:?}"))
    };
    let text = id.to_str().map_err(|_| refused("bytes that are not ASCII"))?;
    let (epoch, seq) = match text.split_once(':') {
        Some((epoch, seq)) => (Some(parse_epoch(epoch)?), seq),
        None => (None, text),
    };
    let seq: u64 = seq.parse().map_err(|_| refused(text))?;
    Ok(Start { from: Some(seq.saturating_add(1)), epoch })
}

struct Stream<S> {
    source: S,
    closing: CancellationToken,
    _open: Open,
}

/// Counts the stream for as long as it is open, whichever way it ends.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.sse_connections.add(1);
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.sse_connections.add(-1);
    }
}

impl<S: Source> Stream<S> {
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            () = self.closing.cancelled() => None,
            records = tokio::time::timeout(KEEP_ALIVE, self.source.next()) => {
                records.unwrap_or(Some(Bytes::from_static(b": alive\n\n")))
            }
        }
    }
}

struct Events {
    cursor: ViewCursor,
    epoch: String,
}

impl Source for Events {
    async fn next(&mut self) -> Option<Bytes> {
        Some(match self.cursor.next().await? {
            Delivery::Gap(gap) => {
                let text = format!(r#"{{"missed":{},"from":{},"to":{}}}"#, gap.missed(), gap.from, gap.to);
                Bytes::from(format!("event: lagged\ndata: {text}\n\n"))
            }
            Delivery::Events { entry, from } => {
                let frames = entry.server_sent(&self.epoch);
                frames.bytes.slice(frames.offset_of(from)..)
            }
        })
    }
}
