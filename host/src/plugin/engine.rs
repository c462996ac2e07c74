//! The one place that configures wasmtime, and knows what was compiled. Knows nothing of what a plugin is; [`super::version`] brings it
//! bytes and makes instances of what comes back.

use super::compile::cache::{self, Cache, Known};
use super::compile::turns::{Tally, Turns};
use super::compile::{self, Compiler};
use super::fault::LoadError;
use super::gate;
use super::host::{self, Guest};
use super::limits::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_STACK_BYTES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use super::load_marker::{LoadMarkers, MarkedLoad};
use super::memory::Memory;
use super::room::{Room, TABLES};
use super::threads::SlowThreads;
use super::ticker::Ticker;
use crate::metrics::Exposition;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Precompiled};

/// Components kept by hash, so that going back to a version, or a file rewritten in turns, loads nothing.
const CACHED: usize = 16;
/// Most files remembered that the compiler refused; beyond that, they are tried again.
const REFUSED: usize = 1_024;

/// What can be chosen for all plugins of a hub together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Where files are compiled.
    pub compiler: Compiler,
    /// The directory, of this process alone, for the markers
    /// of files that it works on; `None`: no markers.
    pub markers: Option<PathBuf>,
    /// The directory where what was compiled is kept from run to run; none: nowhere.
    pub cache: Option<PathBuf>,
    /// Most bytes that the memory of any plugin may have; a manifest cannot ask for more.
    pub max_memory: usize,
    /// Most bytes that all instances together may have, idle ones included; 0: half of what the machine has, or the process may have.
    pub max_total_memory: usize,
    /// Most instances at once, idle ones included.
    pub max_instances: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            compiler: Compiler::Here,
            markers: None,
            cache: None,
            max_memory: 64 << 20,
            max_total_memory: 0,
            max_instances: 1_000,
        }
    }
}

/// The machine refuses what the engine needs: address space, as a rule.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Wasmtime's own words.
    #[error("cannot start the WebAssembly engine: {0}")]
    Wasmtime(String),
    /// No more threads.
    #[error("cannot start the threads of the WebAssembly engine: {0}")]
    Threads(std::io::Error),
    /// The directory cannot be used.
    #[error("cannot use the compile cache {}: {error}", .dir.display())]
    Cache {
        /// Which.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Wasmtime(format!("{error:#}"))
    }
}

/// Compiles components and links them with the host. One for a hub.
pub struct Engine {
    config: EngineConfig,
    linker: Linker<Guest>,
    /// Least recently used first.
    cache: Mutex<Vec<(Hash, Component)>>,
    refused: Mutex<HashMap<Hash, String>>,
    disk: Option<Cache>,
    markers: Option<Arc<LoadMarkers>>,
    ticker: Ticker,
    slow: SlowThreads,
    room: Arc<Room>,
    memory: Arc<Memory>,
    turns: Turns,
    tally: Tally,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

/// SHA-256 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// In hexadecimal, 64 characters.
    pub fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

impl Engine {
    /// Reserves address space for the instances (not memory) and links the host's interfaces.
    ///
    /// # Errors
    /// If the machine refuses.
    pub fn new(config: EngineConfig) -> Result<Arc<Self>, EngineError> {
        let engine = wasmtime::Engine::new(&settings(&config))?;
        let mut linker = Linker::new(&engine);
        host::add_to_linker(&mut linker)?;
        let open = |dir: &PathBuf| {
            Cache::open(dir, linker.engine()).map_err(|error| EngineError::Cache { dir: dir.clone(), error })
        };
        let disk = config.cache.as_ref().map(open).transpose()?;
        let ticker = Ticker::start(engine).map_err(EngineError::Threads)?;
        let slow = SlowThreads::start().map_err(EngineError::Threads)?;
        let room = Room::new(config.max_instances);
        let memory = Memory::new(config.max_total_memory, config.max_memory);
        let (cache, refused, turns, tally) = Default::default();
        let markers = config.markers.as_deref().map(LoadMarkers::open);
        Ok(Arc::new(Self { config, linker, cache, refused, disk, markers, ticker, slow, room, memory, turns, tally }))
    }

    /// What it was made with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// What was being loaded when a hub ended; none without a directory for it.
    pub(super) fn markers(&self) -> Option<&Arc<LoadMarkers>> {
        self.markers.as_ref()
    }

    /// To be told of every call.
    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// For calls that may be long.
    pub(super) fn slow(&self) -> &SlowThreads {
        &self.slow
    }

    /// Where every instance has to have a place.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Of which every instance takes its share.
    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }

    /// Writes how often the compiler was started, how full the pool is, and how much memory there may be.
    pub(super) fn write_metrics(&self, out: &mut Exposition) {
        self.tally.write(out);
        self.room.write_metrics(out);
        self.memory.write_metrics(out);
    }

    /// The component, ready to be linked: compiled before, or
    /// now. What is done in this process is a step of `load`.
    pub(super) async fn compile(
        self: &Arc<Self>,
        bytes: &Arc<[u8]>,
        hash: Hash,
        load: &MarkedLoad,
    ) -> Result<Component, LoadError> {
        if let Some(component) = self.cached(hash) {
            return Ok(component);
        }
        let checked = bytes.clone();
        load.step(blocking(move || gate::check(&checked))).await??;
        let _turn = self.turns.take(hash).await;
        if let Some(component) = self.cached(hash) {
            return Ok(component);
        }
        let engine = self.clone();
        let component = match load.step(blocking(move || engine.known(hash))).await? {
            Some(known) => {
                self.tally.saved.inc();
                known?
            }
            None => self.compile_now(bytes, hash, load).await?,
        };
        self.cache(hash, component.clone());
        Ok(component)
    }

    /// What the compiler says of a file is remembered either way: one that takes it minutes to refuse is not given to it at
    /// every look. What says nothing of the file is not: a compiler that cannot be run, or writes what is no code.
    async fn compile_now(
        self: &Arc<Self>,
        bytes: &Arc<[u8]>,
        hash: Hash,
        load: &MarkedLoad,
    ) -> Result<Component, LoadError> {
        let engine = self.clone();
        match self.config.compiler.compile(self.linker.engine(), bytes).await {
            Ok(compiled) => load.step(blocking(move || engine.keep(hash, compiled))).await?,
            Err(LoadError::Compile(why)) => {
                self.tally.refused.inc();
                let error = LoadError::Compile(why.clone());
                blocking(move || engine.remember_refusal(hash, why)).await?;
                Err(error)
            }
            Err(error) => {
                self.tally.failed.inc();
                Err(error)
            }
        }
    }

    /// What was compiled is kept though it may not be usable now: with a larger `max_memory`, or more of the machine, it will be.
    fn keep(&self, hash: Hash, compiled: Vec<u8>) -> Result<Component, LoadError> {
        if wasmtime::Engine::detect_precompiled(&compiled) != Some(Precompiled::Component) {
            self.tally.failed.inc();
            return Err(compile::unable(std::io::Error::other(
                "what it wrote cannot be used: it is no compiled component",
            )));
        }
        self.tally.compiled.inc();
        let component = self.load(&compiled);
        if let Some(disk) = &self.disk {
            disk.put(hash, &Known::Compiled(compiled));
        }
        component
    }

    /// It is well formed, so where that fails it asks for what no instance gets here, or the machine has no room for it now. Neither is
    /// remembered: it is the same file tomorrow, and the hub may be another.
    fn load(&self, compiled: &[u8]) -> Result<Component, LoadError> {
        let unusable = |error| LoadError::Compile(format!("what was compiled cannot be used: {error:#}"));
        cache::load(self.linker.engine(), compiled).map_err(unusable)
    }

    fn remember_refusal(&self, hash: Hash, why: String) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() == REFUSED {
            refused.clear();
        }
        refused.insert(hash, why.clone());
        drop(refused);
        if let Some(disk) = &self.disk {
            disk.put(hash, &Known::Refused(why));
        }
    }

    /// What the compiler said before.
    fn known(&self, hash: Hash) -> Option<Result<Component, LoadError>> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        if let Some(why) = refused {
            return Some(Err(LoadError::Compile(why)));
        }
        match self.disk.as_ref()?.get(hash)? {
            Known::Refused(why) => Some(Err(LoadError::Compile(why))),
            // Of every byte it is known that it is as it was written, for this compiler: another run would write the same.
            Known::Compiled(compiled) => Some(self.load(&compiled)),
        }
    }

    /// An operator wants it tried again: the machine may have been at fault.
    pub fn forget_refusal(&self, hash: Hash) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash);
        if let Some(disk) = &self.disk {
            disk.forget_refusal(hash);
        }
    }

    fn cached(&self, hash: Hash) -> Option<Component> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let at = cache.iter().position(|(known, _)| *known == hash)?;
        let found = cache.remove(at);
        let component = found.1.clone();
        cache.push(found);
        self.tally.saved.inc();
        Some(component)
    }

    fn cache(&self, hash: Hash, component: Component) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() == CACHED {
            cache.remove(0);
        }
        cache.push((hash, component));
    }
}

/// For a process that only compiles: the same output, without room for instances.
pub(super) fn for_compiling() -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&compiling())
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}

pub(super) fn panicked(panic: tokio::task::JoinError) -> LoadError {
    LoadError::Compile(format!("the hub's own code panicked over it: {panic}"))
}

fn settings(config: &EngineConfig) -> Config {
    let mut settings = compiling();
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
    settings
}

/// Everything that the compiler's output depends on, and no more.
fn compiling() -> Config {
    let mut settings = Config::new();
    settings
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_STACK_BYTES)
        // What is left above the guest's stack is for the host's functions. Overflowing it would abort the process, and
        // formatting and parsing in a debug build take a few hundred KiB.
        .async_stack_size(MAX_STACK_BYTES + (1536 << 10))
        // The contract knows none of these; each is a part of the compiler that a hostile file cannot reach.
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        // A plugin in JavaScript is made of components: what wasmtime puts between them knows the memories of both.
        .wasm_multi_memory(true)
        // With it the time to load and drop modules grows with the square of how many there are.
        .native_unwind_info(false)
        .debug_info(false)
        // A trap's backtrace costs a walk of the stack, and names functions that a stripped file does not have.
        .wasm_backtrace_max_frames(None);
    settings
}

fn pool(config: &EngineConfig) -> PoolingAllocationConfig {
    let instances = config.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        // So many that it is the memories and tables that run out first: what `room` counts. These are counters, not memory.
        .total_core_instances(instances.saturating_mul(MAX_CORE_INSTANCES as u32))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES))
        .max_core_instances_per_component(MAX_CORE_INSTANCES as u32)
        .max_tables_per_component(MAX_TABLES as u32)
        .max_memories_per_component(MAX_MEMORIES as u32)
        .max_memory_size(config.max_memory)
        .table_elements(MAX_TABLE_ELEMENTS)
        // Python's modules have more functions and globals than the default of 1 MiB describes.
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        // Slots stay mapped for the module that used them last: what makes a fresh instance cheap.
        .max_unused_warm_slots(instances)
        // Cleared with memset up to here, given back to the kernel above: 64 KiB is what small guests touch. With
        // pagemap_scan only pages that were written are cleared at all (Linux 6.7; older kernels do without).
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash as _, Hasher};

    #[test]
    fn what_a_compiling_process_makes_fits_the_hubs_engine() {
        let hash = |engine: &wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let engine = Engine::new(EngineConfig::default()).unwrap();
        assert_eq!(hash(engine.linker.engine()), hash(&for_compiling().unwrap()));
    }
}
