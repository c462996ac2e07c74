//! A live shadow: the file that a plugin's sidecar names as `shadow`, asked about whatever the active version is asked about, as soon as
//! that has answered. Nothing of what it does happens: its events go nowhere, and it writes to a copy of the plugin's memory, taken
//! when the comparison began. What is different is counted ([`Comparison`]); the operator may then put it in the active version's place.
//!
//! It follows the plugin's feed one call after another on the slow threads, so that nobody waits for it; what it misses is counted.

use crate::plugin::{
    Hash, Kind, LoadError, Name, Transcript, Version,
    feed::{Next, Observed, Watch},
    shadow::{Answer, Comparison, Report},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

/// Most events that the candidate has done with and the active version has yet to try again.
const AHEAD: usize = 1_024;

/// See the module's head.
#[derive(Debug)]
pub struct Shadow {
    file: Name,
    since: DateTime<Utc>,
    candidate: Result<Candidate, LoadError>,
}

#[derive(Debug)]
struct Candidate {
    version: Arc<Version>,
    found: Arc<Mutex<Found>>,
    /// Ends with the shadow.
    _task: AbortOnDropHandle<()>,
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Found {
    comparison: Comparison,
    missed: u64,
}

/// A shadow as it stands in its plugin's status.
#[derive(Debug, Clone, Serialize)]
pub struct Brief {
    #[serde(flatten)]
    about: About,
    compared: u64,
    differing: u64,
    percent: f64,
}

/// A shadow with all that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Full {
    #[serde(flatten)]
    about: About,
    #[serde(flatten)]
    report: Report,
}

#[derive(Debug, Clone, Serialize)]
struct About {
    file: String,
    /// When the comparison began: anew with each change of either version.
    since: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Why the file is no candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed>,
    /// Calls of the active version for which the candidate was too slow.
    missed: u64,
}

#[derive(Debug, Clone, Serialize)]
struct Failed {
    code: &'static str,
    message: String,
}

impl Shadow {
    /// A candidate that follows `watch` on `threads`; or why the file is none.
    pub(super) fn start(
        file: Name,
        candidate: Result<Arc<Version>, LoadError>,
        watch: Watch,
        threads: &Handle,
    ) -> Arc<Self> {
        let candidate = candidate.map(|version| {
            let found = Arc::<Mutex<Found>>::default();
            let task = threads.spawn(follow(version.clone(), watch, found.clone()));
            Candidate { version, found, _task: AbortOnDropHandle::new(task) }
        });
        Arc::new(Self { file, since: Utc::now(), candidate })
    }

    /// Its file's name, without `.wasm`.
    pub(super) fn file(&self) -> &Name {
        &self.file
    }

    /// The candidate; none if the file is none.
    pub fn version(&self) -> Option<&Arc<Version>> {
        self.candidate.as_ref().ok().map(|candidate| &candidate.version)
    }

    /// Of the candidate's file.
    pub(super) fn hash(&self) -> Result<Hash, LoadError> {
        self.candidate.as_ref().map(|candidate| candidate.version.hash()).map_err(Clone::clone)
    }

    /// For its plugin's status.
    pub fn brief(&self) -> Brief {
        let Full { about, report } = self.full();
        Brief { about, compared: report.compared, differing: report.differing, percent: report.percent }
    }

    /// Events compared, those of them that differ, and calls missed.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let Full { about, report } = self.full();
        (report.compared, report.differing, about.missed)
    }

    /// All that was found.
    pub fn full(&self) -> Full {
        let (report, missed) = match &self.candidate {
            Ok(candidate) => {
                let found = lock(&candidate.found);
                (found.comparison.report(), found.missed)
            }
            Err(_) => (Comparison::default().report(), 0),
        };
        let version = self.version();
        let failed = |error: &LoadError| Failed { code: error.code(), message: error.to_string() };
        let about = About {
            file: format!("{}.wasm", self.file),
            since: self.since,
            version: version.map(|version| version.description().version.clone()),
            sha256: version.map(|version| version.sha256().to_owned()),
            error: self.candidate.as_ref().err().map(failed),
            missed,
        };
        Full { about, report }
    }
}

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(version: Arc<Version>, mut watch: Watch, found: Arc<Mutex<Found>>) {
    let mut ahead = Ahead::default();
    while let Some(next) = watch.next().await {
        let observed = match next {
            Next::Call(observed) => observed,
            Next::Missed(missed) => {
                lock(&found).missed += missed;
                continue;
            }
        };
        if !ahead.is_done(&observed) {
            let answer = ask(&version, &observed).await;
            ahead.note(&observed, &answer);
            lock(&found).comparison.take(&observed.event, &observed.answer, &answer);
        }
    }
}

/// Events that the candidate has done with while the active version is to try them again: it is asked about each until it is done with it,
/// so that its memory holds each once too.
#[derive(Debug, Default)]
struct Ahead(HashSet<u64>);

impl Ahead {
    fn is_done(&mut self, observed: &Observed) -> bool {
        let seq = observed.event.seq;
        if observed.attempt == 1 || !self.0.contains(&seq) {
            return false;
        }
        if !observed.answer.is_tried_again() {
            self.0.remove(&seq);
        }
        true
    }

    fn note(&mut self, observed: &Observed, answer: &Answer) {
        if observed.answer.is_tried_again() && !answer.is_tried_again() {
            if self.0.len() >= AHEAD {
                // Of none of them it is known any more: they are compared again.
                self.0.clear();
            }
            self.0.insert(observed.event.seq);
        }
    }
}

/// What the candidate makes of the same.
async fn ask(version: &Version, observed: &Observed) -> Answer {
    let event = &observed.event;
    match version.kind() {
        Kind::Handler if !version.wants(event) => Answer::not_asked(),
        Kind::Handler => match version.handle(event, observed.attempt).await {
            Ok(effects) => {
                // Nobody else writes to its memory, so nobody can have come before it.
                let _ = effects.writes.map(|writes| writes.commit());
                Answer::emitted(effects.outbox.into_iter().map(Arc::new).collect(), effects.usage)
            }
            Err(error) => Answer::failed(&error),
        },
        Kind::Filter => {
            let mut said = Transcript::default();
            // Its schema may be another one: what that does not allow has no answer.
            let params = observed.params.as_str().and_then(|text| serde_json::from_str(text).ok());
            let Ok(params) = version.check_params(params).await else { return Answer::not_asked() };
            match version.matches_with(event, &params, Some(&mut said)).await {
                Ok(verdict) => Answer::verdict(verdict, said.usage),
                Err(error) => Answer::failed(&error),
            }
        }
    }
}
