//! `/v1/plugins/{name}/calls`: what each call of a plugin came to, as server-sent events while they end.

use super::{
    App,
    extract::{NoQuery, Segment},
    problem::Problem,
    stream::{Source, respond},
};
use crate::plugin::{
    feed::{Next, Watch},
    registry::CommandError,
};
use axum::{body::Bytes, extract::State, response::Response};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(super) async fn follow(
    State(app): State<Arc<App>>,
    _: NoQuery,
    Segment(name): Segment,
) -> Result<Response, Problem> {
    let plugin = app.plugins.get(&name).ok_or(CommandError::Unknown(name))?;
    Ok(respond(&app, Calls { watch: plugin.feed().watch(), drained: app.drained.clone() }))
}

struct Calls {
    watch: Watch,
    /// Cancelled once there are no more calls.
    drained: CancellationToken,
}

impl Source for Calls {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let next = tokio::select! {
                // Those that have ended before the hub stops are told first.
                biased;
                next = self.watch.next() => next?,
                () = self.drained.cancelled() => return None,
            };
            return Some(match next {
                // Only a shadow wants to know of what the active version was not asked.
                Next::Call(call) if call.version.is_none() => continue,
                Next::Call(call) => Bytes::from(format!("event: call\ndata: {}\n\n", call.to_json())),
                Next::Missed(missed) => Bytes::from(format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n")),
            });
        }
    }
}
