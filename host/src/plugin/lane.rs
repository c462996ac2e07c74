//! A lane: one handler plugin's cursor on the log, and everything between an event and its commit. Events are handed to the
//! version that is active when their call begins; failures are tried again with growing pauses; what cannot be handled is
//! dead-lettered and counted. [`order`] decides which events may be handled at once.
//!
//! A lane belongs to the plugin's name, not to a version: a reload changes what it calls, not where it stands. With a journal
//! that place is durable: each event is handled at least once, and its effects are committed exactly once (I8). Start reading
//! at `lane/worker.rs`; `lane/call.rs` is one attempt.

mod call;
mod finish;
mod front;
mod held;
mod order;
mod pace;
mod pipeline;
mod place;
mod retries;
mod settle;
mod worker;

use super::{
    Kind, Name,
    registry::{Plugin, Registry},
};
use crate::{bus::Bus, event::Event, journal::Change, question::Questions};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use worker::Lane;

/// How long the calls under way may take when the lanes end.
const LEAVE: Duration = Duration::from_secs(1);

/// The lanes of all handler plugins: one for each, for as long as the plugin is there.
pub struct Lanes {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Lanes {
    /// Opens a lane for each handler plugin that there is or comes to be. `loaded` ends once it is known which there are.
    pub fn start(bus: Bus, plugins: Registry, questions: Questions, loaded: oneshot::Receiver<()>) -> Self {
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(forget_absent(bus.clone(), plugins.clone(), loaded)));
        let task = tokio::spawn(tend(bus, plugins, questions, stop.clone()));
        Self { stop, task }
    }

    /// Ends them; calls that are under way are dropped. To let them finish, stop the bus first.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

async fn tend(bus: Bus, plugins: Registry, questions: Questions, stop: CancellationToken) {
    let mut running: Vec<(Arc<Plugin>, CancellationToken)> = Vec::new();
    let mut lanes = JoinSet::new();
    // Two lanes of one name would handle the same events: the second begins when the first has ended.
    let mut turns: HashMap<Name, Arc<Mutex<()>>> = HashMap::new();
    let mut changes = plugins.watch();
    // Where the log stood when a plugin was first seen, its first version still being loaded: its lane starts there.
    let mut seen: Vec<(Arc<Plugin>, u64)> = Vec::new();
    loop {
        let all: Vec<Arc<Plugin>> = changes.borrow_and_update().values().cloned().collect();
        seen.retain(|(plugin, _)| all.iter().any(|other| Arc::ptr_eq(plugin, other)));
        for plugin in &all {
            if !seen.iter().any(|(other, _)| Arc::ptr_eq(plugin, other)) {
                seen.push((plugin.clone(), bus.log().head() + 1));
            }
        }
        let handlers: Vec<Arc<Plugin>> =
            all.into_iter().filter(|plugin| plugin.kind() == Some(Kind::Handler)).collect();
        // The same plugin, not only the same name: a file that was removed and put back is a new one.
        running.retain(|(plugin, stop)| {
            let there = handlers.iter().any(|other| Arc::ptr_eq(plugin, other));
            if !there {
                stop.cancel();
            }
            there
        });
        for plugin in handlers {
            if !running.iter().any(|(other, _)| Arc::ptr_eq(&plugin, other)) {
                let stop = CancellationToken::new();
                let from = seen.iter().find(|(other, _)| Arc::ptr_eq(&plugin, other)).map(|(_, from)| *from);
                let from = from.unwrap_or_else(|| bus.log().head() + 1);
                let lane = Lane::new(bus.clone(), plugin.clone(), plugins.clone(), questions.clone());
                let (turn, stopped) = (turns.entry(plugin.name().clone()).or_default().clone(), stop.clone());
                lanes.spawn(async move {
                    let _turn = turn.lock().await;
                    lane.run(from, stopped).await;
                });
                running.push((plugin, stop));
            }
        }
        while lanes.try_join_next().is_some() {}
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
    }
    for (_, stop) in running {
        stop.cancel();
    }
    let _ = timeout(LEAVE, async { while lanes.join_next().await.is_some() {} }).await;
    lanes.shutdown().await;
}

/// Handlers whose plugins went while the hub was down: retention does not wait for them.
async fn forget_absent(bus: Bus, plugins: Registry, loaded: oneshot::Receiver<()>) {
    let Some(journal) = bus.log().journal() else { return };
    if loaded.await.is_err() {
        return;
    }
    let handlers = match journal.handlers().await {
        Ok(handlers) => handlers,
        Err(error) => return tracing::warn!(%error, "cannot read which handlers there were"),
    };
    let is_handler = |name: &Arc<str>| plugins.get(name).is_some_and(|plugin| plugin.kind() != Some(Kind::Filter));
    let absent = handlers.into_iter().filter(|name| !is_handler(name));
    let removed: Vec<Change> = absent.map(|plugin| Change::Removed { plugin }).collect();
    if !removed.is_empty()
        && let Err(error) = bus.log().record(Vec::new(), removed).await
    {
        tracing::warn!(%error, "retention waits for handlers that are gone");
    }
}

/// An event on its way.
#[derive(Debug, Clone)]
struct Job {
    event: Arc<Event>,
    attempt: u32,
    /// The journal knows that it is to be tried again, and has to be told when that is over.
    recorded: bool,
    /// One of its attempts has counted as a fault of the plugin's.
    faulted: bool,
    /// How often this attempt was run again because another call had changed what it read.
    conflicts: u32,
}
