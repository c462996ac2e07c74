//! The registry's task: looks at the directory, loads what changed, one load at a time for each plugin, and carries out what
//! operators and faults ask for. The only place where a plugin's standing changes.

mod commands;
mod shadows;

pub(super) use commands::{Answer, Command};
pub(super) use shadows::Pair;

use super::{
    Change, ChangeKind, CommandError, Kept, Save, Shared,
    load::{Order, load},
    plugin::{Plugin, State, Terms},
    slot::Slot,
};
use crate::{
    journal::Standing,
    kv::Store,
    plugin::{
        Engine, LoadError, Name, Version,
        directory::{self, Found, Named, Picture, Print},
        watcher::Watcher,
    },
};
use futures_util::FutureExt;
use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Plugins loaded at once: compiling takes a core each.
const LOADS: usize = 2;

/// Most plugins. Other files are refused.
const MAX_PLUGINS: usize = 4_096;

/// At the start, files that somebody is writing to are waited for so long, and no longer: one that is written to for ever
/// does not keep the hub from being ready.
const UNSETTLED: Duration = Duration::from_secs(2);

/// When the directory could not be read, it is looked at again after this.
const UNREADABLE: Duration = Duration::from_secs(1);

/// How a load ended, and whose it was.
type Loaded = (Arc<Plugin>, Result<Arc<Version>, LoadError>);

pub(super) struct Actor {
    shared: Weak<Shared>,
    engine: Arc<Engine>,
    store: Store,
    dir: PathBuf,
    slots: BTreeMap<Name, Slot>,
    /// Names to load, first come first served.
    queue: Vec<Name>,
    loads: JoinSet<Loaded>,
    /// Loads of files that are to be compared.
    candidates: JoinSet<shadows::Candidate>,
    /// Files that are, and which sidecar says so.
    shadows: BTreeMap<Name, Print>,
    named: Named,
    /// The last generation of names that are gone: should they come back, theirs go on.
    generations: BTreeMap<Name, u64>,
    /// How plugins that have not been seen yet stood when the hub ended.
    standings: BTreeMap<Arc<str>, Standing>,
    save: Save,
    look_again: Option<Instant>,
    /// The directory could be read once.
    looked: bool,
    /// No load is begun any more.
    is_stopping: bool,
    loaded: Option<oneshot::Sender<()>>,
}

impl Actor {
    pub(super) fn new(
        shared: Weak<Shared>,
        engine: Arc<Engine>,
        kept: Kept,
        dir: PathBuf,
        loaded: oneshot::Sender<()>,
    ) -> Self {
        let Kept { store, standings, save } = kept;
        Self {
            shared,
            engine,
            store,
            dir,
            slots: BTreeMap::new(),
            queue: Vec::new(),
            loads: JoinSet::new(),
            candidates: JoinSet::new(),
            shadows: BTreeMap::new(),
            named: Named::new(),
            generations: BTreeMap::new(),
            standings: standings.into_iter().map(|standing| (standing.plugin.clone(), standing)).collect(),
            save,
            look_again: None,
            looked: false,
            is_stopping: false,
            loaded: Some(loaded),
        }
    }

    /// Runs until the last [`super::Registry`] is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (mut watcher, began) = (Watcher::new(&self.dir), Instant::now());
        self.look().await;
        loop {
            self.load_next();
            self.tend_shadows();
            let settled = self.look_again.is_none() || began.elapsed() > UNSETTLED;
            if self.looked && self.queue.is_empty() && self.loads.is_empty() && settled {
                // The first look is done with: whoever waited for it can go on.
                self.loaded.take().map(|loaded| loaded.send(()));
            }
            let alarm = [self.look_again, self.next_parole()].into_iter().flatten().min();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.carry_out(command).await,
                    None => return,
                },
                Some(loaded) = self.loads.join_next() => if let Ok((plugin, result)) = loaded {
                    self.loaded(&plugin, result).await;
                },
                Some(loaded) = self.candidates.join_next() => if let Ok(candidate) = loaded {
                    self.candidate_loaded(candidate);
                },
                () = watcher.changed() => self.look().await,
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {
                    if self.look_again.is_some_and(|at| at <= Instant::now()) {
                        self.look().await;
                    }
                    self.parole().await;
                }
            }
        }
    }

    /// Compares the directory with what is known of it.
    async fn look(&mut self) {
        self.look_again = None;
        let (dir, named) = (self.dir.clone(), std::mem::take(&mut self.named));
        let looked = tokio::task::spawn_blocking(move || directory::scan(&dir, &named)).await;
        let mut picture = match looked {
            Ok(Ok(picture)) => picture,
            Ok(Err(error)) => {
                self.look_again_at(Instant::now() + UNREADABLE);
                return tracing::warn!(%error, dir = %self.dir.display(), "cannot read the plugin directory");
            }
            Err(_) => return,
        };
        self.looked = true;
        self.named = std::mem::take(&mut picture.named);
        self.shadows = std::mem::take(&mut picture.shadows);
        self.look_again = picture.look_again.map(|wait| Instant::now() + wait);
        picture.limit(MAX_PLUGINS, |name| self.slots.contains_key(name));
        self.note_refused(&picture);
        let is_missing = |name: &Name| !picture.plugins.contains_key(name) && !picture.unreadable.contains(name);
        let missing: Vec<Name> = self.slots.keys().filter(|name| is_missing(name)).cloned().collect();
        for name in missing {
            // Its file is there, and is not to be called on its own any more.
            let is_shadow = self.shadows.contains_key(&name);
            match self.slots.get_mut(&name).and_then(Slot::missing).filter(|_| !is_shadow) {
                Some(at) => self.look_again_at(at),
                None => self.remove(&name),
            }
        }
        self.shadows.retain(|file, _| !picture.unsettled.contains(file));
        let mut appeared = false;
        for (name, found) in picture.plugins {
            if let Some(at) = self.slots.get_mut(&name).and_then(|slot| bare(slot, &found)) {
                self.look_again_at(at);
                continue;
            }
            appeared |= !self.slots.contains_key(&name);
            let generation = self.generations.remove(&name).unwrap_or(0);
            let slot = self.slots.entry(name.clone()).or_insert_with(|| {
                let shared = self.shared.upgrade();
                let ways = shared.map(|shared| (shared.commands.downgrade(), shared.changes.downgrade()));
                // The registry is there for as long as this task runs, but for the moment in which it ends.
                let nowhere = || (mpsc::channel(1).0.downgrade(), broadcast::Sender::new(1).downgrade());
                let (commands, changes) = ways.unwrap_or_else(nowhere);
                let plugin = Plugin::new(name.clone(), self.store.namespace(name.as_str()), commands, changes);
                Slot::new(plugin, generation, self.standings.remove(name.as_str()))
            });
            slot.missing_since = None;
            if slot.found.as_ref() != Some(&found) && !picture.unsettled.contains(&name) {
                if slot.found.as_ref().is_some_and(|before| before.wasm != found.wasm) {
                    slot.plugin.standing().rejected = None;
                }
                slot.found = Some(found);
                self.enqueue(name);
            }
        }
        if appeared {
            self.publish();
        }
    }

    fn look_again_at(&mut self, at: Instant) {
        self.look_again = Some(self.look_again.map_or(at, |other| other.min(at)));
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
        if self.is_stopping {
            return self.refuse_loads();
        }
        while self.loads.len() < LOADS {
            let free = |name: &Name| self.slots.get(name).is_none_or(|slot| !slot.loading);
            let Some(index) = self.queue.iter().position(free) else { return };
            let name = self.queue.remove(index);
            let Some(slot) = self.slots.get_mut(&name) else { continue };
            slot.loading = true;
            slot.generation += 1;
            slot.answering = std::mem::take(&mut slot.waiting);
            let asked = !slot.answering.is_empty();
            slot.loads_sidecar = slot.found.as_ref().is_some_and(|found| found.toml.is_some());
            let sidecar = !asked && (slot.loads_sidecar || slot.has_sidecar);
            if asked && !slot.loads_sidecar {
                // Its shadow was named by the sidecar that is gone.
                self.named.remove(&name);
            }
            let rejected = slot.plugin.standing().rejected.as_ref().map(|rejected| rejected.hash);
            let instead = rejected.filter(|_| !asked).zip(slot.plugin.current());
            let order = Order { generation: slot.generation, sidecar, asked, instead };
            let (engine, dir, plugin) = (self.engine.clone(), self.dir.clone(), slot.plugin.clone());
            self.loads.spawn(async move {
                let result = AssertUnwindSafe(load(&engine, dir, &plugin, order)).catch_unwind().await;
                let panicked = |_| Err(LoadError::Compile("the hub's own code panicked over it".into()));
                (plugin, result.unwrap_or_else(panicked))
            });
        }
    }

    async fn loaded(&mut self, plugin: &Arc<Plugin>, result: Result<Arc<Version>, LoadError>) {
        let name = plugin.name();
        // Removed while it was loading; another of that name may be there.
        let Some(slot) = self.slots.get_mut(name).filter(|slot| Arc::ptr_eq(&slot.plugin, plugin)) else { return };
        slot.loading = false;
        let answering = std::mem::take(&mut slot.answering);
        for lacks in result.iter().flat_map(|version| version.grants().lacks()) {
            tracing::warn!(plugin = %name, "{lacks}");
        }
        let taken = result.and_then(|version| slot.take_in(version));
        if taken.is_ok() {
            slot.has_sidecar = slot.loads_sidecar;
        }
        let error = taken.as_ref().err().cloned();
        let change = match taken {
            Ok(change) => change,
            Err(error) => {
                tracing::warn!(plugin = %name, code = error.code(), %error, "not loaded");
                let mut standing = slot.plugin.standing();
                if standing.current.is_none() {
                    standing.state = State::Failed;
                }
                Some(ChangeKind::Failed(error))
            }
        };
        let record = slot.news();
        if let Some(change) = change {
            self.tell(name, change);
        }
        self.publish();
        if let Some(record) = record {
            (self.save)(record).await;
        }
        for answer in answering {
            let _ = answer.send(error.clone().map_or(Ok(()), |error| Err(error.into())));
        }
    }

    fn remove(&mut self, name: &Name) {
        let Some(slot) = self.slots.remove(name) else { return };
        self.generations.insert(name.clone(), slot.generation);
        let left = slot.left_behind(&slot.plugin.standing().limits);
        self.standings.insert(left.plugin.clone(), left);
        slot.plugin.activate(None, Terms::Regular);
        slot.plugin.gone().cancel();
        for answer in slot.waiting.into_iter().chain(slot.answering) {
            let _ = answer.send(Err(CommandError::Unknown(name.to_string())));
        }
        self.publish();
        self.tell(name, ChangeKind::Removed);
    }

    fn next_parole(&self) -> Option<Instant> {
        self.slots.values().filter_map(|slot| slot.plugin.standing().quarantined_until.map(|(at, _)| at)).min()
    }

    /// Tries those again whose time in quarantine is over.
    async fn parole(&mut self) {
        let now = Instant::now();
        let over = |slot: &Slot| slot.plugin.standing().quarantined_until.is_some_and(|(at, _)| at <= now);
        let names: Vec<Name> = self.slots.iter().filter(|(_, slot)| over(slot)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let _ = self.change(&name, |slot| slot.serve(Terms::Parole)).await;
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
        match &kind {
            ChangeKind::Activated { version, generation, asks_beyond, .. } => {
                tracing::info!(plugin = %name, version, generation, "activated");
                if let Some(beyond) = asks_beyond {
                    tracing::warn!(plugin = %name, version, "asks for more than the version before: {beyond}");
                }
            }
            // Said with its reason where it happened.
            ChangeKind::Failed(_) | ChangeKind::Faulted(_) => {}
            ChangeKind::RolledBack { generation, automatic } => {
                tracing::warn!(plugin = %name, generation, automatic, "rolled back");
            }
            ChangeKind::Quarantined { for_ms } => tracing::warn!(plugin = %name, for_ms, "in quarantine"),
            ChangeKind::Disabled => tracing::info!(plugin = %name, "disabled"),
            ChangeKind::Removed => tracing::info!(plugin = %name, "removed"),
        }
        if let Some(shared) = self.shared.upgrade() {
            // Nobody listens: then nobody is told.
            let _ = shared.changes.send(Change { name: name.clone(), kind });
        }
    }
}

/// When to look again at a plugin that seems to have lost its sidecar; none if it has not, or has for good. Without it, it
/// would have everything that it asks for.
fn bare(slot: &mut Slot, found: &Found) -> Option<Instant> {
    let had = slot.found.as_ref().is_some_and(|found| found.toml.is_some());
    if had && found.toml.is_none() { slot.missing() } else { None }
}
