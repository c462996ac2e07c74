//! What a guest may call. [`add_to_linker`] is the one list of it, each interface is a file of its own below, and all of
//! them work on [`Guest`], the data of an instance's store.
//!
//! Every interface is always there: toolchains of languages with a runtime import all of them. What is not granted
//! answers the guest with an error that says so; the log, the clock and random numbers have no errors, and without them a guest
//! goes on with lines that are dropped, a clock that stands still and numbers that are always the same. Nothing here has an effect: what a call would publish and write is
//! collected in its [`Call`], and its caller decides (I8).

mod config;
mod kv;
mod logging;
mod publisher;
mod stdio;
mod text;
mod transcript;
mod wasi;

pub(super) use logging::{Admitted, Throttle, printable};
pub use logging::{Level, LogLine};
pub(super) use text::invalid_text;
pub(super) use transcript::Record;
pub use transcript::{HostCall, Transcript};

use super::Name;
use super::engine::Engine;
use super::fault::FaultCode;
use super::grants::{Capability, Grants};
use super::limits::{Limiter, Limits, MAX_OVERDUE, MAX_REFUSALS, YIELD_HOST_BYTES};
use super::memory::Share;
use super::stats::Stats;
use super::threads::Tempo;
use crate::event::Event;
use crate::kv::{Namespace, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use stdio::Stdio;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::WasiCtx;

/// Links everything that a guest may call.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    // It has no functions.
    linker.instance(&interface("types"))?;
    logging::add_to_linker(linker)?;
    config::add_to_linker(linker)?;
    kv::add_to_linker(linker)?;
    publisher::add_to_linker(linker)?;
    wasi::add_to_linker(linker)
}

/// The full name of an interface of the contract.
fn interface(name: &str) -> String {
    format!("busway:plugin/{name}@0.1.0")
}

/// What all instances of one version share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) name: Name,
    /// `plugin/` and the name: the source of what it publishes.
    pub(super) source: Arc<str>,
    pub(super) grants: Grants,
    pub(super) config: BTreeMap<String, String>,
    pub(super) limits: Limits,
    pub(super) namespace: Arc<Namespace>,
    pub(super) stats: Arc<Stats>,
    pub(super) throttle: Arc<Throttle>,
    pub(super) engine: Arc<Engine>,
    pub(super) tempo: Arc<Tempo>,
}

/// The data of an instance's store.
pub(super) struct Guest {
    pub(super) context: Arc<Context>,
    pub(super) limiter: Limiter,
    pub(super) call: Call,
    resources: ResourceTable,
    /// Made when the guest first uses WASI: most calls never do, and it is dearer than the rest of a small call.
    wasi: Option<Box<(WasiCtx, Stdio)>>,
}

impl Guest {
    pub(super) fn new(context: Arc<Context>) -> Self {
        let share = Share::new(context.engine.memory(), &context.stats);
        let (limiter, resources) = (Limiter::new(&context.limits, share), wasi::resources(context.limits.handles));
        Self { context, limiter, call: Call::default(), resources, wasi: None }
    }

    /// What the guest wrote to stdout and stderr since this was last asked.
    #[inline]
    pub(super) fn take_output(&mut self) -> (String, String) {
        self.wasi.as_ref().map(|wasi| (wasi.1.stdout.take(), wasi.1.stderr.take())).unwrap_or_default()
    }

    /// Begins a host call for which the guest hands over `bytes`.
    fn spend(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.call.handed_over = self.call.handed_over.saturating_add(bytes);
        let most = self.context.limits.boundary_bytes;
        if self.call.handed_over > most {
            let message = format!("passed more than {most} bytes to the host in one call");
            return Err(HostFault { code: FaultCode::Lift, message }.into());
        }
        self.work(bytes);
        let Some(calls) = &mut self.call.overdue else { return Ok(()) };
        *calls += 1;
        if *calls <= MAX_OVERDUE {
            return Ok(());
        }
        let message =
            format!("went on for {MAX_OVERDUE} host calls without a loop or a call in which it gives its thread back");
        Err(HostFault { code: FaultCode::Deadline, message }.into())
    }

    /// Counts what the host does for the guest, as bytes that take as long to handle: host calls burn no fuel. A guest for which it has worked long
    /// enough gives its thread back in the next loop or call of its own.
    fn work(&mut self, bytes: usize) {
        self.call.unyielded = self.call.unyielded.saturating_add(bytes);
        if self.call.unyielded >= YIELD_HOST_BYTES && self.call.overdue.is_none() && self.context.engine.ticker().tick()
        {
            self.call.overdue = Some(0);
        }
    }

    /// The guest gives its thread back.
    pub(super) fn gives_way(&mut self) {
        (self.call.unyielded, self.call.overdue) = (0, None);
    }

    /// Whether it has a capability without which it goes on as if nothing were; if not, that is counted.
    fn may(&self, capability: Capability) -> bool {
        let may = self.context.grants.allows(capability).is_ok();
        if !may {
            self.context.stats.refused(FaultCode::Denied);
        }
        may
    }

    /// Counts something refused; ends the call of a guest that does not read its errors.
    fn refuse(&mut self, code: FaultCode, reason: &str) -> wasmtime::Result<()> {
        self.context.stats.refused(code);
        self.call.refusals += 1;
        if self.call.refusals <= MAX_REFUSALS {
            return Ok(());
        }
        let message = format!("went on after {MAX_REFUSALS} refusals in one call, the last one: {reason}");
        Err(HostFault { code, message }.into())
    }
}

/// What one call has done so far. It stays with the instance, so that the next call need not make it anew: [`Call::begin`]
/// is what keeps them apart.
#[derive(Default)]
pub(super) struct Call {
    /// The event that is handled; absent in a call that may not publish.
    cause: Option<Cause>,
    outbox: Vec<Event>,
    outbox_bytes: usize,
    /// Boxed: most calls have none, and every call's end is moved about.
    transaction: Option<Box<Transaction>>,
    /// What whoever tries the plugin by hand wants to see.
    pub(super) record: Option<Box<Record>>,
    handed_over: usize,
    /// What the host has done since the guest last gave its thread back.
    unyielded: usize,
    /// Host calls since it should have; none: it need not yet.
    overdue: Option<u32>,
    refusals: u32,
}

impl Call {
    /// Leaves nothing of the call before. One with a `cause` may publish what that brings about; `record` is there if somebody
    /// wants to see more than the answer.
    #[inline]
    pub(super) fn begin(&mut self, cause: Option<&Event>, record: Option<Box<Record>>) {
        // All of it by name: a field that is added is not forgotten here.
        let Self {
            cause: last,
            outbox,
            outbox_bytes,
            transaction,
            record: kept,
            handed_over,
            unyielded,
            overdue,
            refusals,
        } = self;
        *last = cause.map(Cause::of);
        outbox.clear();
        (*outbox_bytes, *handed_over, *unyielded, *overdue, *refusals) = (0, 0, 0, None, 0);
        *transaction = None;
        *kept = record;
    }
}

/// What has to be known of the event that is handled before what it causes is given the rest; see [`Guest::take_effects`].
#[derive(Clone, Copy)]
struct Cause {
    hops: u32,
    /// The event from outside with which it all began.
    root: u64,
    /// What its id weighs, and its correlation id: an emitted event takes over both.
    id: usize,
    correlation_id: usize,
}

impl Cause {
    fn of(event: &Event) -> Self {
        let meta = &event.metadata;
        let root = meta.chain.first().copied().unwrap_or(event.seq);
        let correlation_id = meta.correlation_id.as_ref().map_or(0, |id| id.len());
        Self { hops: meta.hops, root, id: meta.event_id.len(), correlation_id }
    }
}

/// Why the host ends a call from inside a host call.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct HostFault {
    pub(super) code: FaultCode,
    pub(super) message: String,
}
