//! Numbers and health: `/v1/stats`, `/metrics`, `/healthz`, `/readyz`.

use super::{App, NotReady, extract::NoQuery, problem::Problem};
use crate::{bus::Stats, journal::WriteError, metrics::Exposition};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn stats(State(app): State<Arc<App>>, _: NoQuery) -> Json<Stats> {
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
    let trouble = app.bus.log().journal().and_then(|journal| journal.trouble().borrow().clone());
    match why_not(*app.ready.borrow(), trouble.as_ref()) {
        None => Json(json!({"ready": true})).into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, Json(why)).into_response(),
    }
}

/// A journal in trouble first: the rest passes by itself.
fn why_not(ready: Result<(), NotReady>, trouble: Option<&WriteError>) -> Option<Value> {
    let (code, reason) = match (trouble, ready) {
        (Some(error), _) => (error.code(), error.to_string()),
        (None, Err(why)) => (why.code(), why.to_string()),
        (None, Ok(())) => return None,
    };
    Some(json!({"ready": false, "code": code, "reason": reason}))
}

impl App {
    /// What a route that needs a running hub answers while it is not.
    pub fn stopping(&self) -> Option<Problem> {
        (!self.bus.log().is_open())
            .then(|| Problem::new(503, "publish.stopped", "the hub is stopping").retry_after("5"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_reasons_not_to_be_ready_the_one_that_does_not_pass_is_named() {
        let code = |ready, trouble| why_not(ready, trouble).map(|why| why["code"].as_str().unwrap().to_owned());
        let trouble = WriteError::ReadOnly("a sync failed".into());
        for ready in [Ok(()), Err(NotReady::Loading), Err(NotReady::Stopping)] {
            assert_eq!(code(ready, Some(&trouble)).as_deref(), Some("journal.read-only"));
        }
        assert_eq!(code(Err(NotReady::Loading), None).as_deref(), Some("hub.loading"));
        assert_eq!(code(Err(NotReady::Stopping), None).as_deref(), Some("hub.stopping"));
        assert_eq!(why_not(Ok(()), None), None);
    }
}
