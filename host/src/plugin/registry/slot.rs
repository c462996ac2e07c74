//! How one plugin's standing changes: a version taken in, rolled back, put in quarantine, disabled. Each change says what it was.
//! Only the registry's task makes them.

use super::{
    ChangeKind, CommandError,
    actor::Answer,
    plugin::{Plugin, State, Terms},
};
use crate::{
    journal::{Change as Record, Standing},
    plugin::{Hash, Version, directory::Found},
};
use chrono::{DateTime, Utc};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// First time in quarantine; doubles each time.
const FIRST_QUARANTINE: Duration = Duration::from_secs(1);
/// Longest time in quarantine.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(300);
/// Without a quarantine for so long, the next one is short again.
const FORGIVEN: Duration = Duration::from_secs(600);
/// A file that is missing for less is being replaced: removed and written anew, as some editors and tools do.
const REPLACED_WITHIN: Duration = Duration::from_millis(300);

/// See the module's head.
pub(super) struct Slot {
    pub(super) plugin: Arc<Plugin>,
    /// What was loaded last, or tried to be.
    pub(super) found: Option<Found>,
    pub(super) generation: u64,
    pub(super) loading: bool,
    /// Who asked for a load that has not begun: one that has may have read older files.
    pub(super) waiting: Vec<Answer>,
    /// Who asked for the load under way.
    pub(super) answering: Vec<Answer>,
    pub(super) missing_since: Option<Instant>,
    /// The file that was rolled back and still lies there: not loaded again only because the sidecar changed.
    pub(super) rejected: Option<Hash>,
    pub(super) quarantines: u32,
    pub(super) quarantined_at: Option<Instant>,
    /// The operator's word through the API; the sidecar's `enabled` is in the version's manifest.
    pub(super) disabled: bool,
    /// What was left of its quarantine when the hub started; its first version is not called before that is over.
    sentence: Option<(DateTime<Utc>, Duration)>,
    /// What was said last of how it stands.
    saved: Option<Record>,
}

impl Slot {
    /// `before`: how it stood when the hub ended.
    pub(super) fn new(plugin: Plugin, generation: u64, before: Option<Standing>) -> Self {
        let until = before.as_ref().and_then(|before| DateTime::from_timestamp_millis(before.quarantined_until_ms?));
        // None of it was ever said: as if it had been said that there is nothing to say.
        let saved = before.is_none().then(|| Record::Standing {
            plugin: plugin.name().as_str().into(),
            disabled: false,
            quarantines: 0,
            quarantined_until_ms: None,
        });
        Self {
            saved,
            plugin: Arc::new(plugin),
            found: None,
            generation,
            loading: false,
            waiting: Vec::new(),
            answering: Vec::new(),
            missing_since: None,
            rejected: None,
            quarantines: before.as_ref().map_or(0, |before| before.quarantines),
            quarantined_at: until.map(|_| Instant::now()),
            disabled: before.is_some_and(|before| before.disabled),
            sentence: until.and_then(|until| Some((until, (until - Utc::now()).to_std().ok()?))),
        }
    }

    /// What is to be known of it after a restart, where that is not known yet.
    pub(super) fn news(&mut self) -> Option<Record> {
        let until = self.plugin.standing().quarantined_until;
        let record = Record::Standing {
            plugin: self.plugin.name().as_str().into(),
            disabled: self.disabled,
            quarantines: self.quarantines,
            quarantined_until_ms: until.map(|(_, until)| until.timestamp_millis()),
        };
        (self.saved.as_ref() != Some(&record)).then(|| self.saved.insert(record).clone())
    }

    /// What stays of it when its file goes: the operator's word, but no sentence of its faults.
    pub(super) fn left_behind(&self) -> Standing {
        let plugin = self.plugin.name().to_string();
        Standing { plugin, disabled: self.disabled, quarantines: 0, quarantined_until_ms: None }
    }

    /// Puts a version that is ready in the place of the one before.
    pub(super) fn take_in(&mut self, version: Arc<Version>) -> Option<ChangeKind> {
        let mut standing = self.plugin.standing();
        let same =
            |current: &Arc<Version>| current.hash() == version.hash() && current.manifest() == version.manifest();
        if standing.state == State::Active && standing.current.as_ref().is_some_and(same) {
            return None;
        }
        // Another sidecar makes no other file: what it allows holds at once, and no fault may bring back what it forbids.
        let replaced = standing.current.replace(version.clone()).filter(|current| current.hash() != version.hash());
        let terms = if replaced.is_some() { Terms::Trial } else { Terms::Regular };
        if replaced.is_some() {
            standing.previous = replaced;
        }
        if let Some((until, left)) = self.sentence.take()
            && !self.disabled
        {
            standing.state = State::Quarantined;
            standing.quarantined_until = Some((Instant::now() + left, until));
            return Some(ChangeKind::Quarantined { for_ms: left.as_millis() as u64 });
        }
        if self.disabled {
            standing.state = State::Disabled;
        }
        drop(standing);
        self.quarantines = 0;
        self.rejected = self.rejected.filter(|hash| *hash != version.hash());
        if self.disabled { None } else { self.serve(terms).ok() }
    }

    /// None once a file has been missing for long enough to be gone, else when to look again.
    pub(super) fn missing(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let until = *self.missing_since.get_or_insert(now) + REPLACED_WITHIN;
        (until > now).then_some(until)
    }

    /// Calls the current version from now on, unless its sidecar says no.
    pub(super) fn serve(&mut self, terms: Terms) -> Result<ChangeKind, CommandError> {
        let mut standing = self.plugin.standing();
        let Some(version) = standing.current.clone() else {
            let (name, found) = (self.plugin.name().clone(), standing.state.as_str().to_owned());
            return Err(CommandError::State { name, expected: "a version that could be loaded", found });
        };
        standing.quarantined_until = None;
        let enabled = version.manifest().enabled;
        standing.state = if enabled { State::Active } else { State::Disabled };
        drop(standing);
        self.plugin.activate(enabled.then(|| version.clone()), terms);
        Ok(if enabled {
            ChangeKind::Activated {
                version: version.description().version.clone(),
                sha256: version.sha256().to_owned(),
                generation: version.generation(),
            }
        } else {
            ChangeKind::Disabled
        })
    }

    pub(super) fn enable(&mut self) -> Result<ChangeKind, CommandError> {
        let disabled_by_file =
            self.plugin.standing().current.as_ref().is_some_and(|version| !version.manifest().enabled);
        if disabled_by_file {
            let name = self.plugin.name().clone();
            let found = "`enabled = false` in the file beside it".into();
            return Err(CommandError::State { name, expected: "no word against it", found });
        }
        self.disabled = false;
        self.quarantines = 0;
        self.serve(Terms::Regular)
    }

    pub(super) fn disable(&mut self) -> Result<ChangeKind, CommandError> {
        self.disabled = true;
        let mut standing = self.plugin.standing();
        standing.state = State::Disabled;
        standing.quarantined_until = None;
        drop(standing);
        self.plugin.activate(None, Terms::Regular);
        Ok(ChangeKind::Disabled)
    }

    /// Brings the file before back, under the sidecar of today. By itself, where that cannot be, it is put in quarantine instead.
    pub(super) fn roll_back(&mut self, automatic: bool) -> Result<ChangeKind, CommandError> {
        match self.restore(automatic) {
            Err(error) if automatic => {
                tracing::warn!(plugin = %self.plugin.name(), %error, "not rolled back");
                Ok(self.quarantine())
            }
            result => result,
        }
    }

    fn restore(&mut self, automatic: bool) -> Result<ChangeKind, CommandError> {
        let mut standing = self.plugin.standing();
        let (Some(previous), Some(current)) = (&standing.previous, &standing.current) else {
            let (name, found) = (self.plugin.name().clone(), "none".into());
            return Err(CommandError::State { name, expected: "a version before this one", found });
        };
        let restored = if previous.manifest() == current.manifest() {
            previous.clone()
        } else {
            self.generation += 1;
            previous.under(current.manifest().clone(), self.generation).inspect_err(|error| {
                self.plugin.stats().load_failed(error, Some(previous.sha256()));
            })?
        };
        self.rejected = Some(current.hash());
        let generation = restored.generation();
        let replaced = standing.current.replace(restored);
        // A version that failed its trial is nothing to come back to.
        standing.previous = if automatic { None } else { replaced };
        drop(standing);
        if !self.disabled {
            self.serve(Terms::Regular)?;
        }
        Ok(ChangeKind::RolledBack { generation, automatic })
    }

    pub(super) fn quarantine(&mut self) -> ChangeKind {
        let now = Instant::now();
        if self.quarantined_at.is_some_and(|at| now.duration_since(at) > FORGIVEN) {
            self.quarantines = 0;
        }
        let time = FIRST_QUARANTINE.saturating_mul(1 << self.quarantines.min(16)).min(LONGEST_QUARANTINE);
        self.quarantines += 1;
        self.quarantined_at = Some(now);
        let mut standing = self.plugin.standing();
        standing.state = State::Quarantined;
        standing.quarantined_until = Some((now + time, Utc::now() + time));
        drop(standing);
        self.plugin.activate(None, Terms::Regular);
        ChangeKind::Quarantined { for_ms: time.as_millis() as u64 }
    }
}
