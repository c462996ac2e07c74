//! A guest gives its thread back, also while it is the host that works for it.

use super::*;
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

fn in_a_loop(times: u32, what: &str) -> String {
    format!(
        "(local.set $i (i32.const {times}))
         (loop $l {what} (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) {OK}"
    )
}

#[tokio::test]
async fn whenever_the_host_has_worked_long_enough_for_a_guest_it_gives_its_thread_back() {
    // 64 KiB each time, and next to no fuel.
    let version =
        Guest::handler(in_a_loop(40, &format!("(call $set {TEXT} (i32.const 65536) (i32.const 65536) {RET})")));
    let (result, turns) = turns(version.load().await.unwrap().handle(&event(), 1)).await;
    let usage = result.unwrap().usage;
    assert!(turns >= 39 && usage.fuel < crate::plugin::limits::YIELD_FUEL, "{turns} turns, {usage:?}");
}

#[tokio::test]
async fn a_guest_that_has_no_loop_or_call_in_which_to_give_its_thread_back_is_ended() {
    let count = format!("(call $increment {TEXT} (i32.const 1) {RET})");
    handle(&in_a_loop(3_000, &count)).await.unwrap();
    // A quarter of a thousand are as much work as may be done in one turn.
    handle(&(count.repeat(1_200) + OK)).await.unwrap();
    fault(handle(&(count.repeat(3_000) + OK)).await, FaultCode::Deadline, "went on for 1000 host calls without a loop");
}
