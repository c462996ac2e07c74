//! A guest gives its thread back, also while it is the host that works for it.

use super::*;
use crate::plugin::limits::{TICK, YIELD_FUEL};
use std::future::poll_fn;
use std::pin::pin;

/// How often a call gives its thread back.
async fn turns<T>(call: impl Future<Output = T>) -> (T, usize) {
    let (mut call, mut turns) = (pin!(call), 0);
    let answer = poll_fn(|context| {
        let polled = call.as_mut().poll(context);
        turns += usize::from(polled.is_pending());
        polled
    });
    (answer.await, turns)
}

#[tokio::test]
async fn whenever_the_host_has_worked_long_enough_for_a_guest_it_gives_its_thread_back() {
    // 64 KiB each time, and next to no fuel.
    let set = format!("(call $set {TEXT} (i32.const 65536) (i32.const 65536) {RET})");
    let version = Guest::handler(times(900, &set));
    let version = version.load_with("limits.boundary_bytes = \"64MiB\"\nlimits.deadline = \"20s\"").await;
    let (result, turns) = turns(version.handle(&event(), 1)).await;
    let usage = result.unwrap().usage;
    // Not every time, for all guests give way when one is to; but far more often than after so much time and fuel.
    let otherwise = u128::from(usage.nanoseconds) / TICK.as_nanos() + u128::from(usage.fuel / YIELD_FUEL) + 1;
    assert!(turns as u128 > otherwise * 5, "{turns} turns, {usage:?}");
}

#[tokio::test]
async fn a_guest_that_has_no_loop_or_call_in_which_to_give_its_thread_back_is_ended() {
    let count = format!("(call $increment {TEXT} (i32.const 1) {RET})");
    handle(&times(3_000, &count)).await.unwrap();
    // A quarter of a thousand are as much work as may be done in one turn.
    handle(&(count.repeat(1_200) + OK)).await.unwrap();
    fault(handle(&(count.repeat(3_000) + OK)).await, FaultCode::Deadline, "went on for 1000 host calls without a loop");
}
