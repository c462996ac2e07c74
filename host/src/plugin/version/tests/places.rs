//! Where calls run, and how many at once.

use super::*;
use crate::kv::{Quota, Store};
use crate::metrics::Exposition;
use crate::plugin::engine::EngineConfig;
use futures_util::{FutureExt, future::join_all};

/// Gives its thread back many times.
const LONG: &str = "(local.set $i (i32.const 1000000))
     (loop $l (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";

async fn on_a_small_engine(guest: Guest, manifest: &str) -> (Arc<Engine>, Arc<Version>) {
    let engine = Engine::new(EngineConfig { max_instances: 4, ..EngineConfig::default() }).unwrap();
    let source = Source {
        name: "test".parse().unwrap(),
        bytes: guest.wasm(),
        manifest: Manifest::parse(manifest).unwrap(),
        generation: 1,
        namespace: Store::new(Quota::default()).namespace("test"),
        stats: Arc::default(),
    };
    let version = Version::load(&engine, source).await.unwrap();
    (engine, version)
}

fn waits(engine: &Engine) -> bool {
    let mut text = Exposition::default();
    engine.write_metrics(&mut text);
    !text.finish().contains("busway_plugin_instance_waits_total 0\n")
}

#[tokio::test]
async fn a_full_pool_makes_calls_wait_and_is_no_plugins_fault() {
    for isolation in ["fresh", "reuse"] {
        let guest = Guest::handler(format!("{LONG} {OK}"));
        let manifest = format!("isolation = \"{isolation}\"\nlimits.deadline = \"60s\"");
        let (engine, version) = on_a_small_engine(guest, &manifest).await;
        let event = event();
        for result in join_all((0..16).map(|_| version.handle(&event, 1))).await {
            result.expect("it waited");
        }
        assert!(waits(&engine));
    }
}

#[tokio::test]
async fn a_filter_is_asked_by_so_many_at_once_as_its_concurrency_says() {
    let guest = Guest::filter(format!("{LONG} {TRUE}"));
    let (engine, version) = on_a_small_engine(guest, "concurrency = 2\nlimits.deadline = \"60s\"").await;
    let (event, params) = (event(), Params::default());
    for result in join_all((0..16).map(|_| version.matches(&event, &params))).await {
        assert_eq!(result, Ok(true));
    }
    assert!(!waits(&engine), "the pool has room for four");
}

#[tokio::test]
async fn calls_that_were_long_go_to_the_slow_threads() {
    let short = Guest::handler(OK).load_with("limits.deadline = \"60s\"").await;
    assert!(short.threads().is_some(), "nothing is known of it");
    for _ in 0..100 {
        short.handle(&event(), 1).await.unwrap();
    }
    assert!(short.threads().is_none());
    let body =
        format!("(if (i32.and (i32.load8_u (local.get $event)) (i32.const 1)) (then {LONG} {LONG} {LONG})) {OK}");
    let mixed = Guest::handler(body).load_with("limits.deadline = \"60s\"").await;
    let of_seq = |seq| Event { seq, ..event() };
    for _ in 0..100 {
        mixed.handle(&of_seq(2), 1).await.unwrap();
    }
    assert!(mixed.threads().is_none());
    mixed.handle(&of_seq(1), 1).await.unwrap();
    assert!(mixed.threads().is_some());
    let renamed = mixed.under(Manifest::parse("concurrency = 2").unwrap(), 2).await.unwrap();
    assert!(renamed.threads().is_some(), "another word of the operator does not make it faster");
}

#[tokio::test]
async fn questions_in_a_row_have_one_turn_and_one_instance_and_a_fault_costs_only_its_own() {
    // Counts in a global: yes the first time, a trap the third.
    let guest = Guest {
        fields: "(global $n (mut i32) (i32.const 0))",
        ..Guest::filter(format!(
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (if (i32.eq (global.get $n) (i32.const 1)) (then (return {TRUE})))
             (if (i32.eq (global.get $n) (i32.const 3)) (then unreachable)) {OK}"
        ))
    };
    let (event, params) = (event(), Params::default());
    let fresh = guest.load_with("isolation = \"fresh\"").await;
    let mut asking = fresh.ask(&params).await;
    for _ in 0..4 {
        assert_eq!(asking.matches(&event).await, Ok(true));
    }
    let reused = guest.load_with("isolation = \"reuse\"\nconcurrency = 1").await;
    let mut asking = reused.ask(&params).await;
    for expected in [Some(true), Some(false), None, Some(true)] {
        assert_eq!(asking.matches(&event).await.ok(), expected);
    }
    let mut other = Box::pin(reused.matches(&event, &params));
    assert!(other.as_mut().now_or_never().is_none(), "it is not its turn");
    drop(asking);
    assert_eq!(other.await, Ok(false), "it has the turn, and the instance");
    let counts = reused.stats().counts();
    assert_eq!((counts.calls, counts.verdicts["true"], counts.verdicts["false"], counts.faults["trap"]), (5, 2, 2, 1));
}

#[tokio::test]
async fn questions_in_a_row_end_when_the_version_goes_out_of_service_and_after_a_long_one() {
    let (event, params) = (event(), Params::default());
    let version = Guest::filter(TRUE).load().await.unwrap();
    let mut goes_on = false;
    // Not each time, on a machine that is busy with something else.
    while !goes_on {
        let mut asking = version.ask(&params).await;
        assert_eq!(asking.matches(&event).await, Ok(true));
        goes_on = asking.may_go_on();
    }
    let asking = version.ask(&params).await;
    version.keep_instances(false);
    assert!(!asking.may_go_on(), "another version is in service");
    let long = Guest::filter(format!("{LONG} {LONG} {TRUE}")).load_with("limits.deadline = \"60s\"").await;
    let mut asking = long.ask(&params).await;
    assert_eq!(asking.matches(&event).await, Ok(true));
    assert!(!asking.may_go_on(), "others have their turn");
}
