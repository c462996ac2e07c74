//! How a plugin stands, as the API shows it.

use super::{Plugin, Rejected, State};
use crate::{
    event::EventFilter,
    plugin::{Beyond, Counts, Isolation, Kind, LastError, Limits, LimitsOverride, OrderBy, Version, registry::shadow},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::sync::{Arc, atomic::Ordering::Relaxed};

impl Plugin {
    /// All of it, for the API.
    pub fn status(&self) -> Status {
        let done = self.done();
        let standing = self.standing();
        let current = standing.current.as_deref();
        let brief = |version: &Arc<Version>| Brief {
            version: version.description().version.clone(),
            sha256: version.sha256().to_owned(),
        };
        Status {
            name: self.name.to_string(),
            state: standing.state,
            previous: standing.previous.as_ref().map(brief),
            asks_beyond: standing.asks_beyond(),
            rejected: standing.rejected.clone(),
            quarantined_until: standing.quarantined_until.map(|(_, until)| until),
            shadow: self.shadow().map(|shadow| shadow.brief()),
            done,
            waiting: done.map(|_| self.waiting.load(Relaxed)),
            current: current.map(Current::of),
            limits_override: Some(standing.limits.clone()).filter(|limits| *limits != LimitsOverride::default()),
            last_error: self.stats.last_error(),
            counts: self.stats.counts(),
        }
    }
}

/// How a plugin stands, as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    name: String,
    state: State,
    /// A handler's: through which seq it is done ...
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    /// ... but for so many events that wait for another try.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<usize>,
    #[serde(flatten)]
    current: Option<Current>,
    /// The operator's, over the API: they go before those of the sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits_override: Option<LimitsOverride>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Brief>,
    /// What it asks for that the previous version did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    asks_beyond: Option<Beyond>,
    /// A file that was active and is not any more, though it still lies there.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Rejected>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined_until: Option<DateTime<Utc>>,
    /// The candidate for its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<shadow::Brief>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError>,
    #[serde(flatten)]
    counts: Counts,
}

/// The version that is, or would be, called.
#[derive(Debug, Clone, Serialize)]
struct Current {
    kind: Kind,
    version: String,
    summary: String,
    sha256: String,
    size: usize,
    generation: u64,
    isolation: Isolation,
    order_by: Option<OrderBy>,
    concurrency: usize,
    limits: Limits,
    subscriptions: Vec<EventFilter>,
    emits: Vec<String>,
    asked: Vec<&'static str>,
    granted: Vec<&'static str>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Brief {
    version: String,
    sha256: String,
}

impl Current {
    fn of(version: &Version) -> Self {
        let description = version.description();
        Self {
            kind: version.kind(),
            version: description.version.clone(),
            summary: description.summary.clone(),
            sha256: version.sha256().to_owned(),
            size: version.size(),
            generation: version.generation(),
            isolation: version.isolation(),
            order_by: version.order_by(),
            concurrency: version.concurrency(),
            limits: version.limits().clone(),
            subscriptions: version.subscriptions().to_vec(),
            emits: description.asked.emits.iter().map(ToString::to_string).collect(),
            asked: description.asked.names(),
            granted: version.grants().names(),
            warnings: [description.warnings.clone(), version.grants().lacks()].concat(),
        }
    }
}
