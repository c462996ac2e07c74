//! `/v1/events`: publish, and read what is still there.

use super::{
    App,
    body::{self, RequestBody},
    problem::Problem,
    query::{FILTER, Query},
};
use crate::{
    bus::Receipt,
    event::{Event, NewEvent},
    log::{
        Gap, Step,
        selection::{FilterFailure, Selection},
    },
    metrics::Door,
};
use axum::{
    Json,
    body::Body,
    extract::{RawQuery, Request, State},
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Serialize)]
pub(super) struct Published {
    events: Vec<Receipt>,
}

pub(super) async fn publish(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Published>, Problem> {
    let body = read_body(&app, request).await?;
    let events = read_events(&body).map_err(|(events, problem)| refused(&app, events, problem))?;
    let publishing = app.bus.begin_publish(Door::Http, events).await?;
    Ok(Json(Published { events: publishing.receipts().await? }))
}

/// The body of a request that publishes and has no query parameters. A refusal counts as one
/// rejected event: how many there were to be is not known.
///
/// # Errors
/// `query.unknown`, and those of [`body::read`].
pub(super) async fn read_body(app: &App, request: Request<Body>) -> Result<RequestBody, Problem> {
    // Not the extractor `NoQuery`: what it refuses would not be counted.
    let body = match Query::parse(request.uri().query(), &[]) {
        Ok(_) => body::read(app, request).await,
        Err(problem) => Err(problem),
    };
    body.map_err(|problem| refused(app, 1, problem))
}

/// Counts events that were refused before they reached the bus.
pub(super) fn refused(app: &App, events: usize, problem: Problem) -> Problem {
    app.bus.count_rejected(Door::Http, events, problem.reason());
    problem
}

/// One event or an array of them. An array is read as a whole; only where that fails is each event read for itself, to say
/// which one it is. The error says of how many events it is an error, as far as that can be told.
fn read_events(body: &[u8]) -> Result<Vec<NewEvent>, (usize, Problem)> {
    let unreadable = |expected: &str, found: String| (1, Problem::field("body.json", "body", expected, found));
    let text = std::str::from_utf8(body).map_err(|error| unreadable("JSON in UTF-8", error.to_string()))?;
    if !text.trim_start().starts_with('[') {
        return Ok(vec![NewEvent::from_json(text).map_err(|error| (1, error.into()))?]);
    }
    if let Ok(events) = serde_json::from_str(text) {
        return Ok(events);
    }
    let parts: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| unreadable("an event or an array of events", error.to_string()))?;
    let read = |(index, part): (usize, &&RawValue)| {
        NewEvent::from_json(part.get()).map_err(|error| (parts.len(), Problem::from(error).at(index)))
    };
    parts.iter().enumerate().map(read).collect()
}

/// A page ends after so many bytes of events, though more were asked for: it is held until the client has read it.
const PAGE_BYTES: usize = 1 << 20;
/// A page ends after so many failures of its filter.
const PAGE_FAILURES: usize = 100;
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filter_errors: Vec<FilterFailure>,
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
    log.resume(start.epoch, start.from)?;
    let question = query.question(&app.questions).await?;

    let mut cursor = log.cursor(start.from.unwrap_or_else(|| log.oldest()));
    let first = cursor.position();
    let mut page = Page {
        epoch: log.epoch().to_string(),
        events: Vec::new(),
        next: cursor.position(),
        head: 0,
        oldest: log.oldest(),
        missed: None,
        filter_errors: Vec::new(),
    };
    let (mut found, mut bytes) = (Selection::default(), 0);
    while found.events.len() < limit
        && found.failures.len() < PAGE_FAILURES
        && bytes < PAGE_BYTES
        && cursor.position() - first < PAGE_LOOKS
        && let Some(step) = cursor.read().await
    {
        match step {
            Step::Gap(gap) if found.is_empty() => {
                // Ranges that adjoin are one; what came in between did
                // not match, so a later one goes to the next page.
                match &mut page.missed {
                    Some(missed) if missed.to + 1 < gap.from => break,
                    Some(missed) => missed.to = gap.to,
                    missed => *missed = Some(gap.into()),
                }
            }
            // Told at the head of the next page, which begins with it.
            Step::Gap(_) => break,
            Step::Events(chunk) => {
                let selection = question.select(chunk.events()).await;
                bytes += selection.weight();
                found.extend(selection);
            }
        }
        page.next = cursor.position();
    }
    if let Some(beyond) = found.events.get(limit) {
        page.next = beyond.seq;
        found.truncate_at(page.next);
    }
    (page.events, page.filter_errors) = (found.events, found.failures);
    page.head = log.head();
    Ok(Json(page))
}
