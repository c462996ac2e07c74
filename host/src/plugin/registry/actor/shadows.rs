//! Candidates: loads the files that sidecars name as `shadow`, beside the versions that they are compared with, and puts one in its
//! plugin's place when an operator says so.

use super::{Actor, Answer, LOADS, Slot};
use crate::plugin::{
    LoadError, Name, Version,
    directory::{self, Moved, Print},
    registry::{CommandError, load::load_candidate, plugin::Plugin, shadow::Shadow},
};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc};

/// What a comparison is between: when one of them changes, it begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plugin::registry) struct Pair {
    file: Name,
    found: Print,
    generation: u64,
}

/// A candidate that was loaded, for which plugin, and what its comparison is between.
pub(super) type Candidate = (Arc<Plugin>, Pair, Result<Arc<Version>, LoadError>);

impl Actor {
    /// Begins comparisons that there should be, and ends those that there should not.
    pub(super) fn tend_shadows(&mut self) {
        for slot in self.slots.values_mut() {
            let wanted = slot.plugin.current().and_then(|current| {
                let file = current.manifest().shadow.as_ref()?.0.clone();
                let found = *self.shadows.get(&file)?;
                Some(Pair { file, found, generation: current.generation() })
            });
            if slot.pair != wanted {
                slot.plugin.set_shadow(None);
                slot.pair_due = wanted.is_some();
                slot.pair = wanted;
            }
        }
        self.load_candidates();
    }

    fn load_candidates(&mut self) {
        if self.is_stopping {
            return;
        }
        for slot in self.slots.values_mut().filter(|slot| slot.pair_due) {
            if self.loads.len() + self.candidates.len() >= LOADS {
                return;
            }
            let (Some(pair), Some(current)) = (slot.pair.clone(), slot.plugin.current()) else { continue };
            slot.pair_due = false;
            let (engine, dir, plugin) = (self.engine.clone(), self.dir.clone(), slot.plugin.clone());
            self.candidates.spawn(async move {
                let load = load_candidate(&engine, dir, &pair.file, &current);
                let result = AssertUnwindSafe(load).catch_unwind().await;
                let panicked = |_| Err(LoadError::Compile("the hub's own code panicked over it".into()));
                (plugin, pair, result.unwrap_or_else(panicked))
            });
        }
    }

    pub(super) fn candidate_loaded(&mut self, (plugin, pair, result): Candidate) {
        let name = plugin.name();
        // Another one by now, or none.
        let is_wanted = |slot: &&Slot| Arc::ptr_eq(&slot.plugin, &plugin) && slot.pair.as_ref() == Some(&pair);
        if self.slots.get(name).filter(is_wanted).is_some() {
            let file = &pair.file;
            match &result {
                Ok(_) => tracing::info!(plugin = %name, "compared with {file}.wasm"),
                Err(error) => tracing::warn!(plugin = %name, code = error.code(), %error, "no shadow of {file}.wasm"),
            }
            // At once one after the other: what is told from here on is not in its memory yet.
            let (watch, memory) = (plugin.feed().watch(), plugin.namespace().detached());
            let candidate = result.and_then(|version| version.with_memory(memory));
            plugin.set_shadow(Some(Shadow::start(pair.file, candidate, watch, self.engine.slow().handle())));
        }
        self.load_candidates();
    }

    /// Moves the candidate's file over that of its plugin, which is then loaded like any other that has changed.
    pub(super) async fn promote(&mut self, name: &Name, answer: Answer) {
        match self.move_into_place(name).await {
            Ok(()) => match self.slots.get_mut(name) {
                Some(slot) => {
                    slot.plugin.standing().rejected = None;
                    slot.waiting.push(answer);
                    self.enqueue(name.clone());
                }
                None => drop(answer.send(Err(CommandError::Unknown(name.to_string())))),
            },
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    async fn move_into_place(&self, name: &Name) -> Result<(), CommandError> {
        let slot = self.slots.get(name).ok_or_else(|| CommandError::Unknown(name.to_string()))?;
        let Some(shadow) = slot.plugin.shadow() else {
            let found = if slot.pair.is_some() { "one that is being loaded" } else { "none" }.to_owned();
            return Err(CommandError::State { name: name.clone(), expected: "a shadow to promote", found });
        };
        let (dir, owner, file, compared) = (self.dir.clone(), name.clone(), shadow.file().clone(), shadow.hash()?);
        let (from, to) = (format!("{file}.wasm"), format!("{name}.wasm"));
        let moved = tokio::task::spawn_blocking(move || directory::move_over(&dir, &file, &owner, compared)).await;
        match moved.map_err(|_| CommandError::Stopped)?? {
            Moved::Yes => Ok(()),
            Moved::Changed => {
                let found = format!("{from} with other bytes than were compared");
                Err(CommandError::State { name: name.clone(), expected: "the file that was compared", found })
            }
            Moved::Refused(error) => Err(CommandError::Directory { from, to, error: Arc::new(error) }),
        }
    }
}
