//! `/v1/journal`: where it is, how much it holds, and whether it can be written.

use super::{App, extract::NoQuery, problem::Problem};
use crate::journal::{Journal, Sync};
use axum::{Json, extract::State};
use serde::Serialize;
use std::{path::PathBuf, sync::Arc};

#[derive(Serialize)]
pub(super) struct Shown {
    dir: PathBuf,
    sync: Sync,
    epoch: String,
    /// The first seq of the current epoch. Events before it got their seqs in earlier epochs.
    epoch_first: u64,
    oldest: u64,
    head: u64,
    /// Of the file, without the room that is free in it.
    bytes: u64,
    retention: Retention,
    /// Why it cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<Trouble>,
}

/// As in the configuration.
#[derive(Serialize)]
struct Retention {
    max_age_s: u64,
    max_events: u64,
    max_bytes: u64,
    past_handlers: bool,
}

#[derive(Serialize)]
struct Trouble {
    code: &'static str,
    reason: String,
}

pub(super) async fn show(State(app): State<Arc<App>>, _: NoQuery) -> Result<Json<Shown>, Problem> {
    let journal = of(&app)?;
    let bytes = journal.used_bytes().await.map_err(|error| read(&error))?;
    let (log, config) = (app.bus.log(), journal.config());
    let trouble =
        journal.trouble().borrow().as_ref().map(|error| Trouble { code: error.code(), reason: error.to_string() });
    Ok(Json(Shown {
        dir: journal.dir().to_owned(),
        sync: config.sync,
        epoch: log.epoch().to_string(),
        epoch_first: log.lineage().epochs().last().map_or(1, |epoch| epoch.first),
        oldest: journal.oldest(),
        head: log.head(),
        bytes,
        retention: Retention {
            max_age_s: config.max_age_s,
            max_events: config.max_events,
            max_bytes: config.max_bytes,
            past_handlers: config.past_handlers,
        },
        trouble,
    }))
}

/// The hub's journal.
///
/// # Errors
/// `journal.memory`.
pub(super) fn of(app: &App) -> Result<&Journal, Problem> {
    app.bus.log().journal().ok_or_else(|| {
        let detail = "this hub keeps everything in memory, so it has no journal and no dead letters";
        Problem::new(409, "journal.memory", detail)
    })
}

/// The journal cannot be read.
pub(super) fn read(error: &anyhow::Error) -> Problem {
    tracing::error!(%error, "cannot read the journal");
    Problem::new(503, "journal.unavailable", format!("the journal could not be read: {error}")).retry_after("1")
}
