//! The log, the clock and random numbers: there unless the operator says no, and without them no call ends.

use super::*;
use crate::plugin::{Name, testing::guest::More};

const CLOCKS: More = More {
    imports: r#"(import "wasi:clocks/wall-clock@0.2.0" (instance $wall
          (type $d (record (field "seconds" u64) (field "nanoseconds" u32)))
          (export "datetime" (type $t (eq $d)))
          (export "now" (func (result $t)))))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))"#,
    lowered: r#"(core func $wall (canon lower (func $wall "now") (memory (core memory $libc "memory"))))
        (core func $clock (canon lower (func $clock "now")))"#,
    exports: r#"(export "wall" (func $wall)) (export "clock" (func $clock))"#,
    core: r#"(import "host" "wall" (func $wall (param i32))) (import "host" "clock" (func $clock (result i64)))"#,
};

const RANDOM: More = More {
    imports: r#"(import "wasi:random/random@0.2.0" (instance $random
          (export "get-random-bytes" (func (param "len" u64) (result (list u8))))
          (export "get-random-u64" (func (result u64)))))
        (import "wasi:random/insecure-seed@0.2.0" (instance $seed
          (export "insecure-seed" (func (result (tuple u64 u64))))))"#,
    lowered: r#"(core func $bytes (canon lower (func $random "get-random-bytes")
          (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core func $number (canon lower (func $random "get-random-u64")))
        (core func $seed (canon lower (func $seed "insecure-seed") (memory (core memory $libc "memory"))))"#,
    exports: r#"(export "bytes" (func $bytes)) (export "number" (func $number)) (export "seed" (func $seed))"#,
    core: r#"(import "host" "bytes" (func $bytes (param i64 i32))) (import "host" "number" (func $number (result i64)))
        (import "host" "seed" (func $seed (param i32)))"#,
};

/// Of a call that went well, what it wrote to its memory.
async fn written(version: &Version) -> Vec<u8> {
    let mut writes = version.handle(&event(), 1).await.unwrap().writes.unwrap();
    writes.get("test text").unwrap().unwrap().to_vec()
}

fn denied(version: &Version) -> u64 {
    version.stats().counts().refused["denied"]
}

#[tokio::test]
async fn without_the_clock_both_clocks_stand_still_at_the_second_that_is_documented() {
    // What they say, as 24 bytes.
    let guest = Guest {
        more: CLOCKS,
        ..Guest::handler(format!(
            "(call $wall (i32.const 400)) (i64.store (i32.const 416) (call $clock))
             (call $set {TEXT} (i32.const 400) (i32.const 24) {RET}) {OK}"
        ))
    };
    let said = |bytes: Vec<u8>| {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        (number(0), bytes[8..12].to_vec(), number(16))
    };
    let running = guest.load().await.unwrap();
    let (wall, ..) = said(written(&running).await);
    assert!(wall > 1_700_000_000 && denied(&running) == 0);
    let stopped = guest.load_with("grants = { kv = true, clock = false }").await;
    for _ in 0..2 {
        assert_eq!(said(written(&stopped).await), (946_684_800, vec![0; 4], 1_000_000_000));
    }
    assert_eq!(denied(&stopped), 4, "each look at a clock is counted");
    assert_eq!(
        (running.grants().names(), stopped.grants().names()),
        (vec!["publish", "kv", "config", "log", "clock"], vec!["kv", "log"])
    );
}

#[tokio::test]
async fn without_random_numbers_they_are_the_same_in_each_instance_but_not_all_the_same() {
    let guest = Guest {
        more: RANDOM,
        ..Guest::handler(format!(
            "(call $bytes (i64.const 16) (i32.const 400))
             (i64.store (i32.const 400) (i64.load (i32.load (i32.const 400))))
             (i64.store (i32.const 408) (call $number)) (call $seed (i32.const 416))
             (call $set {TEXT} (i32.const 400) (i32.const 32) {RET}) {OK}"
        ))
    };
    let random = guest.load().await.unwrap();
    assert_ne!(written(&random).await, written(&random).await);
    assert_eq!(denied(&random), 0);
    let fixed = guest.load_with("grants = { kv = true, random = false }").await;
    let first = written(&fixed).await;
    assert_eq!(first, written(&fixed).await);
    assert_ne!(first[..8], first[8..16]);
    assert_eq!(denied(&fixed), 6, "each is counted");
}

#[tokio::test]
async fn without_the_log_lines_are_dropped_and_counted_and_nothing_ends() {
    let guest = Guest::handler(format!(
        "(local.set $i (i32.const 200))
         (loop $l (call $log (i32.const 3) {TEXT}) (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) {OK}"
    ));
    let quiet = guest.load_with("[grants]\nlog = false").await;
    let mut transcript = Transcript::default();
    quiet.handle_with(&event(), 1, Some(&mut transcript)).await.unwrap();
    assert_eq!((transcript.lines.len(), denied(&quiet)), (0, 200));
    assert!(quiet.grants().lacks()[0].contains("asks for `publish`"), "{:?}", quiet.grants().lacks());
    assert!(quiet.grants().lacks().iter().any(|lacks| lacks.contains("asks for `log`")));
}

#[tokio::test]
async fn what_a_file_asks_for_is_read_without_an_operators_word() {
    let picky = Guest { hints: &[("config-schema", r#"{"required":["url"]}"#)], more: CLOCKS, ..Guest::handler(OK) };
    assert!(picky.load().await.is_err(), "it has no settings");
    let name: Name = "test".parse().unwrap();
    let asked = Version::asked(&ENGINE, name, picky.wasm()).await.unwrap();
    assert_eq!(asked.names(), ["publish", "kv", "config", "log", "clock"]);
}
