//! Which threads a guest's calls run on. Those of the hub are for calls that are over soon; a plugin whose calls are not has them on
//! slow threads, which the kernel lets work only with what the others leave over.
//!
//! Giving way by itself is not enough to be a good neighbour: between two turns of a guest that works all the time, everything else
//! on its thread waits, and what waits for the network or a timer waits for many turns. The kernel's scheduler can interrupt
//! anybody, so who works long goes where that does not hurt.

use rustix::time::{ClockId, clock_gettime};
use std::{
    cell::Cell,
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Handle, Runtime};

/// How nice the slow threads are: beside a thread of the hub, one of these has a quarter of a core (sched(7)).
const NICENESS: i32 = 5;
/// A call that burns more fuel is no short one: it takes about a millisecond, some hundred times as long as a small call.
const SHORT_FUEL: u64 = 1_000_000;
/// Nor is one that works for longer, whatever it burns: bulk operations on memory burn next to nothing. Much more than that, because a
/// call that is short itself may have to work for others: the kernel clears pages, and waits for locks of the process, in its time.
const SHORT: Duration = Duration::from_millis(5);
/// A turn on a thread that is over sooner is not looked at closer, and so old may be what is known of a thread's time.
const NEAR: Duration = Duration::from_micros(200);
/// Short calls before a new version is believed to make them.
const BEFORE_TRUSTED: u32 = 20;
/// Short calls before one is believed again that has made a long one.
const BEFORE_TRUSTED_AGAIN: u32 = 1_000;

/// Threads for calls that may be long: one less than there are cores, but one at least. However nice a thread is, the kernel lets it run for a
/// millisecond or two before it gives its core to one that wakes up (EEVDF); so there is a core to wake up on. They end with this, calls and all.
#[derive(Debug)]
pub(super) struct SlowThreads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl SlowThreads {
    pub(super) fn start() -> io::Result<Self> {
        let threads = available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
        let give_way = || {
            // For the calling thread only, on Linux. Where that is refused, nothing is lost but the courtesy.
            let _ = rustix::process::nice(NICENESS);
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
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

/// One turn of a call on a thread.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    began: Instant,
    /// What the thread had worked then, or a little before.
    worked: Duration,
}

thread_local! {
    /// When the thread's own time was read last, and what it was. To read it takes as long as a tenth of a small call.
    static READ: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

impl Turn {
    #[inline]
    pub(super) fn begin(began: Instant) -> Self {
        let worked = match READ.get() {
            Some((at, worked)) if began - at < NEAR => worked,
            _ => {
                let worked = own_time();
                READ.set(Some((began, worked)));
                worked
            }
        };
        Self { began, worked }
    }

    /// How long it worked: not counting what the kernel gave to other threads meanwhile.
    #[inline]
    pub(super) fn worked(self, ended: Instant) -> Duration {
        let elapsed = ended - self.began;
        if elapsed < NEAR { elapsed } else { elapsed.min(own_time().saturating_sub(self.worked)) }
    }
}

fn own_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// How long the calls of a component have been lately.
#[derive(Debug)]
pub(super) struct Tempo {
    /// Short calls to come before it is believed to make short calls.
    before_trusted: AtomicU32,
}

impl Default for Tempo {
    fn default() -> Self {
        Self { before_trusted: AtomicU32::new(BEFORE_TRUSTED) }
    }
}

impl Tempo {
    /// Whether the next call belongs on the slow threads.
    #[inline]
    pub(super) fn is_slow(&self) -> bool {
        self.before_trusted.load(Relaxed) > 0
    }

    /// A call has burnt so much fuel and worked for so long: not counting what it waited.
    #[inline]
    pub(super) fn record(&self, fuel: u64, worked: Duration) {
        if fuel > SHORT_FUEL || worked > SHORT {
            self.before_trusted.store(BEFORE_TRUSTED_AGAIN, Relaxed);
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
        for (fuel, worked) in [(SHORT_FUEL * 2, Duration::ZERO), (0, SHORT * 2)] {
            tempo.record(fuel, worked);
            short(BEFORE_TRUSTED_AGAIN - 1);
            assert!(tempo.is_slow());
            short(1);
            assert!(!tempo.is_slow());
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
