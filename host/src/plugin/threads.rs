//! Which threads a guest's calls run on. Those of the hub are for calls that are over soon; a plugin whose calls are not has them on
//! slow threads, which the kernel lets work only with what the others leave over.
//!
//! Giving way by itself is not enough to be a good neighbour: between two turns of a guest that works all the time, everything else
//! on its thread waits, and what waits for the network or a timer waits for many turns. The kernel's scheduler can interrupt
//! anybody, so who works long goes where that does not hurt.

use super::time::{Moment, nanoseconds};
use rustix::time::ClockId;
use std::{
    cell::Cell,
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tokio::runtime::{Builder, Handle, Runtime};

/// How nice the slow threads are: beside a thread of the hub, one of these has a quarter of a core (sched(7)).
const NICENESS: i32 = 5;
/// A call that burns more fuel is no short one: it takes about a millisecond, some hundred times as long as a small call.
const SHORT_FUEL: u64 = 1_000_000;
/// Nor is one that works for more nanoseconds, whatever it burns: bulk operations on memory burn next to nothing. Much more than that, because a
/// call that is short itself may have to work for others: the kernel clears pages, and waits for locks of the process, in its time.
const SHORT: u64 = Duration::from_millis(5).as_nanos() as u64;
/// In nanoseconds. A turn on a thread that is over sooner is not looked at closer, and so old may be what is known of a thread's time.
const NEAR: u64 = Duration::from_micros(200).as_nanos() as u64;
/// Short calls before a new version is believed to make them.
const BEFORE_TRUSTED: u32 = 20;
/// Short calls before one is believed again that has made a long one; twice as many each time that it breaks its word, up to ...
const BEFORE_TRUSTED_AGAIN: u32 = 1_000;
/// ... so many.
const BEFORE_TRUSTED_AT_LAST: u32 = 1_024_000;
/// So many long calls may be at work at once before one waits for another's turn to end: as many as four plugins make by default.
const THREADS: usize = 16;

/// Threads for calls that may be long: more than there are cores, so that the kernel shares them out among the calls, and no plugin's turn
/// waits for another's to end. All of them on the same cores, one less than there are where there are two or more: however nice a thread is, the kernel lets it
/// run for a millisecond or two before it gives its core to one that wakes up (EEVDF); so there is a core to wake up on. They end with this, calls and all.
#[derive(Debug)]
pub(super) struct SlowThreads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl SlowThreads {
    pub(super) fn start() -> io::Result<Self> {
        let give_way = || {
            // For the calling thread only, on Linux. Where that is refused, nothing is lost but the courtesy.
            let _ = rustix::process::nice(NICENESS);
            leave_a_core();
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("busway-slow")
            .on_thread_start(give_way)
            .enable_time()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for SlowThreads {
    fn drop(&mut self) {
        // Without waiting: this may be dropped on a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Keeps the calling thread from the first of the cores that it may work on, if that leaves any.
fn leave_a_core() {
    #[cfg(target_os = "linux")]
    if let Ok(mut cores) = rustix::thread::sched_getaffinity(None)
        && cores.count() > 1
    {
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|core| cores.is_set(*core));
        first.into_iter().for_each(|first| cores.unset(first));
        let _ = rustix::thread::sched_setaffinity(None, &cores);
    }
}

/// One turn of a call on a thread.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    began: Moment,
    /// What the thread had worked then, or a little before.
    worked: u64,
}

thread_local! {
    /// When the thread's own time was read last, and what it was. To read it takes as long as a tenth of a small call.
    static READ: Cell<(Moment, u64)> = const { Cell::new((Moment::START, 0)) };
}

impl Turn {
    #[inline]
    pub(super) fn begin(began: Moment) -> Self {
        let (at, mut worked) = READ.get();
        if began.since(at) >= NEAR {
            worked = own_time();
            READ.set((began, worked));
        }
        Self { began, worked }
    }

    /// When it began.
    #[inline]
    pub(super) fn began(self) -> Moment {
        self.began
    }

    /// How long it worked of the time that it took: not counting what the kernel gave to other threads meanwhile.
    #[inline]
    pub(super) fn worked(self, elapsed: u64) -> u64 {
        if elapsed < NEAR { elapsed } else { elapsed.min(own_time().saturating_sub(self.worked)) }
    }
}

fn own_time() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// How long the calls of a component have been lately.
#[derive(Debug)]
pub(super) struct Tempo {
    /// Short calls to come before it is believed to make short calls.
    before_trusted: AtomicU32,
    /// How many it took the last time; 0 if it was not asked for them yet.
    asked: AtomicU32,
}

impl Default for Tempo {
    fn default() -> Self {
        Self { before_trusted: AtomicU32::new(BEFORE_TRUSTED), asked: AtomicU32::new(0) }
    }
}

impl Tempo {
    /// Whether the next call belongs on the slow threads.
    #[inline]
    pub(super) fn is_slow(&self) -> bool {
        self.before_trusted.load(Relaxed) > 0
    }

    /// A call has burnt so much fuel and worked for so many nanoseconds: not counting what it waited.
    #[inline]
    pub(super) fn record(&self, fuel: u64, worked: u64) {
        if fuel > SHORT_FUEL || worked > SHORT {
            // It was believed, and the hub's threads paid for it: that costs more each time.
            let broken = if self.is_slow() { 1 } else { 2 };
            let asked = self.asked.load(Relaxed) * broken;
            let asked = asked.clamp(BEFORE_TRUSTED_AGAIN, BEFORE_TRUSTED_AT_LAST);
            self.asked.store(asked, Relaxed);
            self.before_trusted.store(asked, Relaxed);
        } else if self.is_slow() {
            let _ = self.before_trusted.try_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_earned_with_short_calls_and_lost_with_a_long_one() {
        let tempo = Tempo::default();
        let short = |times| (0..times).for_each(|_| tempo.record(SHORT_FUEL, SHORT));
        short(BEFORE_TRUSTED - 1);
        assert!(tempo.is_slow());
        short(2);
        assert!(!tempo.is_slow());
        for (fuel, worked, before) in [(SHORT_FUEL * 2, 0, 1), (0, SHORT * 2, 2), (0, SHORT * 2, 4)] {
            (0..3).for_each(|_| tempo.record(fuel, worked));
            short(BEFORE_TRUSTED_AGAIN * before - 1);
            assert!(tempo.is_slow());
            short(1);
            assert!(!tempo.is_slow(), "it takes {before} times as long");
        }
    }

    #[tokio::test]
    async fn slow_threads_give_way_to_the_others() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        let slow = SlowThreads::start().unwrap();
        assert_eq!(slow.handle().spawn(async move { niceness() }).await.unwrap(), (own + NICENESS).min(19));
        assert_eq!(niceness(), own, "the others keep theirs");
    }
}
