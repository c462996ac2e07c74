//! Numbers and health: `/v1/stats`, `/metrics`, `/healthz`, `/readyz`.

use super::{App, problem::Problem};
use crate::{bus::Stats, metrics::Exposition};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::sync::Arc;

pub(super) async fn stats(State(app): State<Arc<App>>) -> Json<Stats> {
    Json(app.bus.stats())
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut out = Exposition::default();
    app.bus.metrics().write(&mut out);
    out.family("busway_log_head", "gauge", "The last seq given.");
    out.sample("busway_log_head", &[], app.bus.log().head());
    out.family("busway_log_oldest", "gauge", "The first seq that is still there.");
    out.sample("busway_log_oldest", &[], app.bus.log().oldest());
    app.plugins.write_metrics(&mut out);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], out.finish()).into_response()
}

pub(super) async fn health() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = app.ready.borrow().map_err(|reason| json!({"ready": false, "reason": reason}));
    // What cannot be written can still be read: the reason says so.
    let trouble = app.bus.log().journal().and_then(|journal| journal.trouble().borrow().clone());
    let trouble = trouble.map(|error| json!({"ready": false, "code": error.code(), "reason": error.to_string()}));
    match ready.and(trouble.map_or(Ok(()), Err)) {
        Ok(()) => Json(json!({"ready": true})).into_response(),
        Err(body) => (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response(),
    }
}

impl App {
    /// What a route that needs a running hub answers while it is not.
    pub fn stopping(&self) -> Option<Problem> {
        (!self.bus.log().is_open())
            .then(|| Problem::new(503, "publish.stopped", "the hub is stopping").retry_after("5"))
    }
}
