//! Each limit that an operator may change holds from the next call on, for code that is there already.

use super::*;
use crate::plugin::{LimitsOverride, testing::guest::More};

const RANDOM: More = More {
    imports: r#"(import "wasi:random/random@0.2.0" (instance $random
        (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#,
    lowered: r#"(core func $bytes (canon lower (func $random "get-random-bytes")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))"#,
    exports: r#"(export "bytes" (func $bytes))"#,
    core: r#"(import "host" "bytes" (func $bytes (param i64 i32)))"#,
};

const CLOCK: More = More {
    imports: r#"(import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type $p (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $o)) (export "p" (type $q (eq $o)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $q))))))"#,
    lowered: r#"(core func $after (canon lower (func $clock "subscribe-duration")))"#,
    exports: r#"(export "after" (func $after))"#,
    core: r#"(import "host" "after" (func $after (param i64) (result i32)))"#,
};

fn manifest(isolation: &str, limit: &str) -> Manifest {
    Manifest::parse(&format!("isolation = \"{isolation}\"\n[limits]\n{limit}")).unwrap()
}

/// Ends well under the defaults, and with `code` under `limit`.
async fn check(guest: &Guest, limit: &str, code: FaultCode, text: &str) {
    for isolation in ["fresh", "reuse"] {
        let wide = load(guest.wasm(), manifest(isolation, "")).await.unwrap();
        wide.handle(&event(), 1).await.unwrap();
        let narrow = wide.under(manifest(isolation, limit), 2).await.unwrap();
        fault(narrow.handle(&event(), 1).await, code, text);
        narrow.under(manifest(isolation, ""), 3).await.unwrap().handle(&event(), 1).await.unwrap();
    }
}

#[tokio::test]
async fn what_an_instance_is_made_of_can_be_limited_and_a_limit_under_which_none_starts_is_known_before() {
    let plain = || Guest::handler(OK);
    let table = || Guest { fields: "(table 10 funcref)", ..plain() };
    for (guest, limit, text) in [
        (plain(), "instances = 1", "instance count too high at 2"),
        (plain(), "memories = 0", "memory count too high at 1"),
        (table(), "tables = 0", "table count too high at 1"),
        (table(), "table_elements = 9", "was refused tables beyond 9 elements"),
        (plain(), "memory = \"64KiB\"", "was refused memory beyond 65536 bytes"),
    ] {
        check(&guest, limit, FaultCode::Memory, text).await;
        let version = guest.load().await.unwrap();
        let error = version.try_under(&manifest("fresh", limit).limits).await.unwrap_err();
        assert!(error.code() == "load.describe" && error.to_string().contains(text), "{error}");
        version.try_under(&LimitsOverride::default()).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_call_may_use_can_be_limited() {
    let bytes = |n: u32| Guest { more: RANDOM, ..Guest::handler(format!("(call $bytes (i64.const {n}) {RET}) {OK}")) };
    check(&bytes(65), "random_bytes = \"64B\"", FaultCode::Lift, "wanted 65 random bytes at once, at most 64").await;
    check(&bytes(5_000), "boundary_bytes = \"4KiB\"", FaultCode::Lift, "passed more than 4096 bytes").await;
    let shout = |n: u32| Guest::handler(format!("(call $log (i32.const 2) (i32.const 65536) (i32.const {n})) {OK}"));
    check(&shout(5_000), "boundary_bytes = \"4KiB\"", FaultCode::Lift, "").await;
    let leaks = Guest { more: CLOCK, ..Guest::handler(times(17, "(drop (call $after (i64.const 1)))")) };
    check(&leaks, "handles = 16", FaultCode::Lift, "").await;
    let publish = format!("(call $publish (i32.const 288) (i32.const 9) {JSON} {RET})");
    let many = Guest::handler(times(110, &publish));
    let outbox = manifest("fresh", "outbox_events = 1_000");
    let wide = load(many.wasm(), outbox).await.unwrap();
    assert_eq!(wide.handle(&event(), 1).await.unwrap().outbox.len(), 110);
    for limit in ["outbox_events = 1", "outbox_bytes = \"1B\""] {
        let narrow = wide.under(manifest("fresh", limit), 2).await.unwrap();
        fault(narrow.handle(&event(), 1).await, FaultCode::Outbox, "the outbox is full");
    }
}

#[tokio::test]
async fn what_a_plugin_keeps_can_be_limited_and_stays() {
    let count =
        format!("(call $increment {TEXT} (i32.const 2) {RET}) (if (i32.load8_u {RET}) (then (return {RETRY}))) {OK}");
    let version = Guest::handler(count).load().await.unwrap();
    let wide = version.handle(&event(), 1).await.unwrap();
    wide.writes.unwrap().commit().unwrap();
    for limit in ["kv_keys = 0", "kv_bytes = \"9B\""] {
        let narrow = version.under(manifest("fresh", limit), 2).await.unwrap();
        assert!(matches!(narrow.handle(&event(), 1).await, Err(CallError::Failure(_))), "{limit}");
        assert_eq!((narrow.namespace().size().keys, narrow.namespace().size().bytes), (1, 10), "{limit}");
    }
    version.handle(&event(), 1).await.unwrap();
}

#[tokio::test]
async fn log_lines_are_cut_where_the_operator_says() {
    let version = Guest::handler(format!("(call $log (i32.const 3) (i32.const 256) (i32.const 265)) {OK}"));
    let version = version.load_with("limits.log_line_bytes = \"64B\"").await;
    let mut transcript = Transcript::default();
    version.handle_with(&event(), 1, Some(&mut transcript)).await.unwrap();
    let said = &transcript.lines[0].message;
    assert!(said.starts_with("test text") && said.ends_with("… (cut, 265 bytes)"), "{said}");
}
