//! Every limit a plugin runs under, with its default and reason, and the limiter that sums what an instance takes.
//! What an operator may change is in [`Limits`]; the rest are constants. Knows nothing of calls or of files.

mod bounds;
mod units;

pub use bounds::{Bound, LimitError};

use super::memory::Share;
use crate::kv::Quota;
use bounds::{Bytes, Count, Time};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::time::Duration;
use wasmtime::ResourceLimiter;

/// Largest `.wasm` file. Python's are 18 MiB.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// Functions of a component. Go and Python have some 10,000.
pub const MAX_FUNCTIONS: usize = 200_000;
/// Longest function. The compiler's time grows faster than the length; the longest loop of an interpreter is some 200 KiB.
pub const MAX_FUNCTION_BYTES: usize = 1 << 20;
/// All functions together. Python has 8 MiB.
pub const MAX_CODE_BYTES: usize = 32 << 20;
/// Entries of all other sections together.
pub const MAX_ITEMS: usize = 1_000_000;
/// Modules and components within a component. Python's have some thirty.
pub const MAX_MODULES: usize = 256;
/// Components in components.
pub const MAX_NESTING: usize = 16;
/// CPU time of compiling one file, all threads together. Python takes 10 s.
pub const COMPILE_CPU: Duration = Duration::from_secs(120);
/// Wall clock of compiling one file: twice that, for a machine that is busy.
pub const COMPILE_TIME: Duration = Duration::from_secs(240);
/// Address space of the process that compiles.
pub const COMPILE_MEMORY: u64 = 4 << 30;
/// Longest output of the compiler. Python's is 60 MiB.
pub const MAX_COMPILED_BYTES: usize = 512 << 20;
/// Bytes of compiled files on disk; beyond that, those go that were not used for longest.
pub const MAX_CACHE_BYTES: u64 = 2 << 30;
/// Largest sidecar.
pub const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// Stack of a guest. Wasmtime's default; all nine languages of the contract live with it. A setting of the engine that compiles
/// and runs everything, so it is one for all plugins, and not among [`Limits`].
pub const MAX_STACK_BYTES: usize = 512 << 10;
/// Most table elements that a plugin may be given: what the engine's pool has room for in a slot. Go and Python components have
/// about 10,000 functions.
pub const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Most core instances of a component: the engine's pool. Python's are made of some thirty.
pub const MAX_CORE_INSTANCES: usize = 64;
/// Most tables of an instance: the engine's pool.
pub const MAX_TABLES: usize = 64;
/// Most memories of an instance: the engine's pool. One for the program, one for an adapter.
pub const MAX_MEMORIES: usize = 8;
/// Longest text of a failure, an error or stderr; the rest is cut off with a mark.
pub const MAX_TEXT_BYTES: usize = 4 << 10;
/// What is kept of stdout and of stderr in one call.
pub const MAX_STDIO_BYTES: usize = 8 << 10;
/// Refused host calls (a type not granted, a full outbox) in one call before it ends: errors are for guests that read them.
pub const MAX_REFUSALS: u32 = 100;
/// Longest chain of causes. How much may come of one event is `log::MAX_DESCENDANTS`, which only the sequencer can count.
pub const MAX_HOPS: u32 = 16;
/// Fuel after which a guest gives its thread back: 3–10 µs.
pub const YIELD_FUEL: u64 = 10_000;
/// Time after which a guest gives its thread back that burns no fuel.
pub const TICK: Duration = Duration::from_millis(5);
/// Least time between two times that all guests of the hub give their threads back because one of them is to.
pub const APART: Duration = Duration::from_micros(50);
/// Bytes that the host handles for a guest between two yields: about as long, for a guest that burns no fuel itself.
pub const YIELD_HOST_BYTES: usize = 64 << 10;
/// Host calls after that, before a guest that does not give its thread back is ended: no compiler writes so many without a loop or a call.
pub const MAX_OVERDUE: u32 = 1_000;
/// Calls after which a reused instance makes way for a new one.
pub const MAX_REUSES: u32 = 10_000;
/// CPU time of checking one schema in a process of its own. It takes a few milliseconds.
pub const SCHEMA_CPU: Duration = Duration::from_secs(5);
/// Wall clock of that, for a machine that is busy.
pub const SCHEMA_TIME: Duration = Duration::from_secs(60);
/// Longest JSON Schema, and longest parameters of a filter, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Describe and start code together: Go takes 0.8 M fuel to start, Python 1.5 ms.
const LOAD: Limits = Limits { deadline: Duration::from_secs(1), fuel: 1_000_000_000, ..Limits::HANDLER };

/// 1 MiB of data costs 1–2 M fuel in Rust, 120 M in JavaScript and Python, 305 M in Go.
const FUEL_PER_BYTE: u64 = 400;
/// Bytes of an event for which a call has a millisecond more.
const BYTES_PER_MILLISECOND: u64 = 10 << 10;

macro_rules! limits {
    ($($(#[$meta:meta])* $name:ident: $value:ty, $bound:ty = $default:expr;)+) => {
        /// What an operator may change, for one plugin: in its sidecar, and over the API while it runs.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct Limits { $($(#[$meta])* pub $name: $value,)+ }

        /// In place of the default limits, as far as something stands here.
        #[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitsOverride {
            $(
                #[doc = concat!("In place of [`Limits::", stringify!($name), "`].")]
                #[serde(deserialize_with = "bounds::read", serialize_with = "bounds::write", skip_serializing_if = "Option::is_none")]
                pub $name: Option<$bound>,
            )+
        }

        impl Limits {
            /// For a call of a handler.
            pub const HANDLER: Self = Self { $($name: $default,)+ };
        }

        impl LimitsOverride {
            /// What an operator may name, in the order of the documentation.
            pub const KEYS: &[&str] = &[$(stringify!($name)),+];

            /// `defaults`, but for what stands here.
            pub fn over(&self, defaults: Limits) -> Limits {
                Limits { $($name: self.$name.as_ref().map_or(defaults.$name, Bound::get),)+ }
            }

            /// Sets one by its key.
            ///
            /// # Errors
            /// If there is no such key, or the value is out of bounds.
            pub fn set(&mut self, key: &str, value: &Value) -> Result<(), LimitError> {
                match key {
                    $(stringify!($name) => {
                        let bound = <$bound>::read(value);
                        self.$name = Some(bound.ok_or_else(|| LimitError::new(key, <$bound>::expected(), value))?);
                    })+
                    _ => return Err(LimitError::unknown(key, Self::KEYS)),
                }
                Ok(())
            }
        }
    };
}

limits! {
    /// Wall clock for an event of few bytes.
    #[serde(rename = "deadline_ms", serialize_with = "write_milliseconds")]
    deadline: Duration, Time<1, 60_000> = Duration::from_millis(100);
    /// Fuel for an event of few bytes.
    fuel: u64, Count<u64, 10_000, 1_000_000_000_000> = 50_000_000;
    /// Bytes of all memories of an instance together; at most what the hub's own configuration allows.
    memory: usize, Bytes<{ 64 << 10 }, { 4 << 30 }> = 64 << 20;
    /// Events that one call may publish.
    outbox_events: usize, Count<usize, 0, 1_000> = 64;
    /// Their weight.
    outbox_bytes: usize, Bytes<0, { 4 << 20 }> = 256 << 10;
    /// Events that a handler may publish in a second, all its calls together. One that is over it waits before its next call;
    /// after a quiet second it may publish a second's worth at once.
    emit_rate: u32, Count<u32, 1, 1_000_000> = 10_000;
    /// What a guest may pass to the host in one call, all texts and lists together: a full outbox, its log lines, and room.
    boundary_bytes: usize, Bytes<{ 4 << 10 }, { 64 << 20 }> = 4 << 20;
    /// Random bytes of one host call. All of a call together count as [`Limits::boundary_bytes`].
    random_bytes: usize, Bytes<64, { 4 << 20 }> = 64 << 10;
    /// Resource handles that an instance may hold: streams, pollables and errors of WASI.
    handles: usize, Count<usize, 16, 10_000> = 1_000;
    /// Table elements of an instance, all tables together.
    table_elements: usize, Count<usize, 0, { MAX_TABLE_ELEMENTS as u64 }> = MAX_TABLE_ELEMENTS;
    /// Core instances of a component.
    instances: usize, Count<usize, 1, { MAX_CORE_INSTANCES as u64 }> = MAX_CORE_INSTANCES;
    /// Tables of an instance.
    tables: usize, Count<usize, 0, { MAX_TABLES as u64 }> = MAX_TABLES;
    /// Memories of an instance.
    memories: usize, Count<usize, 0, { MAX_MEMORIES as u64 }> = MAX_MEMORIES;
    /// Log lines of a plugin in a second; the rest is counted.
    log_lines: u32, Count<u32, 0, 10_000> = 100;
    /// Longest log line; the rest is cut off with a mark.
    log_line_bytes: usize, Bytes<64, { 64 << 10 }> = 4 << 10;
    /// Keys and values together that the plugin may keep from call to call. Where it keeps more already, nothing of that is lost:
    /// it may remove keys, but writes none.
    kv_bytes: usize, Bytes<0, { 64 << 20 }> = 1 << 20;
    /// How many keys; as for [`Limits::kv_bytes`].
    kv_keys: usize, Count<usize, 0, 100_000> = 1_000;
}

fn write_milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_millis() as u64)
}

impl Limits {
    /// For a call of a filter: clients wait for it.
    pub const FILTER: Self = Self { deadline: Duration::from_millis(10), fuel: 20_000_000, ..Self::HANDLER };

    /// For start code and `describe`: what an instance is made of is as for its calls, the rest as for everybody, so that limits
    /// set for calls do not keep a plugin from being loaded.
    pub fn of_load(&self) -> Self {
        let &Self { memory, handles, table_elements, instances, tables, memories, .. } = self;
        Self { memory, handles, table_elements, instances, tables, memories, ..LOAD }
    }

    /// What the plugin may keep from call to call.
    pub fn quota(&self) -> Quota {
        Quota { bytes: self.kv_bytes, keys: self.kv_keys }
    }

    /// The time that a call has for an event of `bytes`.
    pub fn deadline_for(&self, bytes: usize) -> Duration {
        self.deadline + Duration::from_millis(bytes as u64 / BYTES_PER_MILLISECOND)
    }

    /// The fuel that a call has for an event of `bytes`.
    pub fn fuel_for(&self, bytes: usize) -> u64 {
        self.fuel.saturating_add(FUEL_PER_BYTE.saturating_mul(bytes as u64))
    }
}

/// Sums what one instance takes, and takes it from what there is for all. `wasmtime::StoreLimits` holds for each memory and table by
/// itself, so that 64 memories of 64 MiB would pass it.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    share: Share,
    memory: usize,
    table_elements: usize,
    /// Since it last rested.
    grew: bool,
    refused: Option<Refused>,
}

/// What an instance was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Beyond so many bytes.
    Memory(usize),
    /// Beyond so many.
    TableElements(usize),
    /// More of what all instances of the hub may have, which is so many bytes.
    Total(usize),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(most) => write!(f, "memory beyond {most} bytes"),
            Self::TableElements(most) => write!(f, "tables beyond {most} elements"),
            Self::Total(most) => {
                write!(
                    f,
                    "more than is left to it of the hub's total of {most} bytes for all plugins (max_total_memory)"
                )
            }
        }
    }
}

impl Limiter {
    pub(crate) fn new(limits: &Limits, share: Share) -> Self {
        Self { limits: limits.clone(), share, memory: 0, table_elements: 0, grew: false, refused: None }
    }

    /// Bytes of all memories. A memory never shrinks, so this is also the peak.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether the instance may wait for another call. Not if it grew so far that a fresh one is the better place for that, nor if it
    /// grew while others need the memory; one that does not grow is not asked about them again.
    #[inline]
    pub(crate) fn may_rest(&mut self) -> bool {
        let grew = std::mem::take(&mut self.grew);
        self.memory <= self.limits.memory / 2 && (!grew || self.share.may_rest())
    }

    /// What was refused since this was last asked: then a trap is for want of it, whatever it says.
    pub(crate) fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = (self.memory - current).saturating_add(desired);
        self.refused = if sum > self.limits.memory || maximum.is_some_and(|maximum| desired > maximum) {
            Some(Refused::Memory(self.limits.memory))
        } else if !self.share.grow(sum - self.memory) {
            Some(Refused::Total(self.share.most()))
        } else {
            (self.memory, self.grew) = (sum, true);
            return Ok(true);
        };
        Ok(false)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = (self.table_elements - current).saturating_add(desired);
        self.refused = if sum > self.limits.table_elements || maximum.is_some_and(|maximum| desired > maximum) {
            Some(Refused::TableElements(self.limits.table_elements))
        } else if !self.share.grow_table(sum - self.table_elements) {
            Some(Refused::Total(self.share.most()))
        } else {
            (self.table_elements, self.grew) = (sum, true);
            return Ok(true);
        };
        Ok(false)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::memory::Memory;
    use std::sync::Arc;

    #[test]
    fn memories_and_tables_are_summed() {
        let limits = Limits { memory: 100, table_elements: 7, ..Limits::HANDLER };
        let limiter = |total| Limiter::new(&limits, Share::new(&Memory::new(total, 0), &Arc::default()));
        let mut one = limiter(1_000);
        assert!(one.memory_growing(0, 40, None).unwrap());
        assert!(one.may_rest());
        assert!(one.memory_growing(0, 60, None).unwrap());
        assert_eq!((one.may_rest(), one.take_refused()), (false, None));
        assert!(!one.memory_growing(40, 41, None).unwrap());
        assert_eq!((one.take_refused(), one.take_refused()), (Some(Refused::Memory(100)), None));
        assert_eq!(one.memory(), 100);
        assert!(one.table_growing(0, 7, None).unwrap());
        assert!(!one.table_growing(0, 1, None).unwrap());
        assert_eq!(one.take_refused().unwrap().to_string(), "tables beyond 7 elements");

        let mut other = limiter(100);
        assert!(other.memory_growing(0, 40, None).unwrap() && !other.memory_growing(40, 60, None).unwrap());
        assert_eq!((other.memory(), other.take_refused()), (40, Some(Refused::Total(100))));
        assert!(!other.table_growing(0, 2, None).unwrap(), "tables are memory too");
        assert!(other.take_refused().unwrap().to_string().contains("the hub's total of 100 bytes"));
    }

    #[test]
    fn one_that_grew_rests_only_while_half_of_the_hubs_memory_is_free_and_one_that_did_not_is_not_asked() {
        let (memory, plugins) = (Memory::new(100, 0), [Arc::default(), Arc::default()]);
        let [mut one, mut other] = plugins.map(|plugin| Limiter::new(&Limits::HANDLER, Share::new(&memory, &plugin)));
        assert!(one.memory_growing(0, 30, None).unwrap() && one.may_rest());
        assert!(other.memory_growing(0, 30, None).unwrap() && !other.may_rest());
        assert!(one.may_rest());
        drop(other);
        assert!(one.memory_growing(30, 31, None).unwrap() && one.may_rest());
    }

    #[test]
    fn every_limit_is_read_as_it_is_written_and_refused_out_of_its_bounds() {
        let mut all = LimitsOverride::default();
        for key in LimitsOverride::KEYS {
            let mut one = LimitsOverride::default();
            for wrong in [serde_json::json!(-1), "1TiB".into(), "2h".into(), 1.5.into(), u64::MAX.into(), Value::Null] {
                let error = one.set(key, &wrong).unwrap_err();
                assert_eq!((&*error.field, error.found), (*key, wrong.to_string()));
                // Its ends are in it.
                let (least, most) = error.expected.split_once(" to ").unwrap();
                for end in [least, most] {
                    let end: Value = serde_json::from_str(end).unwrap();
                    all.set(key, &end).unwrap();
                    assert_eq!(serde_json::to_value(&all).unwrap()[key], end);
                }
            }
            assert_eq!(one, LimitsOverride::default());
        }
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<LimitsOverride>(&text).unwrap(), all);
        let limits = all.over(Limits::FILTER);
        assert_eq!((limits.deadline, limits.memory, limits.kv_keys), (Duration::from_secs(60), 4 << 30, 100_000));
        let error = LimitsOverride::default().set("colour", &Value::Null).unwrap_err();
        assert!(error.expected.starts_with("one of deadline, fuel, memory, ") && error.found == "colour", "{error}");
    }

    #[test]
    fn large_events_have_more_time_and_fuel() {
        let limits = Limits::FILTER;
        assert_eq!((limits.deadline_for(0), limits.fuel_for(0)), (limits.deadline, limits.fuel));
        assert_eq!(limits.deadline_for(1 << 20), Duration::from_millis(112));
        assert_eq!(limits.fuel_for(1 << 20), 20_000_000 + (400 << 20));
    }
}
