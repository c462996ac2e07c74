//! How one plugin's standing changes: a version taken in, rolled back, put in quarantine, disabled. Each change says what it was.
//! Only the registry's task makes them.

use super::{
    ChangeKind, CommandError,
    actor::Answer,
    plugin::{Plugin, State},
};
use crate::plugin::{Version, directory::Found};
use chrono::Utc;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// First time in quarantine; doubles each time.
const FIRST_QUARANTINE: Duration = Duration::from_secs(1);
/// Longest time in quarantine.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(300);
/// Without a quarantine for so long, the next one is short again.
const FORGIVEN: Duration = Duration::from_secs(600);

/// See the module's head.
pub(super) struct Slot {
    pub(super) plugin: Arc<Plugin>,
    /// What was loaded last, or tried to be.
    pub(super) found: Option<Found>,
    pub(super) generation: u64,
    pub(super) loading: bool,
    pub(super) waiting: Vec<Answer>,
    pub(super) quarantines: u32,
    pub(super) quarantined_at: Option<Instant>,
    /// The operator's word through the API; the sidecar's `enabled` is in the version's manifest.
    pub(super) disabled: bool,
}

impl Slot {
    pub(super) fn new(plugin: Plugin) -> Self {
        Self {
            plugin: Arc::new(plugin),
            found: None,
            generation: 0,
            loading: false,
            waiting: Vec::new(),
            quarantines: 0,
            quarantined_at: None,
            disabled: false,
        }
    }

    /// Puts a version that is ready in the place of the one before.
    pub(super) fn take_in(&mut self, version: Arc<Version>) -> Option<ChangeKind> {
        let mut standing = self.plugin.standing();
        let same =
            |current: &Arc<Version>| current.hash() == version.hash() && current.manifest() == version.manifest();
        if standing.state == State::Active && standing.current.as_ref().is_some_and(same) {
            return None;
        }
        if standing.current.as_ref().is_some_and(|current| !same(current)) {
            standing.previous = standing.current.take();
        }
        standing.current = Some(version);
        drop(standing);
        self.quarantines = 0;
        if self.disabled { None } else { self.serve(false).ok() }
    }

    /// Calls the current version from now on, unless its sidecar says no.
    pub(super) fn serve(&mut self, paroled: bool) -> Result<ChangeKind, CommandError> {
        let mut standing = self.plugin.standing();
        let Some(version) = standing.current.clone() else {
            let (name, found) = (self.plugin.name().clone(), standing.state.as_str().to_owned());
            return Err(CommandError::State { name, expected: "a version that could be loaded", found });
        };
        standing.quarantined_until = None;
        let enabled = version.manifest().enabled;
        standing.state = if enabled { State::Active } else { State::Disabled };
        drop(standing);
        self.plugin.activate(enabled.then(|| version.clone()), paroled);
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
        self.serve(false)
    }

    pub(super) fn disable(&mut self) -> Result<ChangeKind, CommandError> {
        self.disabled = true;
        let mut standing = self.plugin.standing();
        standing.state = State::Disabled;
        standing.quarantined_until = None;
        drop(standing);
        self.plugin.activate(None, false);
        Ok(ChangeKind::Disabled)
    }

    pub(super) fn roll_back(&mut self, automatic: bool) -> Result<ChangeKind, CommandError> {
        let mut standing = self.plugin.standing();
        let Some(previous) = standing.previous.take() else {
            let (name, found) = (self.plugin.name().clone(), "none".into());
            return Err(CommandError::State { name, expected: "a version before this one", found });
        };
        let replaced = standing.current.replace(previous.clone());
        // A version that failed its trial is nothing to come back to.
        standing.previous = if automatic { None } else { replaced };
        drop(standing);
        if !self.disabled {
            self.serve(false)?;
        }
        Ok(ChangeKind::RolledBack { generation: previous.generation(), automatic })
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
        self.plugin.activate(None, false);
        ChangeKind::Quarantined { for_ms: time.as_millis() as u64 }
    }
}
