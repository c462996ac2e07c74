//! The registry's task: looks at the directory, loads what changed, one load at a time for each plugin, and carries out what
//! operators and faults ask for. The only place where a plugin's standing changes.

use super::{
    Change, ChangeKind, CommandError, Shared,
    plugin::{Plugin, State},
};
use crate::{
    kv::Store,
    plugin::{
        Engine, LoadError, Manifest, Name, Source, Version,
        directory::{self, Found, Picture},
        watcher::Watcher,
    },
};
use chrono::Utc;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// First time in quarantine; doubles each time.
const FIRST_QUARANTINE: Duration = Duration::from_secs(1);
/// Longest time in quarantine.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(300);
/// Without a quarantine for so long, the next one is short again.
const FORGIVEN: Duration = Duration::from_secs(600);
/// Plugins loaded at once: compiling takes a core each.
const LOADS: usize = 2;

pub(super) type Answer = oneshot::Sender<Result<(), CommandError>>;

/// What the task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Reload {
        plugin: Arc<Plugin>,
        answer: Answer,
    },
    Enable {
        plugin: Arc<Plugin>,
        answer: Answer,
    },
    Disable {
        plugin: Arc<Plugin>,
        answer: Answer,
    },
    Rollback {
        plugin: Arc<Plugin>,
        answer: Answer,
    },
    /// A new version faulted on trial.
    RollBack {
        name: Name,
        generation: u64,
    },
    /// A version faulted too often.
    Quarantine {
        name: Name,
        generation: u64,
    },
}

/// What only this task knows of a plugin.
struct Slot {
    plugin: Arc<Plugin>,
    /// What was loaded last, or tried to be.
    found: Option<Found>,
    generation: u64,
    loading: bool,
    waiting: Vec<Answer>,
    quarantines: u32,
    quarantined_at: Option<Instant>,
    /// The operator's word through the API; the sidecar's `enabled` is in the version's manifest.
    disabled: bool,
}

pub(super) struct Actor {
    shared: Weak<Shared>,
    engine: Arc<Engine>,
    store: Store,
    dir: PathBuf,
    slots: BTreeMap<Name, Slot>,
    /// Names to load, first come first served.
    queue: Vec<Name>,
    loads: JoinSet<(Name, Result<Arc<Version>, LoadError>)>,
    look_again: Option<Instant>,
    loaded: Option<oneshot::Sender<()>>,
}

impl Actor {
    pub(super) fn new(
        shared: Weak<Shared>,
        engine: Arc<Engine>,
        store: Store,
        dir: PathBuf,
        loaded: oneshot::Sender<()>,
    ) -> Self {
        let (slots, queue, loads) = (BTreeMap::new(), Vec::new(), JoinSet::new());
        Self { shared, engine, store, dir, slots, queue, loads, look_again: None, loaded: Some(loaded) }
    }

    /// Runs until the last [`super::Registry`] is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut watcher = Watcher::new(&self.dir);
        self.look().await;
        loop {
            self.load_next();
            if self.queue.is_empty() && self.loads.is_empty() && self.look_again.is_none() {
                // The first look is done with: whoever waited for it can go on.
                self.loaded.take().map(|loaded| loaded.send(()));
            }
            let alarm = [self.look_again, self.next_parole()].into_iter().flatten().min();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.carry_out(command),
                    None => return,
                },
                Some(loaded) = self.loads.join_next() => if let Ok((name, result)) = loaded {
                    self.loaded(&name, result);
                },
                () = watcher.changed() => self.look().await,
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {
                    if self.look_again.is_some_and(|at| at <= Instant::now()) {
                        self.look().await;
                    }
                    self.parole();
                }
            }
        }
    }

    /// Compares the directory with what is known of it.
    async fn look(&mut self) {
        self.look_again = None;
        let dir = self.dir.clone();
        let looked = tokio::task::spawn_blocking(move || directory::scan(&dir)).await;
        let picture = match looked {
            Ok(Ok(picture)) => picture,
            Ok(Err(error)) => {
                return tracing::warn!(%error, dir = %self.dir.display(), "cannot read the plugin directory");
            }
            Err(_) => return,
        };
        self.look_again = picture.look_again.map(|wait| Instant::now() + wait);
        self.note_refused(&picture);
        let gone: Vec<Name> = self.slots.keys().filter(|name| !picture.plugins.contains_key(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
        let mut appeared = false;
        for (name, found) in picture.plugins {
            appeared |= !self.slots.contains_key(&name);
            let slot = self.slots.entry(name.clone()).or_insert_with(|| {
                let commands = self.shared.upgrade().map(|shared| shared.commands.downgrade());
                // The registry is there for as long as this task runs, but for the moment in which it ends.
                let commands = commands.unwrap_or_else(|| mpsc::channel(1).0.downgrade());
                Slot::new(Plugin::new(name.clone(), self.store.namespace(name.as_str()), commands))
            });
            if slot.found.as_ref() != Some(&found) && !picture.unsettled.contains(&name) {
                slot.found = Some(found);
                self.enqueue(name);
            }
        }
        if appeared {
            self.publish();
        }
    }

    fn note_refused(&self, picture: &Picture) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, reason) in picture.refused.iter().filter(|(file, _)| !refused.contains_key(*file)) {
            tracing::warn!(file, reason, "not a plugin");
        }
        refused.clone_from(&picture.refused);
    }

    fn enqueue(&mut self, name: Name) {
        if !self.queue.contains(&name) {
            self.queue.push(name);
        }
    }

    /// Begins as many loads as may run at once, never two of one plugin.
    fn load_next(&mut self) {
        while self.loads.len() < LOADS {
            let free = |name: &Name| self.slots.get(name).is_none_or(|slot| !slot.loading);
            let Some(index) = self.queue.iter().position(free) else { return };
            let name = self.queue.remove(index);
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            slot.loading = true;
            slot.generation += 1;
            let (engine, dir, plugin, generation) =
                (self.engine.clone(), self.dir.clone(), slot.plugin.clone(), slot.generation);
            self.loads.spawn(async move {
                let result = load(&engine, dir, &plugin, generation).await;
                (name, result)
            });
        }
    }

    fn loaded(&mut self, name: &Name, result: Result<Arc<Version>, LoadError>) {
        // Removed while it was loading.
        let Some(slot) = self.slots.get_mut(name) else { return };
        slot.loading = false;
        let waiting = std::mem::take(&mut slot.waiting);
        let error = result.as_ref().err().cloned();
        let change = match result {
            Ok(version) => slot.take_in(version),
            Err(error) => {
                tracing::warn!(plugin = %name, code = error.code(), %error, "not loaded");
                let mut standing = slot.plugin.standing();
                if standing.current.is_none() {
                    standing.state = State::Failed;
                }
                Some(ChangeKind::Failed(error))
            }
        };
        if let Some(change) = change {
            self.tell(name, change);
        }
        self.publish();
        for answer in waiting {
            let _ = answer.send(error.clone().map_or(Ok(()), |error| Err(error.into())));
        }
    }

    fn remove(&mut self, name: &Name) {
        let Some(slot) = self.slots.remove(name) else { return };
        slot.plugin.activate(None, false);
        slot.plugin.gone().cancel();
        tracing::info!(plugin = %name, "removed");
        self.publish();
        self.tell(name, ChangeKind::Removed);
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Reload { plugin, answer } => match self.slots.get_mut(plugin.name()) {
                Some(slot) => {
                    slot.waiting.push(answer);
                    self.enqueue(plugin.name().clone());
                }
                None => drop(answer.send(Err(CommandError::Unknown(plugin.name().to_string())))),
            },
            Command::Enable { plugin, answer } => drop(answer.send(self.change(plugin.name(), Slot::enable))),
            Command::Disable { plugin, answer } => drop(answer.send(self.change(plugin.name(), Slot::disable))),
            Command::Rollback { plugin, answer } => {
                drop(answer.send(self.change(plugin.name(), |slot| slot.roll_back(false))));
            }
            Command::RollBack { name, generation } => {
                if self.is_current(&name, generation) {
                    let _ = self.change(&name, |slot| slot.roll_back(true));
                }
            }
            Command::Quarantine { name, generation } => {
                if self.is_current(&name, generation) {
                    let _ = self.change(&name, |slot| Ok(slot.quarantine()));
                }
            }
        }
    }

    /// Whether what was said of a generation still is of interest.
    fn is_current(&self, name: &Name, generation: u64) -> bool {
        self.slots
            .get(name)
            .and_then(|slot| slot.plugin.active())
            .is_some_and(|active| active.generation() == generation)
    }

    fn change(
        &mut self,
        name: &Name,
        change: impl FnOnce(&mut Slot) -> Result<ChangeKind, CommandError>,
    ) -> Result<(), CommandError> {
        let slot = self.slots.get_mut(name).ok_or_else(|| CommandError::Unknown(name.to_string()))?;
        let change = change(slot)?;
        self.publish();
        self.tell(name, change);
        Ok(())
    }

    fn next_parole(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.plugin.standing().quarantined_until.map(|(at, _)| at)).min()
    }

    /// Tries those again whose time in quarantine is over.
    fn parole(&mut self) {
        let now = Instant::now();
        let over = |slot: &Slot| slot.plugin.standing().quarantined_until.is_some_and(|(at, _)| at <= now);
        let names: Vec<Name> = self.slots.iter().filter(|(_, slot)| over(slot)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let _ = self.change(&name, |slot| slot.serve(true));
        }
    }

    /// Shows which plugins there are.
    fn publish(&self) {
        if let Some(shared) = self.shared.upgrade() {
            let plugins = self.slots.iter().map(|(name, slot)| (name.clone(), slot.plugin.clone())).collect();
            shared.plugins.send_replace(Arc::new(plugins));
        }
    }

    fn tell(&self, name: &Name, kind: ChangeKind) {
        tracing::info!(plugin = %name, change = ?kind, "plugin");
        if let Some(shared) = self.shared.upgrade() {
            // Nobody listens: then nobody is told.
            let _ = shared.changes.send(Change { name: name.clone(), kind });
        }
    }
}

impl Slot {
    fn new(plugin: Plugin) -> Self {
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
    fn take_in(&mut self, version: Arc<Version>) -> Option<ChangeKind> {
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
    fn serve(&mut self, paroled: bool) -> Result<ChangeKind, CommandError> {
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

    fn enable(&mut self) -> Result<ChangeKind, CommandError> {
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

    fn disable(&mut self) -> Result<ChangeKind, CommandError> {
        self.disabled = true;
        let mut standing = self.plugin.standing();
        standing.state = State::Disabled;
        standing.quarantined_until = None;
        drop(standing);
        self.plugin.activate(None, false);
        Ok(ChangeKind::Disabled)
    }

    fn roll_back(&mut self, automatic: bool) -> Result<ChangeKind, CommandError> {
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

    fn quarantine(&mut self) -> ChangeKind {
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

/// Everything from the file to a version that is ready. What goes wrong is the plugin's last error.
async fn load(engine: &Arc<Engine>, dir: PathBuf, plugin: &Plugin, generation: u64) -> Result<Arc<Version>, LoadError> {
    let name = plugin.name().clone();
    let read_name = name.clone();
    let read = move || {
        let text = directory::read_manifest(&dir, &read_name)?;
        let bytes = directory::read_component(&dir, &read_name)?;
        Ok::<_, LoadError>((text, bytes))
    };
    let result = async {
        let read = tokio::task::spawn_blocking(read).await;
        let (text, bytes) = read.map_err(|error| LoadError::Io(Arc::new(std::io::Error::other(error))))??;
        let manifest = Manifest::parse(text.as_deref().unwrap_or_default())?;
        let (namespace, stats) = (plugin.namespace().clone(), plugin.stats().clone());
        Version::load(engine, Source { name, bytes, manifest, generation, namespace, stats }).await
    };
    result.await.inspect_err(|error| plugin.stats().load_failed(error, None))
}
