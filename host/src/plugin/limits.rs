//! Every limit a plugin runs under, with its default and reason, and the limiter that sums what an instance takes.
//! What an operator may change is in [`Limits`]; the rest are constants. Knows nothing of calls or of files.

use std::time::Duration;
use wasmtime::ResourceLimiter;

/// Largest `.wasm` file. Python's are 18 MiB.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// Largest sidecar.
pub const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// Stack of a guest. Wasmtime's default; all nine languages of the contract live with it.
pub const MAX_STACK_BYTES: usize = 512 << 10;
/// What a guest may pass to the host in one call, all texts and lists together: a full outbox, its log lines, and room.
pub const MAX_BOUNDARY_BYTES: usize = 4 << 20;
/// Table elements of an instance, all tables together. Go and Python components have about 10,000 functions.
pub const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Core instances of a component. Python's are made of some thirty.
pub const MAX_CORE_INSTANCES: usize = 64;
/// Tables of an instance.
pub const MAX_TABLES: usize = 64;
/// Memories of an instance. One for the program, one for an adapter.
pub const MAX_MEMORIES: usize = 8;
/// Resource handles that an instance may hold: streams, pollables and errors of WASI.
pub const MAX_HANDLES: usize = 1_000;
/// Random bytes of one host call.
pub const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// Longest log line; the rest is cut off with a mark. Failures and errors are cut at the same length.
pub const MAX_LOG_LINE_BYTES: usize = 4 << 10;
/// Log lines of a plugin in a second; the rest is counted.
pub const MAX_LOG_LINES_PER_SECOND: u32 = 100;
/// What is kept of stdout and of stderr in one call.
pub const MAX_STDIO_BYTES: usize = 8 << 10;
/// Refused host calls (a type not granted, a full outbox) in one call before it ends: errors are for guests that read them.
pub const MAX_REFUSALS: u32 = 100;
/// Longest chain of causes.
pub const MAX_HOPS: u32 = 16;
/// Fuel after which a guest gives its thread back: 5–10 µs.
pub const YIELD_FUEL: u64 = 10_000;
/// Bytes that the host handles for a guest between two yields: about as long, for a guest that burns no fuel itself.
pub const YIELD_HOST_BYTES: usize = 64 << 10;
/// Calls after which a reused instance makes way for a new one.
pub const MAX_REUSES: u32 = 10_000;
/// Longest JSON Schema, and longest parameters of a filter, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Describe and start code together: Go takes 0.8 M fuel to start, Python 1.5 ms.
pub const LOAD: Limits = Limits { deadline: Duration::from_secs(1), fuel: 1_000_000_000, ..Limits::HANDLER };

/// 1 MiB of data costs 1–2 M fuel in Rust, 120 M in JavaScript and Python, 305 M in Go.
const FUEL_PER_BYTE: u64 = 400;
/// Bytes of an event for which a call has a millisecond more.
const BYTES_PER_MILLISECOND: u64 = 10 << 10;

/// What an operator may change, for one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock for an event of few bytes.
    pub deadline: Duration,
    /// Fuel for an event of few bytes.
    pub fuel: u64,
    /// Bytes of all memories of an instance together.
    pub memory: usize,
    /// Events that one call may publish.
    pub outbox_events: usize,
    /// Their weight.
    pub outbox_bytes: usize,
}

impl Limits {
    /// For a call of a handler.
    pub const HANDLER: Self = Self {
        deadline: Duration::from_millis(100),
        fuel: 50_000_000,
        memory: 64 << 20,
        outbox_events: 64,
        outbox_bytes: 256 << 10,
    };

    /// For a call of a filter: clients wait for it.
    pub const FILTER: Self = Self { deadline: Duration::from_millis(10), fuel: 20_000_000, ..Self::HANDLER };

    /// The time that a call has for an event of `bytes`.
    pub fn deadline_for(&self, bytes: usize) -> Duration {
        self.deadline + Duration::from_millis(bytes as u64 / BYTES_PER_MILLISECOND)
    }

    /// The fuel that a call has for an event of `bytes`.
    pub fn fuel_for(&self, bytes: usize) -> u64 {
        self.fuel.saturating_add(FUEL_PER_BYTE.saturating_mul(bytes as u64))
    }
}

/// Sums what one instance takes. `wasmtime::StoreLimits` holds for each memory and table by itself, so that 64 memories
/// of 64 MiB would pass it.
#[derive(Debug)]
pub(crate) struct Limiter {
    max_memory: usize,
    memory: usize,
    table_elements: usize,
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(max_memory: usize) -> Self {
        Self { max_memory, memory: 0, table_elements: 0, refused: false }
    }

    /// Bytes of all memories. A memory never shrinks, so this is also the peak.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether it grew so far that a fresh instance is the better place for the next call.
    pub(crate) fn is_grown(&self) -> bool {
        self.memory > self.max_memory / 2
    }

    /// Whether something was refused since this was last asked: then a trap is for want of memory, whatever it says.
    pub(crate) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = (self.memory - current).saturating_add(desired);
        let allowed = sum <= self.max_memory && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.memory = sum;
        }
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = (self.table_elements - current).saturating_add(desired);
        let allowed = sum <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.table_elements = sum;
        }
        self.refused |= !allowed;
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_are_summed() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(limiter.is_grown() && !limiter.take_refused());
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert!(limiter.take_refused() && !limiter.take_refused());
        assert_eq!(limiter.memory(), 100);
        assert!(limiter.table_growing(0, MAX_TABLE_ELEMENTS, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
    }

    #[test]
    fn large_events_have_more_time_and_fuel() {
        let limits = Limits::FILTER;
        assert_eq!((limits.deadline_for(0), limits.fuel_for(0)), (limits.deadline, limits.fuel));
        assert_eq!(limits.deadline_for(1 << 20), Duration::from_millis(112));
        assert_eq!(limits.fuel_for(1 << 20), 20_000_000 + (400 << 20));
    }
}
