//! How one plugin's standing changes: a version taken in, rolled back, put in quarantine, disabled. Each change says what it was.
//! Only the registry's task makes them.

use super::{
    ChangeKind, CommandError,
    actor::{Answer, Pair},
    plugin::{Plugin, Rejected, State, Terms},
};
use crate::{
    journal::{Change as Record, Standing},
    plugin::{LimitsOverride, LoadError, Manifest, Version, directory::Found},
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
    /// The load under way is of a plugin with a sidecar.
    pub(super) loads_sidecar: bool,
    /// What is active was loaded under a sidecar: should that go missing, it stays in force.
    pub(super) has_sidecar: bool,
    pub(super) quarantines: u32,
    pub(super) quarantined_at: Option<Instant>,
    /// The operator's word through the API; the sidecar's `enabled` is in the version's manifest.
    pub(super) disabled: bool,
    /// What it is compared with, or is to be.
    pub(super) pair: Option<Pair>,
    /// That is yet to be loaded.
    pub(super) pair_due: bool,
    /// What was left of its quarantine when the hub started; its first version is not called before that is over.
    sentence: Option<(DateTime<Utc>, Duration)>,
    /// What was said last of how it stands.
    saved: Option<Standing>,
}

/// How a plugin stands of which nobody has said anything.
fn unremarkable(name: &str) -> Standing {
    Standing { plugin: name.into(), disabled: false, quarantines: 0, quarantined_until_ms: None, limits: None }
}

impl Slot {
    /// `before`: how it stood when the hub ended.
    pub(super) fn new(plugin: Plugin, generation: u64, before: Option<Standing>) -> Self {
        let until = before.as_ref().and_then(|before| DateTime::from_timestamp_millis(before.quarantined_until_ms?));
        let before_count = before.as_ref().map_or(0, |before| before.quarantines);
        let name = plugin.name().as_str();
        let limits = before.as_ref().and_then(|before| before.limits.as_deref());
        let unreadable = limits.map(serde_json::from_str).transpose().map(|limits| {
            if let Some(limits) = limits {
                plugin.standing().limits = limits;
            }
        });
        let mut disabled = before.as_ref().is_some_and(|before| before.disabled);
        if let Err(error) = unreadable {
            // They may have been the tighter ones.
            disabled = true;
            tracing::error!(plugin = name, %error, "the limits set over the API cannot be read: the plugin is disabled");
            let detail =
                format!("the limits set over the API cannot be read ({error}): set them again, then enable the plugin");
            plugin.stats().limits_unreadable(detail);
        }
        // None of it was ever said: as if it had been said that there is nothing to say.
        let nothing = || unremarkable(name);
        Self {
            saved: before.is_none().then(nothing),
            plugin: Arc::new(plugin),
            found: None,
            generation,
            loading: false,
            waiting: Vec::new(),
            answering: Vec::new(),
            missing_since: None,
            loads_sidecar: false,
            has_sidecar: false,
            quarantines: before_count,
            quarantined_at: until.map(|_| Instant::now()),
            pair: None,
            pair_due: false,
            disabled,
            sentence: until.and_then(|until| {
                // No longer than it was, wherever the wall clock has gone.
                let longest = quarantine_after(before_count.saturating_sub(1));
                let left = (until - Utc::now()).to_std().ok()?.min(longest);
                Some((Utc::now() + left, left))
            }),
        }
    }

    /// Takes out whoever waits for a load of it.
    pub(super) fn waiting_for_loads(&mut self) -> impl Iterator<Item = Answer> {
        self.waiting.drain(..).chain(self.answering.drain(..))
    }

    /// What is to be known of it after a restart, where that is not known yet.
    pub(super) fn news(&mut self) -> Option<Record> {
        let standing = self.plugin.standing();
        let news = Standing {
            disabled: self.disabled,
            quarantines: self.quarantines,
            quarantined_until_ms: standing.quarantined_until.map(|(_, until)| until.timestamp_millis()),
            ..self.left_behind(&standing.limits)
        };
        drop(standing);
        (self.saved.as_ref() != Some(&news)).then(|| Record::Standing(self.saved.insert(news).clone()))
    }

    /// What stays of it when its file goes: the operator's word, but no sentence of its faults.
    pub(super) fn left_behind(&self, limits: &LimitsOverride) -> Standing {
        let is_set = *limits != LimitsOverride::default();
        Standing {
            disabled: self.disabled,
            limits: is_set.then(|| serde_json::to_string(limits).unwrap_or_default()),
            ..unremarkable(self.plugin.name().as_str())
        }
    }

    /// Sets the limits that go before those of the sidecar, for the next call on. None if nothing is called by that.
    ///
    /// # Errors
    /// If the hub does not allow them; then nothing has changed.
    pub(super) fn limit(&mut self, limits: LimitsOverride) -> Result<Option<ChangeKind>, CommandError> {
        let mut standing = self.plugin.standing();
        if let Some(current) = &standing.current {
            let manifest = Manifest { limits_override: limits.clone(), ..current.manifest().clone() };
            self.generation += 1;
            let limited = current.under_accepted(manifest, self.generation)?;
            standing.current = Some(limited);
        }
        standing.limits = limits;
        let active = standing.state == State::Active;
        drop(standing);
        if active { self.serve(Terms::Regular).map(Some) } else { Ok(None) }
    }

    /// Puts a version that is ready in the place of the one before.
    pub(super) fn take_in(&mut self, version: Arc<Version>) -> Result<Option<ChangeKind>, LoadError> {
        let mut standing = self.plugin.standing();
        let version = if version.manifest().limits_override == standing.limits {
            version
        } else {
            // Set while it was being loaded.
            let manifest = Manifest { limits_override: standing.limits.clone(), ..version.manifest().clone() };
            version.under_accepted(manifest, version.generation())?
        };
        let same =
            |current: &Arc<Version>| current.hash() == version.hash() && current.manifest() == version.manifest();
        if standing.state == State::Active && standing.current.as_ref().is_some_and(same) {
            return Ok(None);
        }
        let was_sound = standing.is_sound();
        // Another sidecar makes no other file: what it allows holds at once, and no fault may bring back what it forbids.
        let replaced = standing.current.replace(version.clone()).filter(|current| current.hash() != version.hash());
        // One that faults like the one before is not worse, and that one no better.
        let terms = if replaced.is_some() && was_sound { Terms::Trial } else { Terms::Regular };
        let is_new = replaced.is_some();
        if replaced.is_some() {
            standing.previous = replaced;
        }
        if let Some((until, left)) = self.sentence.take()
            && !self.disabled
        {
            standing.state = State::Quarantined;
            standing.quarantined_until = Some((Instant::now() + left, until));
            return Ok(Some(ChangeKind::Quarantined { for_ms: left.as_millis() as u64 }));
        }
        if self.disabled {
            standing.state = State::Disabled;
        }
        if standing.rejected.as_ref().is_some_and(|rejected| rejected.hash == version.hash()) {
            standing.rejected = None;
        }
        drop(standing);
        self.quarantines = 0;
        if self.disabled {
            return Ok(None);
        }
        let mut change = self.serve(terms).ok();
        if let Some(ChangeKind::Activated { asks_beyond, .. }) = &mut change
            && is_new
        {
            *asks_beyond = self.plugin.standing().asks_beyond();
        }
        Ok(change)
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
                asks_beyond: None,
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

    /// Whether the version before takes the sidecar of today. For [`Slot::roll_back`].
    pub(super) async fn accept_previous(&self) -> Result<(), LoadError> {
        let versions = {
            let standing = self.plugin.standing();
            standing.previous.clone().zip(standing.current.clone())
        };
        match versions {
            Some((previous, current)) => previous.accept(current.manifest()).await,
            None => Ok(()),
        }
    }

    /// Brings the file before back, under the sidecar of today, which it takes or not. By itself,
    /// where that cannot be, it is put in quarantine instead.
    pub(super) fn roll_back(
        &mut self,
        automatic: bool,
        accepted: Result<(), LoadError>,
    ) -> Result<ChangeKind, CommandError> {
        match self.restore(automatic, accepted) {
            Err(error) if automatic => {
                tracing::warn!(plugin = %self.plugin.name(), %error, "not rolled back");
                Ok(self.quarantine())
            }
            result => result,
        }
    }

    fn restore(&mut self, automatic: bool, accepted: Result<(), LoadError>) -> Result<ChangeKind, CommandError> {
        let mut standing = self.plugin.standing();
        let (Some(previous), Some(current)) = (&standing.previous, &standing.current) else {
            let (name, found) = (self.plugin.name().clone(), "none".into());
            return Err(CommandError::State { name, expected: "a version before this one", found });
        };
        let restored = if previous.manifest() == current.manifest() {
            previous.clone()
        } else {
            self.generation += 1;
            let under = |()| previous.under_accepted(current.manifest().clone(), self.generation);
            accepted.and_then(under).inspect_err(|error| {
                self.plugin.stats().load_failed(error, Some(previous.sha256()));
            })?
        };
        let rejected = Rejected { hash: current.hash(), automatic };
        let generation = restored.generation();
        let replaced = standing.current.replace(restored);
        standing.rejected = Some(rejected);
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
        let time = quarantine_after(self.quarantines);
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

/// How long the next time in quarantine is, after so many in a row.
fn quarantine_after(before: u32) -> Duration {
    FIRST_QUARANTINE.saturating_mul(1 << before.min(16)).min(LONGEST_QUARANTINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarantines_begin_with_a_second_and_double_up_to_five_minutes() {
        let seconds: Vec<u64> = (0..11).chain([u32::MAX]).map(|before| quarantine_after(before).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }
}
