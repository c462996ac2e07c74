//! Has every guest give its thread back every few milliseconds, whatever it does.
//!
//! Fuel alone does not: what costs a lot of it may be one operation that nothing interrupts, such as filling or copying memory, and what the host does
//! for a guest costs none. At each tick of the engine's epoch a guest gives way at its next loop or call; what it
//! can then still hold up is one bulk operation on its own memory, some 15 ms for 64 MiB.

use super::limits::TICK;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// With no call begun for so long, none is at work: longer than any deadline. Then there are no ticks, and an idle hub sleeps.
const IDLE: Duration = Duration::from_secs(300);

/// See the module's head. Ends with its owner.
#[derive(Debug)]
pub(super) struct Ticker {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
    /// To be woken without taking the handle.
    wake: Thread,
}

#[derive(Debug, Default)]
struct State {
    /// A call began since this was last looked at.
    called: AtomicBool,
    asleep: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: wasmtime::Engine) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let own = state.clone();
        let thread = thread::Builder::new().name("busway-ticker".into()).spawn(move || run(&own, &engine))?;
        Ok(Self { state, wake: thread.thread().clone(), thread: Some(thread) })
    }

    /// A call begins.
    #[inline]
    pub(super) fn called(&self) {
        // Looked at first: all threads write here, and it is set already for all but one call in a tick.
        if !self.state.called.load(Relaxed) {
            self.state.called.store(true, Relaxed);
        }
        if self.state.asleep.load(Relaxed) {
            self.wake.unpark();
        }
    }
}

fn run(state: &State, engine: &wasmtime::Engine) {
    let mut last = Instant::now();
    while !state.ended.load(Relaxed) {
        // An unpark that comes between the look and the parking makes the parking return at once.
        state.asleep.store(last.elapsed() > IDLE, Relaxed);
        if state.called.swap(false, Relaxed) {
            last = Instant::now();
            state.asleep.store(false, Relaxed);
        }
        // Also asleep it looks now and then, should the two have missed one another.
        thread::park_timeout(if state.asleep.load(Relaxed) { Duration::from_secs(1) } else { TICK });
        engine.increment_epoch();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.ended.store(true, Relaxed);
        self.wake.unpark();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
