//! The one place that configures wasmtime, and compiles. Knows nothing of what a plugin is; [`super::version`] brings it
//! bytes and makes instances of what comes back.

use super::fault::LoadError;
use super::gate;
use super::host::{self, Guest};
use super::limits::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_STACK_BYTES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Compiled components kept by hash, so that going back to a version, or a file rewritten in turns, compiles nothing.
const CACHED: usize = 16;

/// What can be chosen for all plugins of a hub together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most bytes that the memory of any plugin may have; a manifest cannot ask for more.
    pub max_memory: usize,
    /// Most instances at once, idle ones included.
    pub max_instances: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { max_memory: 64 << 20, max_instances: 1_000 }
    }
}

/// The machine refuses what the engine needs: address space, as a rule.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the WebAssembly engine: {0}")]
pub struct EngineError(String);

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// Compiles components and links them with the host. One for a hub.
pub struct Engine {
    config: EngineConfig,
    linker: Linker<Guest>,
    /// Least recently used first.
    cache: Mutex<Vec<(Hash, Component)>>,
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
        Ok(Arc::new(Self { config, linker, cache: Mutex::default() }))
    }

    /// What it was made with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }

    /// The compiled component, from the cache if its bytes were seen before.
    pub(super) async fn compile(self: &Arc<Self>, bytes: &Arc<[u8]>, hash: Hash) -> Result<Component, LoadError> {
        gate::check(bytes)?;
        if let Some(component) = self.cached(hash) {
            return Ok(component);
        }
        let (engine, bytes) = (self.linker.engine().clone(), Arc::clone(bytes));
        // Up to half a minute of work, which must not stand in the way of what the runtime's threads do.
        let compiled = tokio::task::spawn_blocking(move || Component::from_binary(&engine, &bytes)).await;
        let component = match compiled {
            Ok(compiled) => compiled.map_err(|error| LoadError::Compile(format!("{error:#}")))?,
            // Wasmtime does not promise that its compiler never panics.
            Err(panic) => return Err(LoadError::Compile(format!("the compiler gave up: {panic}"))),
        };
        self.cache(hash, component.clone());
        Ok(component)
    }

    fn cached(&self, hash: Hash) -> Option<Component> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let at = cache.iter().position(|(known, _)| *known == hash)?;
        let found = cache.remove(at);
        let component = found.1.clone();
        cache.push(found);
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

fn settings(config: &EngineConfig) -> Config {
    let mut settings = Config::new();
    settings
        .consume_fuel(true)
        .max_wasm_stack(MAX_STACK_BYTES)
        // What is left above the guest's stack is for the host's functions. Overflowing it would abort the process, and
        // formatting and parsing in a debug build take a few hundred KiB.
        .async_stack_size(MAX_STACK_BYTES + (1536 << 10))
        // The contract knows none of these; each is a part of the compiler that a hostile file cannot reach.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        // With it the time to load and drop modules grows with the square of how many there are.
        .native_unwind_info(false)
        .debug_info(false)
        // A trap's backtrace costs a walk of the stack, and names functions that a stripped file does not have.
        .wasm_backtrace_max_frames(None)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
    settings
}

fn pool(config: &EngineConfig) -> PoolingAllocationConfig {
    let instances = config.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        // A component is made of several modules: 4 in Rust, some 30 in Python. These are counters, not memory.
        .total_core_instances(instances.saturating_mul(16))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
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
