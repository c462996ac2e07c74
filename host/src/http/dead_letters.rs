//! `/v1/dead-letters`: what handlers could not handle: look at it, hand it to them again, or throw it away.

use super::{
    App, body,
    extract::{NoQuery, Segment},
    journal,
    problem::Problem,
    query::{Query, digits},
};
use crate::{
    event::time,
    journal::{Change, Journal, Letter, Letters, Owner, Select},
    plugin::{Kind, registry::Plugin},
};
use axum::{
    Json,
    body::Body,
    extract::{RawQuery, Request, State},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Most letters that one transaction replays or throws away: no publisher waits long for it.
const STEP: usize = 1_000;

#[derive(Serialize)]
pub(super) struct Page {
    dead_letters: Vec<Letter>,
    /// `after` of the next page; none at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<Page>, Problem> {
    let query = Query::parse(query.as_deref(), &["plugin", "code", "since", "until", "after", "limit"])?;
    let mut select = Criteria::of(&query)?.select();
    select.after = query.number("after", 0..=i64::MAX as u64)?.unwrap_or(0) as i64;
    select.limit = query.number("limit", 1..=1_000)?.unwrap_or(100) as usize;
    let Letters { letters, more } = journal::of(&app)?.letters(select).await.map_err(|error| journal::read(&error))?;
    let next = letters.last().map(|letter| letter.id).filter(|_| more);
    Ok(Json(Page { dead_letters: letters, next }))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(id): Segment,
) -> Result<Json<Letter>, Problem> {
    let select = Select { id: Some(number(&id)?), limit: 1, ..Select::default() };
    let found = journal::of(&app)?.letters(select).await.map_err(|error| journal::read(&error))?;
    found.letters.into_iter().next().map(Json).ok_or_else(|| unknown(&id))
}

fn number(id: &str) -> Result<i64, Problem> {
    digits(id).and_then(|id| id.try_into().ok()).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    let id: String = id.chars().take(20).collect();
    Problem::new(404, "dead-letter.unknown", format!("there is no dead letter {id}"))
}

/// Which letters, by what they are. At least one of them, or `all` alone: nobody means all of them by saying nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Criteria {
    plugin: Option<String>,
    code: Option<String>,
    #[serde(deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    #[serde(deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    all: bool,
    ids: Option<Vec<i64>>,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    match time::parse(&text) {
        Some(time) => Ok(Some(time)),
        None => Err(D::Error::custom(format_args!("expected {}, found {text:?}", time::EXPECTED))),
    }
}

impl Criteria {
    fn of(query: &Query) -> Result<Self, Problem> {
        let (plugin, code) = (query.text("plugin"), query.text("code"));
        Ok(Self {
            plugin,
            code,
            since: query.time("since")?,
            until: query.time("until")?,
            all: query.flag("all")?,
            ids: None,
        })
    }

    fn select(&self) -> Select {
        Select {
            plugin: self.plugin.clone(),
            code: self.code.clone(),
            since_ms: self.since.map(|since| since.timestamp_millis()),
            until_ms: self.until.map(|until| until.timestamp_millis()),
            limit: STEP,
            ..Select::default()
        }
    }

    fn which(mut self, error: &'static str, field: &'static str) -> Result<Which, Problem> {
        let ids = self.ids.take();
        let some = self.plugin.is_some() || self.code.is_some() || self.since.is_some() || self.until.is_some();
        match (ids, some, self.all) {
            (Some(ids), false, false) => Ok(Which::Ids(ids)),
            (None, true, false) | (None, false, true) => Ok(Which::Matching(self.select())),
            (ids, ..) => {
                let ways = "some of `plugin`, `code`, `since`, `until`, or `all` alone";
                let expected = if field == "body" { format!("`ids` alone, {ways}") } else { ways.into() };
                let found = if ids.is_some() || some { "several of these" } else { "none of these" };
                Err(Problem::field(error, field, expected, found))
            }
        }
    }
}

enum Which {
    Ids(Vec<i64>),
    Matching(Select),
}

/// The letters that are meant, a transaction's worth at a time.
struct Steps<'a> {
    journal: &'a Journal,
    which: Which,
    /// Of the ids that were asked for, those that are not there.
    unknown: usize,
}

impl<'a> Steps<'a> {
    /// Those that there are now: one that a replay makes is not replayed by it.
    async fn begin(journal: &'a Journal, mut which: Which) -> Result<Self, Problem> {
        match &mut which {
            Which::Matching(select) => {
                select.through = Some(journal.newest_letter().await.map_err(|error| journal::read(&error))?);
            }
            Which::Ids(ids) => {
                ids.sort_unstable();
                ids.dedup();
                // The last are taken first.
                ids.reverse();
            }
        }
        Ok(Self { journal, which, unknown: 0 })
    }

    /// None at the end.
    async fn next(&mut self) -> Result<Option<Vec<Owner>>, Problem> {
        let read = |error: anyhow::Error| journal::read(&error);
        let ids = match &mut self.which {
            Which::Matching(select) => {
                let owners = self.journal.letter_owners(select.clone()).await.map_err(read)?;
                let Some(last) = owners.last() else { return Ok(None) };
                select.after = last.id;
                return Ok(Some(owners));
            }
            Which::Ids(ids) if ids.is_empty() => return Ok(None),
            Which::Ids(ids) => ids.split_off(ids.len().saturating_sub(STEP)),
        };
        let mut owners = Vec::with_capacity(ids.len());
        for id in ids.into_iter().rev() {
            let select = Select { id: Some(id), limit: 1, ..Select::default() };
            match self.journal.letter_owners(select).await.map_err(read)?.pop() {
                Some(owner) => owners.push(owner),
                None => self.unknown += 1,
            }
        }
        Ok(Some(owners))
    }
}

fn none(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
pub(super) struct Replayed {
    replayed: usize,
    /// Where they are, because their plugin is not there, or is no handler.
    left: Vec<Left>,
    /// Ids that name no letter.
    #[serde(skip_serializing_if = "none")]
    unknown: usize,
}

#[derive(Serialize)]
struct Left {
    plugin: Arc<str>,
    dead_letters: usize,
}

/// The plugin that would handle letters of that name.
fn handler(app: &App, plugin: &str) -> Option<Arc<Plugin>> {
    app.plugins.get(plugin).filter(|plugin| plugin.kind() == Some(Kind::Handler))
}

pub(super) async fn replay(
    State(app): State<Arc<App>>,
    _: NoQuery,
    request: Request<Body>,
) -> Result<Json<Replayed>, Problem> {
    let journal = journal::of(&app)?;
    let body = body::read(&app, request).await?;
    let criteria: Criteria = serde_json::from_slice(&body).map_err(|error| {
        let expected = "`ids`, some of `plugin`, `code`, `since`, `until`, or `all`";
        Problem::field("body.json", "body", expected, error.to_string())
    })?;
    let mut steps = Steps::begin(journal, criteria.which("body.criteria", "body")?).await?;
    let (mut replayed, mut left) = (0, BTreeMap::<Arc<str>, usize>::new());
    while let Some(owners) = steps.next().await? {
        let (there, absent): (Vec<Owner>, Vec<Owner>) =
            owners.into_iter().partition(|owner| handler(&app, &owner.plugin).is_some());
        for owner in absent {
            *left.entry(owner.plugin).or_default() += 1;
        }
        let letters: Vec<i64> = there.iter().map(|owner| owner.id).collect();
        if letters.is_empty() {
            continue;
        }
        replayed += letters.len();
        app.bus.log().record(Vec::new(), vec![Change::Replay { letters }]).await?;
        // Asked for again: what came in its place meanwhile has to hear of it. One that went finds them when it is back.
        let plugins: BTreeSet<Arc<str>> = there.into_iter().map(|owner| owner.plugin).collect();
        plugins.iter().filter_map(|plugin| handler(&app, plugin)).for_each(|plugin| plugin.replay());
    }
    let left = left.into_iter().map(|(plugin, dead_letters)| Left { plugin, dead_letters }).collect();
    Ok(Json(Replayed { replayed, left, unknown: steps.unknown }))
}

#[derive(Serialize)]
pub(super) struct Purged {
    purged: usize,
}

pub(super) async fn purge(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<Purged>, Problem> {
    let journal = journal::of(&app)?;
    let query = Query::parse(query.as_deref(), &["plugin", "code", "since", "until", "all"])?;
    let which = Criteria::of(&query)?.which("query.criteria", "query")?;
    throw_away(&app, Steps::begin(journal, which).await?).await
}

pub(super) async fn purge_one(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(id): Segment,
) -> Result<Json<Purged>, Problem> {
    let which = Which::Ids(vec![number(&id)?]);
    let Json(purged) = throw_away(&app, Steps::begin(journal::of(&app)?, which).await?).await?;
    if purged.purged == 0 { Err(unknown(&id)) } else { Ok(Json(purged)) }
}

async fn throw_away(app: &App, mut steps: Steps<'_>) -> Result<Json<Purged>, Problem> {
    let mut purged = 0;
    while let Some(owners) = steps.next().await? {
        let letters: Vec<i64> = owners.into_iter().map(|owner| owner.id).collect();
        if letters.is_empty() {
            continue;
        }
        purged += letters.len();
        app.bus.log().record(Vec::new(), vec![Change::Purge { letters }]).await?;
    }
    Ok(Json(Purged { purged }))
}
