//! `/v1/events`: publish, and read what is still there.

use super::{
    App, body,
    extract::NoQuery,
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

pub(super) async fn publish(
    State(app): State<Arc<App>>,
    _: NoQuery,
    request: Request<Body>,
) -> Result<Json<Published>, Problem> {
    let body = body::read(&app, request).await?;
    let events = read_events(&body).inspect_err(|_| app.bus.count_unreadable(1))?;
    Ok(Json(Published { events: app.bus.publish_all(events).await? }))
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
            Step::Gap(gap) if page.events.is_empty() => page.missed = Some(gap.into()),
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
