//! One call into an instance: under fuel, a deadline, limits of memory, stack and bytes. What went wrong comes out as a
//! typed [`Fault`]; nothing a guest does comes out as a panic or an error of wasmtime's.
//!
//! Knows nothing of versions, statistics or what a call is for. Start reading at [`Calls::call`].

use super::bindings::filter::exports::busway::plugin::filter::Description as FilterDescription;
use super::bindings::filter::{FilterPlugin, FilterPluginPre};
use super::bindings::handler::busway::plugin::types;
use super::bindings::handler::exports::busway::plugin::handler::{Delivery, Description as HandlerDescription};
use super::bindings::handler::{HandlerPlugin, HandlerPluginPre};
use super::convert::Lists;
use super::fault::{Fault, FaultCode, looped};
use super::host::{Context, Guest, HostFault, Record, Transcript, invalid_text, printable};
use super::limits::{MAX_REUSES, Refused, YIELD_FUEL};
use super::room::Place;
use super::time::{Late, Moment, Spent, Wakes, within};
use crate::event::Event;
use crate::kv::Transaction;
use futures_util::future::BoxFuture;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasmtime::component::Component;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};

/// What an instance is asked.
pub(super) enum Question<'a> {
    Describe,
    Handle(&'a Lists<'a>, u32),
    Matches(&'a Lists<'a>, Option<&'a str>),
}

impl<'a> Question<'a> {
    /// The event to which whatever the guest publishes is due.
    #[inline]
    fn cause(&self) -> Option<&'a Event> {
        match self {
            Self::Handle(lists, _) => Some(lists.source()),
            Self::Describe | Self::Matches(..) => None,
        }
    }
}

/// What it answers.
pub(super) enum Answer {
    // Boxed: answers to events are small, and are passed on often.
    Handler(Box<HandlerDescription>),
    Filter(Box<FilterDescription>),
    Handled(Result<(), types::Failure>),
    Matched(Result<bool, String>),
}

/// What a call may use up.
pub(super) struct Budget {
    pub(super) fuel: u64,
    pub(super) deadline: Duration,
}

/// What a call used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel, start code included where the instance is fresh.
    pub fuel: u64,
    /// Wall clock.
    pub nanoseconds: u64,
    /// Bytes of memory that the instance had at the end.
    pub memory: usize,
}

/// How a call ended.
pub(super) struct Ended {
    pub(super) answer: Result<Answer, Fault>,
    pub(super) usage: Usage,
}

/// A component that is linked and has every export of its world.
#[derive(Clone)]
pub(super) enum Linked {
    Handler(HandlerPluginPre<Guest>),
    Filter(FilterPluginPre<Guest>),
}

enum Exports {
    Handler(HandlerPlugin),
    Filter(FilterPlugin),
}

struct Live {
    store: Store<Guest>,
    exports: Option<Exports>,
    calls: u32,
    wakes: Wakes,
    // Last: what is dropped gives back its part of the pool, and then its place.
    place: Place,
}

/// Instances that wait for a call: they go in and out with every one, as a pointer, not as bytes.
type Idle = Vec<Box<Live>>;

/// Makes instances of one version, and keeps them where they are to be reused.
pub(super) struct Instances {
    linked: Linked,
    context: Arc<Context>,
    /// What each takes of the engine's room.
    needed: u32,
    /// At most so many wait for a call; 0: every call has a new one.
    keep: usize,
    idle: Mutex<Idle>,
    /// The version is not called any more: whoever finishes on it leaves nothing behind. Written under the lock of `idle`.
    retired: AtomicBool,
}

/// Calls one right after the other: they have one instance, where it may be reused, and each begins when the one before has ended.
pub(super) struct Calls<'a> {
    instances: &'a Instances,
    /// The one that answered last, and when it had. None before the first call, and after one that did not answer.
    last: Option<(Box<Live>, Moment)>,
}

impl Linked {
    pub(super) fn component(&self) -> &Component {
        match self {
            Self::Handler(pre) => pre.instance_pre().component(),
            Self::Filter(pre) => pre.instance_pre().component(),
        }
    }

    /// Boxed, so that a call of an instance that is there does not carry the room for it along.
    fn start<'a>(&'a self, store: &'a mut Store<Guest>) -> BoxFuture<'a, wasmtime::Result<Exports>> {
        Box::pin(async move {
            Ok(match self {
                Self::Handler(pre) => Exports::Handler(pre.instantiate_async(store).await?),
                Self::Filter(pre) => Exports::Filter(pre.instantiate_async(store).await?),
            })
        })
    }
}

impl Instances {
    pub(super) fn new(linked: Linked, context: Arc<Context>, keep: usize) -> Self {
        let needed = context.engine.room().needed_for(linked.component());
        Self { linked, context, needed, keep, idle: Mutex::default(), retired: AtomicBool::new(false) }
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Of the same component, for calls in another context.
    pub(super) fn with(&self, context: Arc<Context>, keep: usize) -> Self {
        Self::new(self.linked.clone(), context, keep)
    }

    pub(super) fn linked(&self) -> &Linked {
        &self.linked
    }

    /// Whether instances are kept at all; those that wait are dropped if not.
    pub(super) fn set_retired(&self, retired: bool) {
        let mut idle = self.lock();
        self.retired.store(retired, Relaxed);
        let dropped = if retired { std::mem::take(&mut *idle) } else { Vec::new() };
        drop(idle);
        // Outside the lock: each gives back its memory.
        drop(dropped);
    }

    /// Whether its version is not called any more.
    #[inline]
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// For one call right after another.
    #[inline]
    pub(super) fn calls(&self) -> Calls<'_> {
        Calls { instances: self, last: None }
    }

    #[inline]
    async fn take(&self) -> Box<Live> {
        self.context.engine.ticker().called();
        if self.keep > 0
            && let Some(live) = self.lock().pop()
        {
            return live;
        }
        let place = self.context.engine.room().enter(self.needed).await;
        Box::new(Live::new(self.linked.component().engine(), Arc::clone(&self.context), place))
    }

    /// For the calls of others.
    #[inline]
    fn keep(&self, mut live: Box<Live>) {
        let mut idle = self.lock();
        if !self.is_retired() && idle.len() < self.keep && live.place.keep() {
            idle.push(live);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls<'_> {
    /// Asks an instance; what it says besides its answer is in `transcript`. Dropping the future ends the call. What its caller does between
    /// two of them counts as time of the second.
    pub(super) async fn call(
        &mut self,
        question: Question<'_>,
        budget: &Budget,
        transcript: Option<&mut Transcript>,
    ) -> Ended {
        let (mut live, began) = match self.last_again() {
            Some(again) => again,
            // Waiting for room is not the plugin's time.
            None => (self.instances.take().await, Moment::now()),
        };
        let Instances { linked, context, .. } = self.instances;
        let cause = question.cause();
        live.store.data_mut().call.begin(cause, transcript.as_deref().map(Record::of));
        let (answer, spent) = match live.refuel(budget.fuel) {
            Ok(()) => {
                let mut wakes = std::mem::take(&mut live.wakes);
                let ended = within(began, budget.deadline, pin!(live.ask(linked, question)), &mut wakes).await;
                live.wakes = wakes;
                ended
            }
            Err(error) => (Ok(Err(error)), Spent::default()),
        };
        let usage = Usage {
            fuel: budget.fuel.saturating_sub(live.store.get_fuel().unwrap_or(0)),
            nanoseconds: spent.elapsed,
            memory: live.store.data().limiter.memory(),
        };
        context.tempo.record(usage.fuel, spent.worked);
        let guest = live.store.data_mut();
        // A refusal that the guest lived with must not put a name to a later trap.
        let refused = guest.limiter.take_refused();
        let (stdout, stderr) = guest.take_output();
        if let (Some(transcript), Some(record)) = (transcript, guest.call.record.take()) {
            *transcript = record.into_transcript(stdout, stderr.clone(), usage);
        }
        let answer = match answer {
            Ok(Ok(answer)) => {
                live.calls += 1;
                self.last = Some((live, began.after(spent.elapsed)));
                Ok(answer)
            }
            // A store that trapped or stopped in the middle is not to be trusted: it is dropped here.
            Ok(Err(error)) => Err(live.explain(&error, refused, budget, &stderr, &spent, cause)),
            Err(Late) => Err(over(budget.deadline, &stderr, &spent)),
        };
        Ended { answer, usage }
    }

    /// Where the last instance may be called again.
    #[inline]
    fn last_again(&mut self) -> Option<(Box<Live>, Moment)> {
        let (mut live, ended) = self.last.take()?;
        live.may_be_called_again(self.instances.keep).then_some((live, ended))
    }

    /// What the last call would publish and write, because of `cause`; nothing of it has happened.
    pub(super) fn effects(&mut self, cause: &Event) -> (Vec<Event>, Option<Box<Transaction>>) {
        let Some((live, _)) = &mut self.last else { return Default::default() };
        live.store.data_mut().take_effects(cause)
    }
}

impl Drop for Calls<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some((live, _)) = self.last_again() {
            self.instances.keep(live);
        }
    }
}

impl Live {
    fn new(engine: &wasmtime::Engine, context: Arc<Context>, place: Place) -> Self {
        let (boundary_bytes, handles) = (context.limits.boundary_bytes, context.limits.handles);
        let mut store = Store::new(engine, Guest::new(context));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(boundary_bytes);
        store.set_max_component_handles(handles);
        Self { store, exports: None, calls: 0, wakes: Wakes::default(), place }
    }

    #[inline]
    fn refuel(&mut self, fuel: u64) -> wasmtime::Result<()> {
        if self.calls == 0 {
            // Stays as it is from call to call.
            self.store.fuel_async_yield_interval(Some(YIELD_FUEL))?;
            // That it may give way at all is said by the line above.
            self.store.epoch_deadline_callback(|mut store| {
                store.data_mut().gives_way();
                Ok(UpdateDeadline::Yield(1))
            });
        }
        self.store.set_epoch_deadline(1);
        self.store.set_fuel(fuel)
    }

    /// Where so many instances are kept.
    #[inline]
    fn may_be_called_again(&mut self, keep: usize) -> bool {
        keep > 0 && self.calls < MAX_REUSES && self.store.data_mut().limiter.may_rest()
    }

    async fn ask(&mut self, linked: &Linked, question: Question<'_>) -> wasmtime::Result<Answer> {
        if self.exports.is_none() {
            // Start code runs here, under the same fuel and deadline.
            self.exports = Some(linked.start(&mut self.store).await?);
        }
        let store = &mut self.store;
        match (&self.exports, question) {
            (Some(Exports::Handler(plugin)), Question::Describe) => {
                plugin.busway_plugin_handler().call_describe(store).await.map(|said| Answer::Handler(said.into()))
            }
            (Some(Exports::Handler(plugin)), Question::Handle(lists, attempt)) => {
                let delivery = Delivery { attempt };
                plugin.busway_plugin_handler().call_handle(store, lists.event(), delivery).await.map(Answer::Handled)
            }
            (Some(Exports::Filter(plugin)), Question::Describe) => {
                plugin.busway_plugin_filter().call_describe(store).await.map(|said| Answer::Filter(said.into()))
            }
            (Some(Exports::Filter(plugin)), Question::Matches(lists, params)) => {
                plugin.busway_plugin_filter().call_matches(store, lists.event(), params).await.map(Answer::Matched)
            }
            _ => Err(wasmtime::format_err!("the plugin is of the other kind")),
        }
    }

    fn explain(
        &self,
        error: &wasmtime::Error,
        refused: Option<Refused>,
        budget: &Budget,
        stderr: &str,
        spent: &Spent,
        cause: Option<&Event>,
    ) -> Fault {
        let (code, mut message) = classify(error, refused, self.exports.is_some(), budget.fuel);
        if let (FaultCode::Loop, Some(cause)) = (code, cause) {
            message = looped(&message, &cause.metadata.chain, cause.seq);
        }
        // What the host found in what the guest did is the same however long that took.
        let starved = if error.is::<HostFault>() { Duration::ZERO } else { spent.starved() };
        Fault { code, message: with_stderr(message, stderr), starved }
    }
}

fn classify(error: &wasmtime::Error, refused: Option<Refused>, started: bool, fuel: u64) -> (FaultCode, String) {
    if let Some(fault) = error.downcast_ref::<HostFault>() {
        return (fault.code, fault.message.clone());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return (FaultCode::Memory, format!("the hub has no room for another instance: {}", error.root_cause()));
    }
    if let Some(refused) = refused {
        return (FaultCode::Memory, format!("was refused {refused}, then: {}", error.root_cause()));
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return (FaultCode::Trap, format!("exited with status {}", exit.0));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => (FaultCode::Fuel, format!("used up its {fuel} units of fuel")),
        Some(Trap::StackOverflow) => (FaultCode::Stack, "its stack was full".to_owned()),
        Some(
            Trap::StringOutOfBounds
            | Trap::ListOutOfBounds
            | Trap::InvalidDiscriminant
            | Trap::InvalidChar
            | Trap::UnalignedPointer,
        ) => (FaultCode::Lift, error.root_cause().to_string()),
        Some(trap) => (FaultCode::Trap, trap.to_string()),
        // None of its code has run: it is made of more instances, tables or memories than it may have.
        None if !started => (FaultCode::Memory, error.root_cause().to_string()),
        // Not the guest's code but what it handed over: pointers, texts, discriminants, too much.
        None => (FaultCode::Lift, invalid_text(error).unwrap_or_else(|| error.root_cause().to_string())),
    }
}

fn over(deadline: Duration, stderr: &str, spent: &Spent) -> Fault {
    let (all, starved) = (deadline.as_millis(), spent.starved());
    let worked = Duration::from_nanos(spent.worked).as_millis();
    let message =
        format!("was not done after {all} ms, {worked} of them at work and {} behind others", starved.as_millis());
    Fault { code: FaultCode::Deadline, message: with_stderr(message, stderr), starved }
}

fn with_stderr(message: String, stderr: &str) -> String {
    let said = printable(stderr.trim());
    if said.is_empty() { message } else { format!("{message}; stderr: {said}") }
}
