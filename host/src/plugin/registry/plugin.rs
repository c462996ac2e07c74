//! One plugin as everybody but the registry's own task sees it: the version that is active, and how it stands.

mod status;

pub use status::Status;

use super::{Change, actor::Command, alarm::Alarm, shadow::Shadow};
use crate::{
    event::Event,
    kv::Namespace,
    plugin::{Beyond, CallError, Fault, Hash, Kind, LimitsOverride, Name, Stats, Version, feed::Feed},
};
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
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
    alarm: Alarm,
    feed: Feed,
    /// A candidate for its place.
    shadow: Mutex<Option<Arc<Shadow>>>,
}

/// What the registry's task writes and everybody may read.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) state: State,
    /// The version that is active, or would be if the plugin were.
    pub(super) current: Option<Arc<Version>>,
    pub(super) previous: Option<Arc<Version>>,
    pub(super) quarantined_until: Option<(Instant, DateTime<Utc>)>,
    /// The operator's, over the API.
    pub(super) limits: LimitsOverride,
    /// Not loaded again only because the sidecar changed.
    pub(super) rejected: Option<Rejected>,
    trial: Trial,
}

/// A file that was rolled back.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rejected {
    #[serde(rename = "sha256", serialize_with = "write_hex")]
    pub(super) hash: Hash,
    /// By its faults, and not by an operator.
    pub(super) automatic: bool,
}

fn write_hex<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hash.to_hex())
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

impl Standing {
    /// Whether the version that is active has done well of late, so that it is one to come back to.
    pub(super) fn is_sound(&self) -> bool {
        let of_late = |at: &Instant| at.elapsed() <= FAULTS_WITHIN;
        self.state != State::Quarantined && !self.trial.faults.iter().any(of_late)
    }

    /// What the current version asks for that the previous one did not.
    pub(super) fn asks_beyond(&self) -> Option<Beyond> {
        let asked =
            |version: &Option<Arc<Version>>| version.as_ref().map(|version| version.description().asked.clone());
        asked(&self.current)?.beyond(&asked(&self.previous)?)
    }
}

impl Plugin {
    pub(super) fn new(
        name: Name,
        namespace: Arc<Namespace>,
        commands: mpsc::WeakSender<Command>,
        changes: broadcast::WeakSender<Change>,
    ) -> Self {
        let standing = Standing {
            state: State::Loading,
            current: None,
            previous: None,
            quarantined_until: None,
            limits: LimitsOverride::default(),
            rejected: None,
            trial: Trial::default(),
        };
        Self {
            alarm: Alarm::new(name.clone(), changes),
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
            feed: Feed::default(),
            shadow: Mutex::new(None),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its calls, for who wants to watch them.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The candidate for its place, if its sidecar names one.
    pub fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_shadow(&self, shadow: Option<Arc<Shadow>>) {
        let before = std::mem::replace(&mut *self.shadow.lock().unwrap_or_else(PoisonError::into_inner), shadow);
        // Outside the lock: its instances go with it.
        drop(before);
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

    /// Says that a call of `version` with `event` faulted; see [`Plugin::report`] for one that is to have consequences.
    pub fn raise(&self, version: &Version, event: &Event, fault: &Fault) {
        self.alarm.raise(version, event, fault);
    }

    /// Says that an event was given up.
    pub fn mourn(&self, event: &Event, attempts: u32, code: &'static str, message: &str) {
        self.alarm.mourn(event, attempts, code, message);
    }

    /// Tells how a call of `version` with `event` ended, so that one that faults does not go on for ever. A fault counts if `accountable`:
    /// not where somebody else than its author and the operator chose what it was asked, nor where the same event has counted.
    pub fn report(&self, version: &Version, event: &Event, error: Option<&CallError>, accountable: bool) {
        let faulted = matches!(error, Some(CallError::Fault(_)));
        if let Some(CallError::Fault(fault)) = error {
            self.raise(version, event, fault);
        }
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
}
