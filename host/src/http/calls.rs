//! `/v1/plugins/{name}/calls`: what each call of a plugin came to, as server-sent events while they end.

use super::{
    App,
    extract::{NoQuery, Segment},
    problem::Problem,
    stream::{Source, respond},
};
use crate::{
    metrics::Metrics,
    plugin::{
        feed::{Next, Watch},
        registry::CommandError,
    },
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
    let (drained, metrics) = (app.drained.clone(), app.bus.metrics().clone());
    Ok(respond(&app, Calls { watch: plugin.feed().watch(), drained, metrics }))
}

struct Calls {
    watch: Watch,
    /// Cancelled once there are no more calls.
    drained: CancellationToken,
    metrics: Arc<Metrics>,
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
                Next::Missed(missed) => {
                    self.metrics.call_records_missed.add(missed);
                    Bytes::from(format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n"))
                }
            });
        }
    }
}
