//! `/v1/plugins`: what they are and how they do, and the operator's commands.

use super::{
    App, body,
    extract::{NoQuery, Segment},
    problem::Problem,
};
use crate::{
    event::unique,
    plugin::{
        LimitsOverride,
        registry::{CommandError, Plugin, Status, shadow::Full},
    },
};
use axum::{
    Json,
    body::Body,
    extract::{Request, State},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

#[derive(Serialize)]
pub(super) struct List {
    plugins: Vec<Status>,
    /// Files in the directory that are no plugins, with the reason.
    refused: BTreeMap<String, String>,
}

pub(super) async fn list(State(app): State<Arc<App>>, _: NoQuery) -> Json<List> {
    let plugins = app.plugins.all().iter().map(|plugin| plugin.status()).collect();
    Json(List { plugins, refused: app.plugins.refused() })
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Status>, Problem> {
    answer(app.plugins.get(&name).ok_or(CommandError::Unknown(name)))
}

pub(super) async fn reload(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Status>, Problem> {
    answer(app.plugins.reload(&name).await)
}

pub(super) async fn enable(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Status>, Problem> {
    answer(app.plugins.enable(&name).await)
}

pub(super) async fn disable(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Status>, Problem> {
    answer(app.plugins.disable(&name).await)
}

pub(super) async fn rollback(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Status>, Problem> {
    answer(app.plugins.rollback(&name).await)
}

pub(super) async fn promote(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Status>, Problem> {
    answer(app.plugins.promote(&name).await)
}

/// What the comparison of a plugin with its shadow has found.
pub(super) async fn shadow(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Full>, Problem> {
    let plugin = app.plugins.get(&name).ok_or(CommandError::Unknown(name))?;
    let none = || CommandError::State { name: plugin.name().clone(), expected: "a shadow", found: "none".into() };
    Ok(Json(plugin.shadow().ok_or_else(none)?.full()))
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Wanted(#[serde(deserialize_with = "unique::map")] BTreeMap<String, Value>);

/// In place of what was set before: what is not named is as the sidecar has it.
pub(super) async fn limit(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
    request: Request<Body>,
) -> Result<Json<Status>, Problem> {
    let body = body::read(&app, request).await?;
    let expected = "an object with limits as in `[limits]` of a sidecar";
    let Wanted(wanted) = serde_json::from_slice(&body)
        .map_err(|error| Problem::field("body.json", "body", expected, error.to_string()))?;
    let mut limits = LimitsOverride::default();
    for (key, value) in &wanted {
        limits.set(key, value)?;
    }
    answer(app.plugins.limit(&name, limits).await)
}

pub(super) async fn unlimit(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Json<Status>, Problem> {
    answer(app.plugins.limit(&name, LimitsOverride::default()).await)
}

fn answer(plugin: Result<Arc<Plugin>, CommandError>) -> Result<Json<Status>, Problem> {
    Ok(Json(plugin?.status()))
}
