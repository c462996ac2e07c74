//! What operators and faults ask of the registry's task, and how it carries that out.

use super::Actor;
use crate::plugin::{
    LimitsOverride, Name,
    registry::{ChangeKind, CommandError, plugin::Plugin, slot::Slot},
};
use std::sync::Arc;
use tokio::sync::oneshot;

pub(in crate::plugin::registry) type Answer = oneshot::Sender<Result<(), CommandError>>;

/// What the task is asked to do.
#[derive(Debug)]
pub(in crate::plugin::registry) enum Command {
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
    Promote {
        plugin: Arc<Plugin>,
        answer: Answer,
    },
    Limit {
        plugin: Arc<Plugin>,
        limits: Box<LimitsOverride>,
        answer: Answer,
    },
    /// The hub is stopping.
    StopLoading {
        answer: oneshot::Sender<()>,
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

impl Actor {
    pub(super) async fn carry_out(&mut self, command: Command) {
        match command {
            Command::Reload { plugin, answer } => match self.slots.get_mut(plugin.name()) {
                Some(slot) => {
                    slot.waiting.push(answer);
                    self.enqueue(plugin.name().clone());
                }
                None => drop(answer.send(Err(CommandError::Unknown(plugin.name().to_string())))),
            },
            Command::Enable { plugin, answer } => self.enable(plugin.name(), answer).await,
            Command::Disable { plugin, answer } => drop(answer.send(self.change(plugin.name(), Slot::disable).await)),
            Command::Rollback { plugin, answer } => {
                drop(answer.send(self.roll_back(plugin.name(), false).await));
            }
            Command::Promote { plugin, answer } => self.promote(plugin.name(), answer).await,
            Command::Limit { plugin, limits, answer } => {
                drop(answer.send(self.limit(plugin.name(), *limits).await));
            }
            Command::StopLoading { answer } => {
                self.is_stopping = true;
                // Dropped, a load ends its compiler.
                tokio::join!(self.loads.shutdown(), self.candidates.shutdown());
                self.refuse_loads();
                let _ = answer.send(());
            }
            Command::RollBack { name, generation } => {
                if self.is_current(&name, generation) {
                    let _ = self.roll_back(&name, true).await;
                }
            }
            Command::Quarantine { name, generation } => {
                if self.is_current(&name, generation) {
                    let _ = self.change(&name, |slot| Ok(slot.quarantine())).await;
                }
            }
        }
    }

    pub(super) fn refuse_loads(&mut self) {
        self.queue.clear();
        for answer in self.slots.values_mut().flat_map(Slot::waiting_for_loads) {
            let _ = answer.send(Err(CommandError::Stopped));
        }
    }

    /// Whether what was said of a generation still is of interest.
    fn is_current(&self, name: &Name, generation: u64) -> bool {
        self.slots
            .get(name)
            .and_then(|slot| slot.plugin.active())
            .is_some_and(|active| active.generation() == generation)
    }

    pub(super) async fn change(
        &mut self,
        name: &Name,
        change: impl FnOnce(&mut Slot) -> Result<ChangeKind, CommandError>,
    ) -> Result<(), CommandError> {
        let slot = self.slots.get_mut(name).ok_or_else(|| CommandError::Unknown(name.to_string()))?;
        let change = change(slot)?;
        self.changed(name, Some(change)).await;
        Ok(())
    }

    async fn roll_back(&mut self, name: &Name, automatic: bool) -> Result<(), CommandError> {
        let accepted = match self.slots.get(name) {
            Some(slot) => slot.accept_previous().await,
            None => Ok(()),
        };
        self.change(name, |slot| slot.roll_back(automatic, accepted)).await
    }

    /// Undoes what its faults did to it: a quarantine, and a rollback by itself.
    async fn enable(&mut self, name: &Name, answer: Answer) {
        let result = self.change(name, Slot::enable).await;
        let slot = self.slots.get_mut(name).filter(|_| result.is_ok());
        let rolled_back = |slot: &&mut Slot| slot.plugin.standing().rejected.as_ref().is_some_and(|it| it.automatic);
        match slot.filter(rolled_back) {
            Some(slot) => {
                slot.waiting.push(answer);
                self.enqueue(name.clone());
            }
            None => drop(answer.send(result)),
        }
    }

    async fn limit(&mut self, name: &Name, limits: LimitsOverride) -> Result<(), CommandError> {
        let slot = self.slots.get_mut(name).ok_or_else(|| CommandError::Unknown(name.to_string()))?;
        let change = slot.limit(limits)?;
        if slot.plugin.current().is_none() {
            // Those before may be why there is none.
            self.enqueue(name.clone());
        }
        self.changed(name, change).await;
        Ok(())
    }

    /// Shows it, tells it, and keeps it.
    async fn changed(&mut self, name: &Name, change: Option<ChangeKind>) {
        let record = self.slots.get_mut(name).and_then(Slot::news);
        self.publish();
        if let Some(change) = change {
            self.tell(name, change);
        }
        // Whoever asked is told once it will still be so after a restart.
        if let Some(record) = record {
            (self.save)(record).await;
        }
    }
}
