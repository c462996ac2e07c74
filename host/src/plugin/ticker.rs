//! Has every guest give its thread back every few milliseconds, whatever it does.
//!
//! Fuel alone does not: what costs a lot of it may be one operation that nothing interrupts, such as filling or copying memory, and what the host does
//! for a guest costs none. At each tick of the engine's epoch a guest gives way at its next loop or call; what it
//! can then still hold up is one bulk operation on its own memory, some 15 ms for 64 MiB, or `MAX_OVERDUE` host calls with neither between them.
//! Besides those by time there are ticks that [`super::host`] asks for.

use super::limits::{APART, TICK};
use super::time::Moment;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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
    engine: wasmtime::Engine,
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
    /// The last tick that was asked for, in nanoseconds on the clock.
    asked: AtomicU64,
}

impl Ticker {
    pub(super) fn start(engine: wasmtime::Engine) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let own = (state.clone(), engine.clone());
        let thread = thread::Builder::new().name("busway-ticker".into()).spawn(move || run(&own.0, &own.1))?;
        Ok(Self { state, engine, wake: thread.thread().clone(), thread: Some(thread) })
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

    /// A tick out of turn, for one guest, though all give way at it: so that is not done for whoever asks too soon after another. True if the guest will
    /// give way.
    pub(super) fn tick(&self) -> bool {
        let (now, last) = (Moment::now().since(Moment::START), self.state.asked.load(Relaxed));
        if u128::from(now.saturating_sub(last)) < APART.as_nanos() {
            return false;
        }
        // Another that is faster has done it for both.
        if self.state.asked.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            self.engine.increment_epoch();
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::ENGINE;

    #[test]
    fn ticks_that_are_asked_for_are_no_more_than_all_guests_can_bear() {
        let (began, mut ticks) = (Instant::now(), 0);
        for _ in 0..100_000 {
            ticks += u128::from(ENGINE.ticker().tick());
        }
        assert!(ticks > 0 && ticks <= began.elapsed().as_nanos() / APART.as_nanos() + 1, "{ticks} ticks");
    }
}
