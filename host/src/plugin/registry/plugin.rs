//! One plugin as everybody but the registry's own task sees it: the version that is active, and how it stands.

use super::actor::Command;
use crate::{
    kv::Namespace,
    plugin::{CallError, Counts, Isolation, Kind, LastError, Name, OrderBy, Stats, Version},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// So many calls a new version is on trial: a fault among them brings the version before back.
const TRIAL: u32 = 20;
/// So many faults ...
const FAULTS: usize = 5;
/// ... within this time put a plugin in quarantine.
const FAULTS_WITHIN: Duration = Duration::from_secs(60);

/// How a plugin stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its first version is being loaded.
    Loading,
    /// A version is called.
    Active,
    /// The operator has taken it out of service.
    Disabled,
    /// It faulted too often; it is tried again later.
    Quarantined,
    /// No version of it could be loaded.
    Failed,
}

impl State {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
        }
    }
}

/// A plugin, whatever becomes of its versions.
#[derive(Debug)]
pub struct Plugin {
    name: Name,
    stats: Arc<Stats>,
    namespace: Arc<Namespace>,
    active: watch::Sender<Option<Arc<Version>>>,
    state: Mutex<Standing>,
    /// False once the active version has passed its trial: then a call that went well has nothing to report.
    on_trial: AtomicBool,
    gone: CancellationToken,
    replayed: Notify,
    /// A handler's: through which event it is done, and how many wait for another try.
    done: AtomicU64,
    waiting: AtomicUsize,
    commands: mpsc::WeakSender<Command>,
}

/// What the registry's task writes and everybody may read.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) state: State,
    /// The version that is active, or would be if the plugin were.
    pub(super) current: Option<Arc<Version>>,
    pub(super) previous: Option<Arc<Version>>,
    pub(super) quarantined_until: Option<(Instant, DateTime<Utc>)>,
    trial: Trial,
}

/// How the active version has done.
#[derive(Debug, Default)]
struct Trial {
    calls: u32,
    faults: VecDeque<Instant>,
    terms: Terms,
}

/// What a fault of the active version means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Terms {
    /// Nothing by itself; many do.
    #[default]
    Regular,
    /// A file that was never active before: a fault in its first calls brings the version before back.
    Trial,
    /// Just out of quarantine: one fault brings it back there.
    Parole,
}

impl Plugin {
    pub(super) fn new(name: Name, namespace: Arc<Namespace>, commands: mpsc::WeakSender<Command>) -> Self {
        let standing = Standing {
            state: State::Loading,
            current: None,
            previous: None,
            quarantined_until: None,
            trial: Trial::default(),
        };
        Self {
            name,
            stats: Arc::default(),
            namespace,
            active: watch::Sender::new(None),
            state: Mutex::new(standing),
            on_trial: AtomicBool::new(true),
            gone: CancellationToken::new(),
            replayed: Notify::new(),
            done: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            commands,
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it has done.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The version to call now. Whoever holds it may finish on it.
    pub fn active(&self) -> Option<Arc<Version>> {
        self.active.borrow().clone()
    }

    /// Follows the version to call.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Version>>> {
        self.active.subscribe()
    }

    /// The version that is active, or would be if the plugin were; none before the first one is loaded.
    pub fn current(&self) -> Option<Arc<Version>> {
        self.standing().current.clone()
    }

    /// What it is for; none before its first version is loaded.
    pub fn kind(&self) -> Option<Kind> {
        self.standing().current.as_ref().map(|version| version.kind())
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.standing().state
    }

    /// Cancelled when its file is gone.
    pub fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Waits until dead letters of it are to be handled again.
    pub async fn replayed(&self) {
        self.replayed.notified().await;
    }

    /// Says so.
    pub fn replay(&self) {
        self.replayed.notify_one();
    }

    /// Says how far a handler is: done through `done`, but for `waiting` events that it is to try again.
    pub fn show_place(&self, done: u64, waiting: usize) {
        self.done.store(done, Relaxed);
        self.waiting.store(waiting, Relaxed);
    }

    /// Through which event a handler is done; none for a filter.
    pub fn done(&self) -> Option<u64> {
        (self.kind() == Some(Kind::Handler)).then(|| self.done.load(Relaxed))
    }

    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `version` the one that is called, or none. Atomic: a call begins on the old one or on the new one.
    pub(super) fn activate(&self, version: Option<Arc<Version>>, terms: Terms) {
        self.standing().trial = Trial { terms, ..Trial::default() };
        self.on_trial.store(true, Relaxed);
        if let Some(version) = &version {
            version.keep_instances(true);
        }
        let before = self.active.send_replace(version.clone());
        let retired = before.filter(|before| version.is_none_or(|version| !Arc::ptr_eq(before, &version)));
        if let Some(retired) = retired {
            retired.keep_instances(false);
        }
    }

    /// Tells how a call of `version` ended, so that one that faults does not go on for ever. A fault counts if `accountable`:
    /// not where somebody else than its author and the operator chose what it was asked, nor where the same event has counted.
    pub fn report(&self, version: &Version, error: Option<&CallError>, accountable: bool) {
        let faulted = matches!(error, Some(CallError::Fault(_)));
        if if faulted { !accountable } else { !self.on_trial.load(Relaxed) } {
            return;
        }
        let mut standing = self.standing();
        let Standing { current, previous, trial, .. } = &mut *standing;
        // A call of a version that is no longer active says nothing about the one that is.
        if current.as_ref().is_none_or(|current| current.generation() != version.generation()) {
            return;
        }
        trial.calls = trial.calls.saturating_add(1);
        if !faulted {
            if trial.calls > TRIAL {
                self.on_trial.store(false, Relaxed);
                trial.terms = Terms::Regular;
            }
            return;
        }
        let now = Instant::now();
        trial.faults.push_back(now);
        while trial.faults.front().is_some_and(|at| now.duration_since(*at) > FAULTS_WITHIN) {
            trial.faults.pop_front();
        }
        let generation = version.generation();
        let command = if trial.terms == Terms::Trial && trial.calls <= TRIAL && previous.is_some() {
            Command::RollBack { name: self.name.clone(), generation }
        } else if trial.faults.len() >= FAULTS || trial.terms == Terms::Parole {
            Command::Quarantine { name: self.name.clone(), generation }
        } else {
            return;
        };
        drop(standing);
        // Full: the next fault says it again.
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.try_send(command);
        }
    }

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
            quarantined_until: standing.quarantined_until.map(|(_, until)| until),
            done,
            waiting: done.map(|_| self.waiting.load(Relaxed)),
            current: current.map(Current::of),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Brief>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined_until: Option<DateTime<Utc>>,
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
    subscriptions: Vec<crate::event::EventFilter>,
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
            subscriptions: version.subscriptions().to_vec(),
            emits: description.asked.emits.iter().map(ToString::to_string).collect(),
            asked: description.asked.capabilities(),
            granted: version.grants().capabilities(),
            warnings: description.warnings.clone(),
        }
    }
}
