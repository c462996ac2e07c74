//! `/v1/events`: publish, and read what is still there.

use super::{
    App,
    problem::Problem,
    query::{FILTER, Query},
};
use crate::{
    bus::Receipt,
    event::{Event, EventError, NewEvent},
    log::{Gap, Step},
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest, RawQuery, Request, State, rejection::BytesRejection},
    http::{StatusCode, header},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Serialize)]
pub(super) struct Published {
    events: Vec<Receipt>,
}

pub(super) async fn publish(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Published>, Problem> {
    let body = body(&app, request).await?;
    let events = read_events(&body).inspect_err(|_| app.bus.count_unreadable(1))?;
    Ok(Json(Published { events: app.bus.publish_all(events).await? }))
}

/// The body of a JSON request, within its bounds of size and time.
///
/// # Errors
/// `body.*`.
pub(super) async fn body(app: &App, request: Request<Body>) -> Result<Bytes, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?").to_owned());
    // Asked for also because a page of another origin cannot send it without the browser asking us first.
    let is_json =
        |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !kind.as_deref().is_some_and(is_json) {
        let found = kind.unwrap_or_else(|| "none".into());
        let problem = Problem::field("body.content-type", "content-type", "application/json", found);
        return Err(problem.with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let whole = tokio::time::timeout(app.http.body_timeout_s.duration(), Bytes::from_request(request, &()));
    match whole.await {
        Err(_) => {
            Err(Problem::new(408, "body.timeout", format!("the body was not there after {}", app.http.body_timeout_s)))
        }
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(BytesRejection::FailedToBufferBody(error))) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::new(413, "body.too-large", format!("a body has at most {} bytes", super::MAX_BODY_BYTES)))
        }
        Ok(Err(error)) => Err(Problem::new(400, "body.unreadable", error.to_string())),
    }
}

/// One event or an array of them. An array is read as a whole; only where that fails is each event read for itself, to say
/// which one it is.
fn read_events(body: &[u8]) -> Result<Vec<NewEvent>, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Problem::field("body.json", "body", "JSON in UTF-8", error.to_string()))?;
    if !text.trim_start().starts_with('[') {
        return Ok(vec![NewEvent::from_json(text)?]);
    }
    if let Ok(events) = serde_json::from_str(text) {
        return Ok(events);
    }
    let parts: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| Problem::field("body.json", "body", "an event or an array of events", error.to_string()))?;
    let read = |(index, part): (usize, &&RawValue)| {
        NewEvent::from_json(part.get()).map_err(|error: EventError| Problem::from(error).at(index))
    };
    parts.iter().enumerate().map(read).collect()
}

/// A page ends after so many bytes of events, though more were asked for: it is held until the client has read it.
const PAGE_BYTES: usize = 1 << 20;
/// Nor does one page look further than this through what does not match.
const PAGE_LOOKS: u64 = 65_536;

#[derive(Serialize)]
pub(super) struct Page {
    epoch: String,
    events: Vec<Arc<Event>>,
    /// Ask for this next.
    next: u64,
    head: u64,
    oldest: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<Missed>,
}

#[derive(Serialize)]
struct Missed {
    from: u64,
    to: u64,
}

impl From<Gap> for Missed {
    fn from(gap: Gap) -> Self {
        Self { from: gap.from, to: gap.to }
    }
}

pub(super) async fn read(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<Page>, Problem> {
    let known = [&FILTER[..], &["from", "epoch", "limit"]].concat();
    let query = Query::parse(query.as_deref(), &known)?;
    let limit = query.number("limit", 1..=1_000)?.unwrap_or(100) as usize;
    let start = query.start()?;
    let log = app.bus.log();
    start.check(log)?;
    let question = query.question(&app.questions)?;

    let mut cursor = log.cursor(start.from.unwrap_or_else(|| log.oldest()));
    let first = cursor.position();
    let mut page = Page {
        epoch: log.epoch().to_string(),
        events: Vec::new(),
        next: cursor.position(),
        head: 0,
        oldest: log.oldest(),
        missed: None,
    };
    let mut bytes = 0;
    while page.events.len() < limit
        && bytes < PAGE_BYTES
        && cursor.position() - first < PAGE_LOOKS
        && let Some(step) = cursor.read().await
    {
        match step {
            Step::Gap(gap) if page.events.is_empty() => {
                // Ranges that adjoin are one; what came in between did not match, so a later one goes to the next page.
                match &mut page.missed {
                    Some(missed) if missed.to + 1 < gap.from => break,
                    Some(missed) => missed.to = gap.to,
                    missed => *missed = Some(gap.into()),
                }
            }
            // Told at the head of the next page, which begins with it.
            Step::Gap(_) => break,
            Step::Events(chunk) => {
                let matching = question.select(chunk.events()).await;
                bytes += matching.iter().map(|event| event.weight()).sum::<usize>();
                page.events.extend(matching);
            }
        }
        page.next = cursor.position();
    }
    if page.events.len() > limit {
        page.next = page.events[limit].seq;
        page.events.truncate(limit);
    }
    page.head = log.head();
    Ok(Json(page))
}
