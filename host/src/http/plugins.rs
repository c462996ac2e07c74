//! `/v1/plugins`: what they are and how they do, and the operator's commands.

use super::{App, problem::Problem};
use crate::plugin::registry::{CommandError, Plugin, Status};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

#[derive(Serialize)]
pub(super) struct List {
    plugins: Vec<Status>,
    /// Files in the directory that are no plugins, with the reason.
    refused: BTreeMap<String, String>,
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Json<List> {
    let plugins = app.plugins.all().iter().map(|plugin| plugin.status()).collect();
    Json(List { plugins, refused: app.plugins.refused() })
}

pub(super) async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Status>, Problem> {
    answer(app.plugins.get(&name).ok_or(CommandError::Unknown(name)))
}

pub(super) async fn reload(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Status>, Problem> {
    answer(app.plugins.reload(&name).await)
}

pub(super) async fn enable(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Status>, Problem> {
    answer(app.plugins.enable(&name).await)
}

pub(super) async fn disable(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Status>, Problem> {
    answer(app.plugins.disable(&name).await)
}

pub(super) async fn rollback(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Status>, Problem> {
    answer(app.plugins.rollback(&name).await)
}

fn answer(plugin: Result<Arc<Plugin>, CommandError>) -> Result<Json<Status>, Problem> {
    Ok(Json(plugin?.status()))
}
