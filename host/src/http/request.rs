//! `/v1/request`: publish an event and answer with its reply.

use super::{App, body, extract::NoQuery, problem::Problem};
use crate::bus::{Ask, Reply};
use axum::{Json, body::Body, extract::Request, extract::State};
use std::sync::Arc;

pub(super) async fn request(
    State(app): State<Arc<App>>,
    _: NoQuery,
    request: Request<Body>,
) -> Result<Json<Reply>, Problem> {
    let body = body::read(&app, request).await?;
    let ask: Ask = serde_json::from_slice(&body).map_err(|error| {
        Problem::field("body.json", "body", "`event`, `reply_type`, `timeout_ms`", error.to_string())
    })?;
    Ok(Json(ask.answer(&app.bus).await?))
}
