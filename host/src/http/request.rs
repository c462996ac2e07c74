//! `/v1/request`: publish an event and answer with its reply.

use super::{App, events, problem::Problem};
use crate::{
    bus::{Ask, Reply},
    metrics::Door,
};
use axum::{Json, body::Body, extract::Request, extract::State};
use std::sync::Arc;

pub(super) async fn request(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Reply>, Problem> {
    let body = events::read_body(&app, request).await?;
    let ask: Ask = serde_json::from_slice(&body).map_err(|error| {
        let expected = "`event`, `reply_type`, `timeout_ms`";
        events::refused(&app, 1, Problem::field("body.json", "body", expected, error.to_string()))
    })?;
    Ok(Json(ask.answer(&app.bus, Door::Http).await?))
}
