//! What becomes of a guest, whatever it does: invariants I7 and I8.

mod capabilities;
mod limits;
mod places;
mod texts;
mod turns;

use super::*;
use crate::event::NewEvent;
use crate::plugin::fault::FaultCode;
use crate::plugin::host::LogLine;
use crate::plugin::testing::*;
use std::time::{Duration, Instant};

async fn handle(body: &str) -> Result<Effects, CallError> {
    Guest::handler(body).load().await.unwrap().handle(&event(), 1).await
}

fn times(n: u32, what: &str) -> String {
    format!(
        "(local.set $i (i32.const {n}))
         (loop $l {what} (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) {OK}"
    )
}

#[track_caller]
fn fault(result: Result<Effects, CallError>, code: FaultCode, text: &str) {
    match result {
        Err(CallError::Fault(fault)) => {
            assert_eq!(fault.code, code, "{fault}");
            assert!(fault.message.contains(text), "{fault}");
        }
        other => panic!("expected the fault {code}, found {other:?}"),
    }
}

#[tokio::test]
async fn a_handler_that_returns_ok_has_its_effects_collected() {
    let effects = handle(&format!(
        "(call $publish (i32.const 288) (i32.const 9) {JSON} {RET})
         (call $increment {TEXT} (i32.const 2) {RET}) {OK}"
    ))
    .await
    .unwrap();
    let [event] = &effects.outbox[..] else { panic!("{:?}", effects.outbox) };
    let meta = &event.metadata;
    assert_eq!((event.event_type.as_str(), event.data.get(), event.seq), ("task.test", "null", 0));
    assert_eq!((meta.source.as_deref(), meta.causation_id.as_deref()), (Some("plugin/test"), Some("e1")));
    assert_eq!((meta.correlation_id.as_deref(), meta.hops), (Some("c1"), 1));
    assert!(effects.writes.is_some_and(|writes| !writes.is_read_only()));
    assert!(effects.usage.fuel > 0 && effects.usage.memory >= 2 << 16);
}

#[tokio::test]
async fn a_failure_is_told_in_the_guests_words_and_leaves_no_trace() {
    let version = Guest::handler(format!("(call $increment {TEXT} (i32.const 1) {RET}) {RETRY}")).load().await.unwrap();
    let Err(CallError::Failure(failure)) = version.handle(&event(), 1).await else { panic!("expected a failure") };
    assert_eq!(
        (failure.kind, failure.message.as_str(), failure.retry_after_ms),
        (FailureKind::Retry, "test text", None)
    );
    assert_eq!(version.namespace().size().keys, 0);
}

#[tokio::test]
async fn endless_loops_run_out_of_fuel_or_time_and_hold_no_thread() {
    let body = format!("(loop $l (br $l)) {OK}");
    let version = Guest::handler(&body).load_with("limits.deadline = \"60s\"\nlimits.fuel = 1_000_000").await;
    fault(version.handle(&event(), 1).await, FaultCode::Fuel, "used up its");
    let version = Guest::handler(&body).load_with("limits.deadline = \"20ms\"\nlimits.fuel = 1_000_000_000_000").await;
    let began = Instant::now();
    // On the test's only thread: that the timer is heard at all shows that the guest gives it back.
    fault(version.handle(&event(), 1).await, FaultCode::Deadline, "was not done after 20 ms");
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn memory_is_summed_and_its_want_has_a_name() {
    let grow =
        |pages: u32| format!("(memory.grow (i32.const {pages})) (i32.const -1) (if (i32.eq) (then unreachable)) {OK}");
    assert!(handle(&grow(1000)).await.is_ok());
    fault(handle(&grow(1024)).await, FaultCode::Memory, "was refused memory beyond 67108864 bytes");
}

#[tokio::test]
async fn traps_are_told_apart() {
    fault(handle("unreachable").await, FaultCode::Trap, "unreachable");
    fault(handle("(i32.div_u (i32.const 1) (i32.const 0))").await, FaultCode::Trap, "divide by zero");
    let deep =
        Guest { fields: "(func $deep (call $deep) (call $deep))", ..Guest::handler(format!("(call $deep) {OK}")) };
    fault(deep.load().await.unwrap().handle(&event(), 1).await, FaultCode::Stack, "stack");
}

#[tokio::test]
async fn what_a_guest_hands_over_is_checked() {
    fault(handle("(i32.const -8)").await, FaultCode::Lift, "");
    fault(handle("(i32.const 65)").await, FaultCode::Lift, "aligned");
    // An answer of case 7; a failure whose text is out of bounds; one that is not UTF-8; one of a gigabyte.
    fault(handle("(i32.store (i32.const 64) (i32.const 7)) (i32.const 64)").await, FaultCode::Lift, "discriminant");
    fault(handle(&format!("(i32.store (i32.const 104) (i32.const -1)) {RETRY}")).await, FaultCode::Lift, "");
    fault(
        handle(&format!("(i32.store8 (i32.const 256) (i32.const 255)) {RETRY}")).await,
        FaultCode::Lift,
        "handed over text that is not valid: invalid utf-8",
    );
    fault(handle(&format!("(i32.store (i32.const 108) (i32.const 0x40000000)) {RETRY}")).await, FaultCode::Lift, "");
    fault(
        handle(&format!(
            "(drop (memory.grow (i32.const 128))) (i32.store (i32.const 108) (i32.const 5000000)) {RETRY}"
        ))
        .await,
        FaultCode::Lift,
        "too much data",
    );
}

#[tokio::test]
async fn an_outbox_is_bounded_and_a_guest_that_does_not_listen_is_ended() {
    let publish = format!("(call $publish (i32.const 288) (i32.const 9) {JSON} {RET})");
    assert_eq!(handle(&times(100, &publish)).await.unwrap().outbox.len(), 64);
    fault(handle(&times(1_000_000, &publish)).await, FaultCode::Outbox, "the outbox is full");
    let denied = format!("(call $publish {TEXT} {JSON} {RET})");
    assert!(handle(&times(100, &denied)).await.unwrap().outbox.is_empty());
    fault(handle(&times(101, &denied)).await, FaultCode::Denied, "not among those");
    let shout = "(call $log (i32.const 2) (i32.const 65536) (i32.const 65536))";
    fault(handle(&times(1_000_000, shout)).await, FaultCode::Lift, "passed more than 4194304 bytes");
}

#[tokio::test]
async fn a_chain_of_causes_ends() {
    let body = format!("(call $publish (i32.const 288) (i32.const 9) {JSON} {RET}) {OK}");
    let version = Guest::handler(body).load().await.unwrap();
    let mut event = event();
    (event.seq, event.metadata.chain) = (40, (10..25).collect());
    event.metadata.hops = 15;
    let emitted = version.handle(&event, 1).await.unwrap().outbox.remove(0).metadata;
    let chain: Vec<u64> = (10..25).chain([40]).collect();
    assert_eq!((emitted.hops, emitted.chain), (16, chain.clone()));
    (event.seq, event.metadata.chain) = (50, chain);
    event.metadata.hops = 16;
    fault(version.handle(&event, 1).await, FaultCode::Loop, "17th of a chain of causes from event 10 on");
    fault(version.handle(&event, 1).await, FaultCode::Loop, "the chain: 10 → 11 → ");
    fault(version.handle(&event, 1).await, FaultCode::Loop, " → 24 → 40 → 50");
}

#[tokio::test]
async fn the_operator_grants() {
    let body = format!(
        "(call $publish (i32.const 288) (i32.const 9) {JSON} {RET})
         (if (i32.load8_u {RET}) (then (return {RETRY})))
         (call $increment {TEXT} (i32.const 2) {RET})
         (if (i32.load8_u {RET}) (then (return {RETRY}))) {OK}"
    );
    let guest = Guest::handler(body);
    for (manifest, ok) in [
        ("", true),
        ("[grants]", false),
        ("grants.kv = true", false),
        ("grants.publish = [\"task.*\"]", false),
        ("[grants]\nkv = true\npublish = [\"*\"]", true),
    ] {
        assert_eq!(guest.load_with(manifest).await.handle(&event(), 1).await.is_ok(), ok, "{manifest}");
    }
}

#[tokio::test]
async fn fresh_instances_forget_and_reused_ones_are_dropped_after_a_trap() {
    // Counts in a global: fails the second time it is called, traps the third.
    let guest = Guest {
        fields: "(global $n (mut i32) (i32.const 0))",
        ..Guest::handler(format!(
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (if (i32.eq (global.get $n) (i32.const 2)) (then (return {RETRY})))
             (if (i32.eq (global.get $n) (i32.const 3)) (then unreachable)) {OK}"
        ))
    };
    let fresh = guest.load().await.unwrap();
    for _ in 0..4 {
        fresh.handle(&event(), 1).await.unwrap();
    }
    let reused = guest.load_with("isolation = \"reuse\"").await;
    for _ in 0..2 {
        reused.handle(&event(), 1).await.unwrap();
        assert!(matches!(reused.handle(&event(), 1).await, Err(CallError::Failure(_))));
        fault(reused.handle(&event(), 1).await, FaultCode::Trap, "unreachable");
    }
}

#[tokio::test]
async fn a_reused_instance_takes_nothing_of_one_call_into_the_next() {
    // The first time it writes, fills its outbox and fails.
    let publish = format!("(call $publish (i32.const 288) (i32.const 9) {JSON} {RET})");
    let guest = Guest {
        fields: "(global $n (mut i32) (i32.const 0))",
        ..Guest::handler(format!(
            "(global.set $n (i32.add (global.get $n) (i32.const 1)))
             (local.set $i (i32.const 100))
             (if (i32.eq (global.get $n) (i32.const 1)) (then
               (call $increment {TEXT} (i32.const 2) {RET})
               (loop $l {publish} (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
               (return {RETRY})))
             {publish} (if (i32.load8_u {RET}) (then (return {RETRY}))) {OK}"
        ))
    };
    let version = guest.load_with("isolation = \"reuse\"").await;
    assert!(matches!(version.handle(&event(), 1).await, Err(CallError::Failure(_))));
    for id in ["another-1", "2"] {
        let next = NewEvent::new("task.created").event_id(id).admit().unwrap();
        let effects = version.handle(&next, 1).await.unwrap();
        let [event] = &effects.outbox[..] else { panic!("{:?}", effects.outbox) };
        assert_eq!((event.metadata.causation_id.as_deref(), &event.metadata.correlation_id), (Some(id), &None));
        assert!(effects.writes.is_none());
    }
    let counts = version.stats().counts();
    assert_eq!((counts.calls, counts.ok, counts.failures["retry"], counts.emitted), (3, 2, 1, 2));
    assert_eq!(counts.refused["outbox"], 36);
}

#[tokio::test]
async fn log_lines_and_usage_are_shown() {
    let version = Guest::handler(format!("(call $log (i32.const 3) {TEXT}) {OK}")).load().await.unwrap();
    let mut transcript = Transcript::default();
    version.handle_with(&event(), 1, Some(&mut transcript)).await.unwrap();
    let line = LogLine { level: crate::plugin::Level::Warn, message: "test text".into() };
    assert_eq!(transcript.lines, [line]);
    let described = version.described();
    assert!(described.fuel > 0 && described.memory >= 2 << 16, "{described:?}");
    let slow = Guest {
        start: "(local $i i32) (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))",
        ..Guest::handler(OK)
    };
    let slow = slow.load().await.unwrap();
    assert!(slow.described().fuel > described.fuel + 1_000, "start code is part of it: {:?}", slow.described());
    assert_eq!(slow.under(Manifest::default(), 2).await.unwrap().described(), slow.described());
    fault(handle("unreachable").await, FaultCode::Trap, "");
    let counts = version.stats.counts();
    assert_eq!((counts.calls, counts.ok), (1, 1));
    assert!(counts.fuel.max > 0.0 && counts.time_us.max > 0.0 && counts.memory_peak >= 2 << 16);
}

#[tokio::test]
async fn a_filter_answers_and_its_parameters_are_checked() {
    let schema = r#"{"type":"object","properties":{"tag":{"type":"string"}},"required":["tag"]}"#;
    let guest = Guest { params_schema: Some(schema), ..Guest::filter(TRUE) };
    let version = guest.load().await.unwrap();
    assert_eq!(version.kind(), Kind::Filter);
    let params =
        version.check_params(Some(serde_json::json!({"z": 1, "tag": "x", "a": {"c": 1, "b": 2}}))).await.unwrap();
    assert_eq!(params.as_str(), Some(r#"{"a":{"b":2,"c":1},"tag":"x","z":1}"#));
    assert!(version.matches(&event(), &params).await.unwrap());
    let error = version.check_params(Some(serde_json::json!({"tag": 5}))).await.unwrap_err();
    assert_eq!(
        (error.pointer.as_str(), error.expected.as_str(), error.found.as_str()),
        ("/tag", r#""type": "string""#, "5")
    );
    assert!(version.check_params(None).await.is_err());
    let free = Guest::filter(OK).load().await.unwrap();
    let none = free.check_params(None).await.unwrap();
    assert!(
        free.check_params(Some(serde_json::json!({}))).await.is_err() && !free.matches(&event(), &none).await.unwrap()
    );
    assert!(free.handle(&event(), 1).await.is_err());
}

#[track_caller]
fn refused(result: Result<Arc<Version>, LoadError>, code: &str, text: &str) {
    let error = result.expect_err("should be refused");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn start_code_and_describe_run_under_limits() {
    let guest = |start, describe| Guest { start, describe, ..Guest::handler(OK) };
    refused(guest("(loop $l (br $l))", "").load().await, "load.describe", "its start or `describe` faulted");
    refused(guest("unreachable", "").load().await, "load.describe", "trap");
    refused(guest("", "(loop $l (br $l))").load().await, "load.describe", "faulted");
    refused(guest("", "drop (i32.const -8)").load().await, "load.describe", "lift");
    // With the two pages that it has already, one page more than is allowed.
    let large = Guest { fields: "(memory 1023)", ..Guest::handler(OK) };
    refused(large.load().await, "load.describe", "memory");
}

#[tokio::test]
async fn what_a_plugin_says_of_itself_must_hold() {
    let guest = || Guest::handler(OK);
    refused(Guest { version: "new", ..guest() }.load().await, "load.describe", "expected a semantic version");
    refused(Guest { capabilities: &["files"], ..guest() }.load().await, "load.describe", "found \"files\"");
    refused(Guest { emits: &[""], ..guest() }.load().await, "load.describe", "emits");
    let hinted = Guest { hints: &[("config-schema", r#"{"required":["url"]}"#), ("x", "1")], ..guest() };
    refused(hinted.load().await, "load.describe", "does not meet the plugin's schema");
    let secret = Guest { hints: &[("config-schema", r#"{"properties":{"key":{"type":"number"}}}"#)], ..guest() };
    let manifest = Manifest::parse("config.key = \"hunter2\"").unwrap();
    let error = load(secret.wasm(), manifest).await.unwrap_err().to_string();
    assert!(error.contains("/key") && error.contains("number") && !error.contains("hunter2"), "{error}");
    let version = hinted.load_with("config.url = \"http://x\"").await;
    assert_eq!(version.description().warnings, ["unknown hint \"x\""]);
}

#[tokio::test]
async fn a_file_that_is_no_plugin_is_told_why() {
    let text = |wat: &str| load(wat::parse_str(wat).unwrap().into(), Manifest::default());
    refused(text("(component)").await, "load.exports", "found no exports at all");
    refused(text("(module)").await, "load.core-module", "core module");
    let newer = Guest::handler(OK).wat().replace("plugin/handler@0.1.0", "plugin/handler@0.2.0");
    refused(text(&newer).await, "load.exports", "built for contract 0.2.0, this hub knows 0.1");
    let wants = Guest::handler(OK).wat().replacen(
        "(component",
        r#"(component (import "wasi:http/types@0.2.0" (instance (export "fields" (type (sub resource)))))"#,
        1,
    );
    refused(text(&wants).await, "load.imports", "found wasi:http/types@0.2.0");
    let asks = r#"(component (import "wasi:keyvalue/store@0.2.0" (instance (export "a" (func))))"#;
    let wants = Guest::handler(OK).wat().replacen("(component", asks, 1);
    refused(text(&wants).await, "load.imports", "(a key-value store: use busway:plugin/kv)");
    let whole = Guest::handler(OK).wasm();
    for tenth in 1..10 {
        let cut = &whole[..whole.len() * tenth / 10];
        refused(load(cut.into(), Manifest::default()).await, "load.compile", "");
    }
}

/// Loads the text of a guest, of which something was replaced by something else.
async fn changed(guest: Guest, changes: &[(&str, &str)]) -> Result<Arc<Version>, LoadError> {
    let mut wat = guest.wat();
    for (from, to) in changes {
        assert!(wat.contains(from), "{from}");
        wat = wat.replace(from, to);
    }
    load(wat::parse_str(&wat).unwrap().into(), Manifest::default()).await
}

#[tokio::test]
async fn a_function_of_another_type_is_told_in_the_syntax_of_wit() {
    let params = "(param \"params\" (option string))";
    let found = changed(Guest::filter(TRUE), &[(params, ""), ("(result bool (error string))", "bool")]).await;
    let expected = "expected matches: func(event: event, params: option<json>) -> result<bool, string>";
    let text = format!("the export busway:plugin/filter@0.1.0: {expected}, found matches: func(event: event) -> bool");
    refused(found, "load.exports", &text);
    let found = changed(Guest::filter(TRUE), &[("(result bool (error string))", "(result bool (error u32))")]).await;
    refused(found, "load.exports", "found matches: func(event: event, params: option<json>) -> result<bool, u32>");
    let found = changed(Guest::handler(OK), &[("(field \"hops\" u32)", "(field \"hops\" s32)")]).await;
    refused(
        found,
        "load.exports",
        "found handle: func(event: record { seq: u64, type: string, data: string, metadata: ",
    );
    let found = changed(Guest::handler(OK), &[("(export \"handle\" ", "(export \"on-event\" ")]).await;
    refused(found, "load.exports", "delivery: delivery) -> result<_, failure>, found nothing of that name");
}

#[tokio::test]
async fn an_import_that_is_not_the_hubs_is_named() {
    let found = changed(Guest::handler(OK), &[("(param \"delta\" s32)", "(param \"delta\" u32)")]).await;
    let text = "the import busway:plugin/kv@0.1.0: expected increment: func(key: string, delta: s32) -> result<s64, \
                string>, found increment: func(key: string, delta: u32) -> result<s64, string>";
    refused(found, "load.imports", text);
    let set = "(export \"set\" (func (param";
    let more = format!("(export \"swap\" (func)) {set}");
    let found = changed(Guest::handler(OK), &[(set, &more)]).await;
    let text =
        "busway:plugin/kv@0.1.0: expected get, set, delete, keys, increment, found swap, which this hub does not offer";
    refused(found, "load.imports", text);
}

#[tokio::test]
async fn a_plugin_built_for_any_patch_of_the_contract_loads() {
    for (guest, is) in [(Guest::handler(OK), "handler"), (Guest::filter(TRUE), "filter")] {
        let version = changed(guest, &[("@0.1.0\"", "@0.1.7\"")]).await.unwrap();
        assert_eq!(version.interface(), format!("busway:plugin/{is}@0.1.7"));
        assert!(version.imports().contains(&"busway:plugin/logging@0.1.7".to_owned()), "{:?}", version.imports());
    }
    let newer = changed(Guest::filter(TRUE), &[("@0.1.0\"", "@0.2.0\"")]).await;
    refused(
        newer,
        "load.exports",
        "built for contract 0.2.0, this hub knows 0.1: it exports busway:plugin/filter@0.2.0",
    );
}
