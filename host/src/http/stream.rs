//! `/v1/events/stream`: server-sent events (WHATWG HTML, section 9.2), a cursor on a view.
//!
//! [`Opening`] is the one place that decides what a client sees whose position cannot be resumed.

use super::{
    App, NotReady,
    problem::Problem,
    query::{FILTER, Query, Start, digits, parse_epoch},
};
use crate::{
    log::{
        Log, ResumeError,
        view::{Delivery, ViewCursor},
    },
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

/// A stream that has nothing to say shows after this time that it is alive, and how far it has
/// read.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The stream itself cannot refuse a position: an `EventSource` ends for good at any status other
/// than 200 (WHATWG HTML, section 9.2.2), and its page never sees the body. So the client is told
/// in the stream; see [`Opening`].
pub(super) async fn follow(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = [&FILTER[..], &["from", "epoch"], &LAST_EVENT_ID].concat();
    let query = Query::parse(query.as_deref(), &known)?;
    let opening = Opening::of(&query, &headers, app.bus.log())?;
    let question = match query.question(&app.questions).await {
        // After a restart, clients come back before the filter that they name is loaded.
        Err(_) if *app.ready.borrow() == Err(NotReady::Loading) => {
            let _ = app.ready.clone().wait_for(|ready| *ready != Err(NotReady::Loading)).await;
            query.question(&app.questions).await?
        }
        question => question?,
    };
    let cursor = app.views.follow(question, opening.from);
    let (epoch, metrics) = (app.bus.log().epoch().to_string(), app.bus.metrics().clone());
    Ok(respond(&app, Events { cursor, epoch, refused: opening.refused, metrics }))
}

/// The query parameters in which clients that cannot set a header send the last id that they have
/// seen.
const LAST_EVENT_ID: [&str; 2] = ["lastEventId", "last_event_id"];

/// Where a stream begins, and why not where the client asked.
struct Opening {
    /// The first seq wanted; none: what is published from now on.
    from: Option<u64>,
    /// Why not where the client asked.
    refused: Option<ResumeError>,
}

impl Opening {
    /// The header `Last-Event-ID` is the newest that the client knows: its URL stays the same over
    /// all its connections. Then comes the parameter of that name, then `from` and `epoch`.
    ///
    /// For a position that cannot be resumed see [`Log::begin_stream`]. With an id that cannot be
    /// read, the stream begins with the oldest event.
    fn of(query: &Query, headers: &HeaderMap, log: &Log) -> Result<Self, Problem> {
        let header =
            headers.get("last-event-id").map(|id| id.to_str().unwrap_or("bytes that are not ASCII").to_owned());
        let parameters = LAST_EVENT_ID.iter().filter_map(|name| query.text(name));
        let id = header.into_iter().chain(parameters).find(|id| !id.is_empty());
        let wanted = query.start()?;
        let start = match id {
            None => wanted,
            Some(id) => match after(&id) {
                Some(start) => start,
                None => {
                    let error = ResumeError::Unreadable { id, current: log.epoch() };
                    return Ok(Self { from: Some(log.oldest()), refused: Some(error) });
                }
            },
        };
        let (from, refused) = log.begin_stream(start.epoch, start.from);
        Ok(Self { from, refused })
    }
}

/// Reads what our records carry as their id, `<epoch>:<seq>`, or a bare seq.
fn after(id: &str) -> Option<Start> {
    let (epoch, seq) = match id.split_once(':') {
        Some((epoch, seq)) => (Some(parse_epoch(epoch).ok()?), seq),
        None => (None, id),
    };
    let seq = digits(seq)?;
    Some(Start { from: Some(seq.saturating_add(1)), epoch })
}

/// Where a stream's records come from.
pub(super) trait Source: Send + 'static {
    /// The next ones; none where there are no more. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;

    /// The id with which a client resumes here; none where nobody can resume.
    fn position(&self) -> Option<String> {
        None
    }
}

/// An answer that goes on for as long as there are records, the client listens and the hub runs.
pub(super) fn respond(app: &App, source: impl Source) -> Response {
    let stream = Stream {
        source,
        keep_alive: KEEP_ALIVE,
        closing: app.closing.clone(),
        _open: Open::new(app.bus.metrics().clone()),
    };
    // Sent before the first event, so that the client knows that it is connected, and where.
    let hello = stream.comment("busway");
    let hello = stream::once(async { Ok::<_, Infallible>(hello) });
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

struct Stream<S> {
    source: S,
    keep_alive: Duration,
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
            records = tokio::time::timeout(self.keep_alive, self.source.next()) => {
                records.unwrap_or_else(|_| Some(self.comment("alive")))
            }
        }
    }

    /// A comment, and the position. By the standard an id alone would be enough, and widespread
    /// clients ignore it then: so it is an event, of a type that nobody listens to, and with a line
    /// of data, which is empty.
    fn comment(&self, text: &str) -> Bytes {
        Bytes::from(match self.source.position() {
            Some(id) => format!(": {text}\nevent: position\nid: {id}\ndata:\n\n"),
            None => format!(": {text}\n\n"),
        })
    }
}

struct Events {
    cursor: ViewCursor,
    epoch: String,
    refused: Option<ResumeError>,
    metrics: Arc<Metrics>,
}

impl Events {
    fn id(&self, last: u64) -> String {
        format!("{}:{last}", self.epoch)
    }
}

impl Source for Events {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(error) = self.refused.take() {
            self.metrics.problems.inc(error.code());
            let from = self.cursor.position();
            let data = serde_json::to_string(&error.notice(from)).unwrap_or_default();
            return Some(Bytes::from(format!("event: epoch\nid: {}\ndata: {data}\n\n", self.id(from - 1))));
        }
        Some(match self.cursor.next().await? {
            Delivery::Gap(gap) => {
                self.metrics.sse_lagged.inc();
                let data = format!(r#"{{"missed":{},"from":{},"to":{}}}"#, gap.missed(), gap.from, gap.to);
                Bytes::from(format!("event: lagged\nid: {}\ndata: {data}\n\n", self.id(gap.to)))
            }
            Delivery::Events { entry, from } => {
                self.metrics.sse_filter_errors.add(entry.failures_from(from));
                let frames = entry.server_sent(&self.epoch);
                frames.bytes.slice(frames.offset_of(from)..)
            }
        })
    }

    fn position(&self) -> Option<String> {
        // Not before the client has been told that this is another place than it asked for.
        self.refused.is_none().then(|| self.id(self.cursor.position() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{EventFilter, NewEvent},
        log::{
            LogConfig,
            view::{Question, Views},
        },
        metrics::Door,
    };

    #[test]
    fn an_id_is_an_epoch_and_a_seq_or_a_seq() {
        let epoch = "0192f3a1-aaaa-7bbb-8ccc-1234567890ab";
        let start = |from, epoch| Some(Start { from: Some(from), epoch });
        assert_eq!(after(&format!("{epoch}:7")), start(8, epoch.parse().ok()));
        assert_eq!(after("0"), start(1, None));
        assert_eq!(after("18446744073709551615"), start(u64::MAX, None));
        for id in [
            "",
            ":",
            "7:",
            "x",
            "x:7",
            "-1",
            "7:7",
            "18446744073709551616",
            &format!("{epoch}:"),
            &format!("{epoch}:7:7"),
        ] {
            assert_eq!(after(id), None, "{id}");
        }
    }

    /// However long nothing matches, a client that reconnects does not begin again where it was
    /// then.
    #[tokio::test]
    async fn a_stream_that_has_nothing_to_say_says_how_far_it_has_read() {
        let log = Log::in_memory(&LogConfig::default(), Arc::default());
        let question = Question { filter: EventFilter::types(["wanted"]), predicate: None };
        let epoch = log.epoch().to_string();
        let (cursor, metrics) = (Views::new(log.clone()).follow(question, None), log.metrics().clone());
        let source = Events { cursor, epoch, refused: None, metrics };
        let metrics = log.metrics().clone();
        let keep_alive = Duration::from_millis(1);
        let mut stream = Stream { source, keep_alive, closing: CancellationToken::new(), _open: Open::new(metrics) };
        for seq in 1..=2 {
            log.append(Door::Library, vec![Arc::new(NewEvent::new("other").admit().unwrap())], false)
                .unwrap()
                .seqs()
                .await
                .unwrap();
            let expected = format!(": alive\nevent: position\nid: {}:{seq}\ndata:\n\n", log.epoch());
            while stream.next().await.unwrap() != expected {}
        }
    }
}
