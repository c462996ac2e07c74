//! The time of a call: its deadline, and what of the time until then was the call's own.

use super::threads::Turn;
use rustix::time::{ClockId, clock_gettime};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll, Wake, Waker};
use std::time::Duration;
use tokio::task::unconstrained;
use tokio::time::sleep;

/// On the clock that never goes back. One number: a call looks at it so often that [`std::time::Instant`], whose differences are
/// calls and checks, takes a hundredth of a small call more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(u64);

impl Moment {
    /// Before any other.
    pub(super) const START: Self = Self(0);

    #[inline]
    pub(super) fn now() -> Self {
        Self(nanoseconds(ClockId::Monotonic))
    }

    /// Nanoseconds from `earlier` to this.
    #[inline]
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    #[inline]
    pub(super) fn after(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// What a clock says. Neither this one nor that of a thread goes below zero, or in 500 years over the bound.
#[inline]
pub(super) fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// The deadline came first.
pub(super) struct Late;

/// The time of a call, in nanoseconds.
#[derive(Default)]
pub(super) struct Spent {
    pub(super) elapsed: u64,
    /// Of it, that in turns on a thread ...
    turns: u64,
    /// ... and what the kernel left of them.
    pub(super) worked: u64,
    /// Between turns, though the call could have gone on.
    queued: u64,
}

impl Spent {
    /// How long it could have gone on and others were at work instead.
    pub(super) fn starved(&self) -> Duration {
        Duration::from_nanos(self.turns.saturating_sub(self.worked) + self.queued)
    }
}

/// As [`tokio::time::timeout_at`], but with no timer for a call that only ever gives way to others and waits for nothing: nearly all are
/// of that kind, and a timer costs as much as a tenth of a short one.
///
/// Pinned by its caller: handed over as a value, all that it could ever hold would be copied. `wakes` may be that of an earlier call, which is over.
pub(super) async fn within<F: Future>(
    began: Moment,
    time: Duration,
    mut call: Pin<&mut F>,
    wakes: &mut Wakes,
) -> (Result<F::Output, Late>, Spent) {
    let mut timer = None;
    let (mut first, mut spent) = (Some(began), Spent::default());
    let answer = poll_fn(|context| {
        let first = first.take();
        let turn = Turn::begin(first.unwrap_or_else(Moment::now));
        let polled = match &wakes.0 {
            Some((wakened, waker)) if first.is_none() => {
                spent.queued += wakened.waited(turn.began());
                wakened.turn_begins(context.waker());
                call.as_mut().poll(&mut task::Context::from_waker(waker))
            }
            _ => call.as_mut().poll(context),
        };
        let ended = Moment::now();
        let took = ended.since(turn.began());
        spent.turns += took;
        spent.worked += turn.worked(took);
        // The first turn begins with the call: most have no other, and one subtraction less.
        spent.elapsed = if first.is_some() { took } else { ended.since(began) };
        if let Poll::Ready(output) = polled {
            if first.is_none() {
                wakes.end();
            }
            return Poll::Ready(Ok(output));
        }
        // Not only by the timer: a thread that always has something to do seldom looks at those.
        let left = time.saturating_sub(Duration::from_nanos(spent.elapsed));
        if left.is_zero() {
            return Poll::Ready(Err(Late));
        }
        // Not known of its first turn, which most calls end in: asked again.
        if first.is_some() {
            wakes.begin(ended);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if wakes.0.as_ref().is_some_and(|(wakened, _)| wakened.turn_ended(ended)) {
            return Poll::Pending;
        }
        // Unconstrained: a guest that uses up its task's budget in each turn must not keep the timer from being looked at.
        let timer = timer.get_or_insert_with(|| Box::pin(unconstrained(sleep(left))));
        timer.as_mut().poll(context).map(|()| Err(Late))
    })
    .await;
    (answer, spent)
}

/// Wakes a call that has more than one turn. Made for the first of its instance, and there for the next.
#[derive(Default)]
pub(super) struct Wakes(Option<(Arc<Wakened>, Waker)>);

impl Wakes {
    /// For a call that can go on since `now`.
    fn begin(&mut self, now: Moment) {
        // Whoever still has the waker of an earlier call is not to wake this one: the pair here is two.
        let ours = self.0.take().filter(|(wakened, _)| Arc::strong_count(wakened) == 2);
        let (wakened, _) = self.0.insert(ours.unwrap_or_else(|| {
            let new = Arc::<Wakened>::default();
            (new.clone(), new.into())
        }));
        wakened.woken.store(now.0, Relaxed);
        wakened.in_turn.store(false, Relaxed);
    }

    /// The call is over: its task is not held any longer.
    fn end(&self) {
        if let Some((wakened, _)) = &self.0 {
            *wakened.waker.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

/// When a call that gave its thread back could have gone on: at once where it did so by itself, and when what it waited for
/// was there otherwise. What is between that and its next turn is time that others had.
#[derive(Default)]
struct Wakened {
    /// On the clock, or one of the two below.
    woken: AtomicU64,
    in_turn: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// It waits for something.
const NOT_YET: u64 = 0;
/// In its turn, as whoever gives way by itself: it could go on when that was over.
const IN_TURN: u64 = 1;

impl Wakened {
    /// How long it has been able to go on by `now`, where a turn begins.
    fn waited(&self, now: Moment) -> u64 {
        match self.woken.swap(NOT_YET, Relaxed) {
            // Woken from elsewhere in its turn, and that was noted after it: it happens next to never, and is not counted.
            NOT_YET | IN_TURN => 0,
            woken => now.since(Moment(woken)),
        }
    }

    /// Wakes this one from now on.
    fn turn_begins(&self, waker: &Waker) {
        self.in_turn.store(true, Relaxed);
        let mut followed = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !followed.as_ref().is_some_and(|followed| followed.will_wake(waker)) {
            *followed = Some(waker.clone());
        }
    }

    /// Whether it can go on.
    fn turn_ended(&self, now: Moment) -> bool {
        self.in_turn.store(false, Relaxed);
        let _ = self.woken.compare_exchange(IN_TURN, now.0, Relaxed, Relaxed);
        self.woken.load(Relaxed) != NOT_YET
    }
}

impl Wake for Wakened {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = if self.in_turn.load(Relaxed) { IN_TURN } else { Moment::now().0 };
        // The first counts.
        let _ = self.woken.compare_exchange(NOT_YET, woken, Relaxed, Relaxed);
        let followed = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = followed {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::time::Instant;

    const DEADLINE: Duration = Duration::from_millis(40);

    async fn spent(call: impl Future<Output = ()>) -> (bool, Spent) {
        let (answer, spent) = within(Moment::now(), DEADLINE, pin!(call), &mut Wakes::default()).await;
        (answer.is_ok(), spent)
    }

    /// Gives way as a guest does: woken at once.
    async fn give_way() {
        let mut given = false;
        poll_fn(|context| {
            context.waker().wake_by_ref();
            if std::mem::replace(&mut given, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn busy(time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {}
    }

    #[tokio::test]
    async fn who_waits_for_something_of_its_own_is_not_starved() {
        let (in_time, spent) = spent(sleep(DEADLINE * 10)).await;
        assert!(!in_time && spent.starved() < DEADLINE / 2, "{:?}", spent.starved());
    }

    #[tokio::test]
    async fn who_waits_after_giving_way_is_over_at_its_deadline() {
        for turns in 0..3 {
            let began = Instant::now();
            let waits = async {
                for _ in 0..turns {
                    give_way().await;
                }
                std::future::pending().await
            };
            let (in_time, _) = spent(waits).await;
            assert!(!in_time && began.elapsed() >= DEADLINE, "{turns} turns");
        }
    }

    #[tokio::test]
    async fn who_gives_way_to_others_that_work_is_starved() {
        let gives_way = async {
            loop {
                give_way().await;
            }
        };
        // On the same thread, in turns with it.
        let other = async {
            for _ in 0..20 {
                busy(DEADLINE / 8);
                give_way().await;
            }
        };
        let ((in_time, spent), ()) = tokio::join!(spent(gives_way), other);
        assert!(!in_time && spent.starved() > DEADLINE / 2, "{:?}", spent.starved());
    }

    #[tokio::test]
    async fn who_gives_way_once_and_stands_behind_others_is_starved() {
        let other = async { busy(DEADLINE / 2) };
        let ((in_time, spent), ()) = tokio::join!(spent(give_way()), other);
        assert!(in_time && spent.starved() > DEADLINE / 4, "{:?}", spent.starved());
    }

    #[test]
    fn a_waker_of_an_earlier_call_wakes_no_later_one() {
        let mut wakes = Wakes::default();
        wakes.begin(Moment::now());
        let (first, waker) = wakes.0.clone().unwrap();
        drop(first);
        wakes.begin(Moment::now());
        let (later, _) = wakes.0.as_ref().unwrap();
        later.waited(Moment::now());
        waker.wake();
        assert!(!later.turn_ended(Moment::now()));
    }

    #[tokio::test]
    async fn a_call_that_never_lets_the_timers_be_looked_at_is_over_at_its_deadline_all_the_same() {
        let began = Instant::now();
        let spins = async {
            loop {
                busy(DEADLINE / 10);
                give_way().await;
            }
        };
        let (in_time, _) = spent(spins).await;
        assert!(!in_time && began.elapsed() < DEADLINE * 20);
    }
}
