//! `/v1/request`: publish an event and answer with its reply.

use super::{App, events, problem::Problem};
use crate::{
    bus::{Receipt, Reply},
    event::{Event, Glob, NewEvent},
};
use axum::{Json, body::Body, extract::Request, extract::State};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// Longest wait for a reply, in milliseconds.
const MAX_TIMEOUT_MS: u64 = 300_000;

/// What is asked: the same over HTTP and WebSocket.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    event: NewEvent,
    reply_type: Glob,
    #[serde(default = "half_a_minute")]
    timeout_ms: u64,
}

fn half_a_minute() -> u64 {
    30_000
}

/// What is answered.
#[derive(Serialize)]
pub struct Answered {
    pub request: Receipt,
    pub correlation_id: String,
    pub reply: Arc<Event>,
}

impl Asked {
    pub async fn answer(self, app: &App) -> Result<Answered, Problem> {
        if !(1..=MAX_TIMEOUT_MS).contains(&self.timeout_ms) {
            let expected = format!("1 to {MAX_TIMEOUT_MS} milliseconds");
            return Err(Problem::field("body.timeout_ms", "timeout_ms", expected, self.timeout_ms.to_string()));
        }
        let reply = app.bus.request(self.event, &self.reply_type, Duration::from_millis(self.timeout_ms));
        let Reply { request, correlation_id, reply } = reply.await?;
        Ok(Answered { request, correlation_id, reply })
    }
}

pub(super) async fn request(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Answered>, Problem> {
    let body = events::body(&app, request).await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        Problem::field("body.json", "body", "`event`, `reply_type`, `timeout_ms`", error.to_string())
    })?;
    asked.answer(&app).await.map(Json)
}
