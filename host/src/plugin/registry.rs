//! The plugins that there are: what the directory says, turned into versions that are active. One task does everything that
//! changes something; whoever calls a plugin holds a [`Plugin`] and asks it for the version that is active now.
//!
//! A new version replaces the old one only when it is ready (I6). A version that faults in its first calls is rolled back,
//! one that keeps faulting is put in quarantine, and both say so.

mod actor;
mod alarm;
mod load;
mod plugin;
pub mod shadow;
mod slot;

pub use plugin::{Plugin, State, Status};
pub use shadow::Shadow;

use super::{
    Beyond, Compiler, Engine, EngineConfig, FaultCode, LimitError, LimitsOverride, LoadError, Name, limits::Bound,
    stats,
};
use crate::{
    journal::{Change as Record, Standing},
    kv,
    metrics::Exposition,
};
use actor::{Actor, Command};
use anyhow::Context;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Most commands that wait for the registry's task.
const COMMANDS: usize = 256;
/// Most changes that a reader may be behind before it misses some.
const CHANGES: usize = 1_024;

/// Where plugins come from and what they share.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsConfig {
    /// The drop-in directory; made if it is missing.
    pub dir: PathBuf,
    /// Where what was compiled is kept from run to run. Empty: in `cache` in the data directory, or nowhere if there is none.
    pub cache: PathBuf,
    /// Where files are compiled.
    #[serde(skip)]
    pub compiler: Compiler,
    /// The directory where the hub notes which file it works on, so that a
    /// file whose first load ended the hub twice is skipped at the next
    /// start. The hub sets it where there is a journal. `None`: not noted.
    #[serde(skip)]
    pub markers: Option<PathBuf>,
    /// Most bytes that the memory of any plugin may have; a sidecar cannot ask for more.
    pub max_memory: usize,
    /// Most bytes that all instances of all plugins together may have. 0: half of what the machine has, or the process may have.
    pub max_total_memory: usize,
    /// Most instances at once, idle ones included.
    pub max_instances: u32,
}

impl Default for PluginsConfig {
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self {
            dir: PathBuf::from("plugins"),
            cache: PathBuf::new(),
            compiler: engine.compiler,
            markers: engine.markers,
            max_memory: engine.max_memory,
            max_total_memory: engine.max_total_memory,
            max_instances: engine.max_instances,
        }
    }
}

/// What is known of plugins from before, and where it is kept.
pub struct Kept {
    /// Their keys and values.
    pub store: kv::Store,
    /// How operators and faults left them.
    pub standings: Vec<Standing>,
    /// Keeps how they stand; an error has been logged.
    pub save: Save,
}

/// See [`Kept`].
pub type Save = Arc<dyn Fn(Record) -> BoxFuture<'static, ()> + Send + Sync>;

impl Default for Kept {
    fn default() -> Self {
        let save: Save = Arc::new(|_| Box::pin(std::future::ready(())));
        Self { store: kv::Store::new(kv::Quota::default()), standings: Vec::new(), save }
    }
}

/// What happened to a plugin.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose.
    pub name: Name,
    /// What.
    pub kind: ChangeKind,
}

/// See [`Change`].
#[derive(Debug, Clone)]
pub enum ChangeKind {
    /// A version is active now.
    Activated {
        /// What it calls itself.
        version: String,
        /// Of its file.
        sha256: String,
        /// Counts the versions of a name.
        generation: u64,
        /// Where it takes the place of another file's: what it asks for that the other did not.
        asks_beyond: Option<Beyond>,
    },
    /// A file was not loaded; what was active still is.
    Failed(LoadError),
    /// The version before is active again.
    RolledBack {
        /// The generation that is active now.
        generation: u64,
        /// Whether the hub did it by itself.
        automatic: bool,
    },
    /// Not called until then, in milliseconds from now.
    Quarantined {
        /// How long.
        for_ms: u64,
    },
    /// Not called until somebody enables it.
    Disabled,
    /// Its file is gone.
    Removed,
    /// The sandbox ended a call of it. One in a second is told.
    Faulted(Box<Faulted>),
}

/// See [`ChangeKind::Faulted`].
#[derive(Debug, Clone)]
pub struct Faulted {
    /// What kind.
    pub code: FaultCode,
    /// For people.
    pub message: String,
    /// Of the version's file.
    pub sha256: String,
    /// Of the event with which it was called; 0 where that was in no log yet.
    pub seq: u64,
    /// Of the event.
    pub event_id: Arc<str>,
    /// Of the event.
    pub event_type: String,
    /// So many others in the second before this one were not told.
    pub suppressed: u64,
}

/// Why a plugin could not be told to do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// There is none of that name.
    #[error("there is no plugin {0:?}")]
    Unknown(String),
    /// It is not in a state in which that can be done.
    #[error("plugin {name}: expected {expected}, found {found}")]
    State {
        /// Its name.
        name: Name,
        /// What it would have to be or have.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The hub could not move a file in the plugin directory.
    #[error(
        "expected a plugin directory in which the hub may rename files, found: {error}; do it in its place: mv {from} {to}"
    )]
    Directory {
        /// The file.
        from: String,
        /// Its new name.
        to: String,
        /// Why not.
        error: Arc<std::io::Error>,
    },
    /// Its file could not be loaded, or does not run under the limits that were to be set.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A limit that the hub does not allow.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Stopped,
}

/// A handle on the plugins; clones are the same.
#[derive(Debug, Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Arc<Engine>,
    plugins: watch::Sender<Arc<BTreeMap<Name, Arc<Plugin>>>>,
    refused: Mutex<BTreeMap<String, String>>,
    changes: broadcast::Sender<Change>,
    commands: mpsc::Sender<Command>,
}

impl Registry {
    /// Makes the directory and begins to load what is in it. The receiver ends once that is done.
    ///
    /// # Errors
    /// If the directory cannot be made or the engine cannot be set up.
    pub fn start(config: &PluginsConfig, kept: Kept) -> anyhow::Result<(Self, oneshot::Receiver<()>)> {
        let dir = &config.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the plugin directory {}", dir.display()))?;
        let engine = Engine::new(EngineConfig {
            compiler: config.compiler.clone(),
            markers: config.markers.clone(),
            cache: Some(config.cache.clone()).filter(|dir| !dir.as_os_str().is_empty()),
            max_memory: config.max_memory,
            max_total_memory: config.max_total_memory,
            max_instances: config.max_instances,
        })?;
        let (commands, received) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            plugins: watch::Sender::default(),
            refused: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES),
            commands,
        });
        let (loaded, when_loaded) = oneshot::channel();
        tokio::spawn(Actor::new(Arc::downgrade(&shared), engine, kept, dir.clone(), loaded).run(received));
        Ok((Self { shared }, when_loaded))
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Arc<Plugin>> {
        // A name's text is what it is ordered by.
        self.shared.plugins.borrow().get(name).cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        self.shared.plugins.borrow().values().cloned().collect()
    }

    /// Files in the directory that are no plugins, with the reason.
    pub fn refused(&self) -> BTreeMap<String, String> {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows which plugins there are and what kind they are.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<BTreeMap<Name, Arc<Plugin>>>> {
        self.shared.plugins.subscribe()
    }

    /// Follows what happens to them.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// Reads a plugin's files anew, though they may not have changed, and waits until that is done.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn reload(&self, name: &str) -> Result<Arc<Plugin>, CommandError> {
        self.tell(name, |plugin, answer| Command::Reload { plugin, answer }).await
    }

    /// Takes a plugin out of service.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn disable(&self, name: &str) -> Result<Arc<Plugin>, CommandError> {
        self.tell(name, |plugin, answer| Command::Disable { plugin, answer }).await
    }

    /// Takes a plugin back into service, out of quarantine too.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn enable(&self, name: &str) -> Result<Arc<Plugin>, CommandError> {
        self.tell(name, |plugin, answer| Command::Enable { plugin, answer }).await
    }

    /// Goes back to the version before; done twice, it comes back.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn rollback(&self, name: &str) -> Result<Arc<Plugin>, CommandError> {
        self.tell(name, |plugin, answer| Command::Rollback { plugin, answer }).await
    }

    /// Puts a plugin's shadow in the place of its active version: moves the file, and loads it.
    ///
    /// # Errors
    /// See [`CommandError`]: also if there is no shadow, its file has changed since it was loaded, or the hub may not rename files in the
    /// plugin directory. Then nothing has changed.
    pub async fn promote(&self, name: &str) -> Result<Arc<Plugin>, CommandError> {
        self.tell(name, |plugin, answer| Command::Promote { plugin, answer }).await
    }

    /// Sets the limits that go before those of a plugin's sidecar, in place of those set before; they hold for the next call. None
    /// at all takes them away.
    ///
    /// # Errors
    /// See [`CommandError`]: also if no instance starts under them. Then nothing has changed.
    pub async fn limit(&self, name: &str, limits: LimitsOverride) -> Result<Arc<Plugin>, CommandError> {
        let most = self.shared.engine.config().max_memory;
        if let Some(memory) = limits.memory.as_ref().map(Bound::get).filter(|memory| *memory > most) {
            let expected = format!("at most {most} bytes, the hub's plugins.max_memory");
            let (field, found) = ("memory".to_owned(), format!("{memory} bytes"));
            return Err(LimitError { field, expected, found }.into());
        }
        let plugin = self.get(name).ok_or_else(|| CommandError::Unknown(name.to_owned()))?;
        if let Some(version) = plugin.current() {
            version.try_under(&limits).await?;
        }
        let limits = Box::new(limits);
        self.tell(name, |plugin, answer| Command::Limit { plugin, limits, answer }).await
    }

    /// Ends the loads under way, with the processes that compile for them, and begins no others.
    /// Whoever waits for one is told [`CommandError::Stopped`]. Plugins that are active stay so.
    pub async fn stop_loading(&self) {
        let (answer, answered) = oneshot::channel();
        if self.shared.commands.send(Command::StopLoading { answer }).await.is_ok() {
            let _ = answered.await;
        }
    }

    async fn tell(
        &self,
        name: &str,
        command: impl FnOnce(Arc<Plugin>, oneshot::Sender<Result<(), CommandError>>) -> Command,
    ) -> Result<Arc<Plugin>, CommandError> {
        let plugin = self.get(name).ok_or_else(|| CommandError::Unknown(name.to_owned()))?;
        let (answer, answered) = oneshot::channel();
        self.shared.commands.send(command(plugin.clone(), answer)).await.map_err(|_| CommandError::Stopped)?;
        answered.await.map_err(|_| CommandError::Stopped)??;
        Ok(plugin)
    }

    /// Writes the statistics of all of them.
    pub fn write_metrics(&self, out: &mut Exposition) {
        self.shared.engine.write_metrics(out);
        let plugins = self.all();
        stats::write(plugins.iter().map(|plugin| (plugin.name().as_str(), plugin.stats().as_ref())), out);
        out.family(
            "busway_plugin_done",
            "gauge",
            "The seq through which a handler is done; busway_log_head minus it is its lag.",
        );
        for plugin in &plugins {
            if let Some(done) = plugin.done() {
                out.sample("busway_plugin_done", &[("plugin", plugin.name().as_str())], done);
            }
        }
        type Family = (&'static str, &'static str, fn(&Shadow) -> u64);
        const SHADOWS: [Family; 3] = [
            ("busway_shadow_compared_total", "Events about which a plugin and its shadow were asked.", |shadow| {
                shadow.counts().0
            }),
            ("busway_shadow_differing_total", "Of these, where the two differ.", |shadow| shadow.counts().1),
            ("busway_shadow_missed_total", "Calls of a plugin for which its shadow was too slow.", |shadow| {
                shadow.counts().2
            }),
        ];
        for (family, help, value) in SHADOWS {
            out.family(family, "counter", help);
            for plugin in &plugins {
                if let Some(shadow) = plugin.shadow() {
                    out.sample(family, &[("plugin", plugin.name().as_str())], value(&shadow));
                }
            }
        }
        out.family("busway_plugin_active", "gauge", "Whether a version of the plugin is active.");
        for plugin in &plugins {
            out.sample(
                "busway_plugin_active",
                &[("plugin", plugin.name().as_str())],
                u8::from(plugin.active().is_some()),
            );
        }
    }
}
