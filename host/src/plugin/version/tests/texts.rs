//! Texts that are not UTF-8: an error that the guest can handle wherever the contract has one, and
//! never the end of a call that goes on.

use super::*;
use crate::plugin::testing::guest::More;

/// Puts three bytes at 512, of which the second is not UTF-8.
const BAD: &str = "(i32.store (i32.const 512) (i32.const 0x62ff61))";
const BAD_TEXT: &str = "(i32.const 512) (i32.const 3)";

/// Traps unless the result of a host call begins with `byte`.
fn expect(byte: u32) -> String {
    format!("(if (i32.ne (i32.load8_u {RET}) (i32.const {byte})) (then unreachable))")
}

fn invalid(version: &Version) -> u64 {
    version.stats().counts().refused.get("invalid").copied().unwrap_or_default()
}

#[tokio::test]
async fn a_kv_key_that_is_not_utf8_is_an_error_to_the_guest_and_changes_nothing() {
    let error = expect(1);
    let version = Guest::handler(format!(
        "{BAD} (call $set {BAD_TEXT} {TEXT} {RET}) {error}
         (call $increment {BAD_TEXT} (i32.const 1) {RET}) {error}
         (call $set {TEXT} (i32.load offset=8 {RET}) (i32.load offset=12 {RET}) {RET}) {ok} {OK}",
        ok = expect(0)
    ))
    .load()
    .await
    .unwrap();
    let mut writes = version.handle(&event(), 1).await.unwrap().writes.unwrap();
    let message = writes.get("test text").unwrap().unwrap().to_vec();
    assert_eq!(
        String::from_utf8(message).unwrap(),
        "key: not valid text: invalid utf-8 sequence of 1 bytes from index 1"
    );
    assert_eq!(writes.keys("", None).len(), 1);
    assert_eq!((invalid(&version), version.stats().counts().faults.len()), (2, 0));
}

#[tokio::test]
async fn an_event_with_text_that_is_not_utf8_is_refused_as_invalid_and_the_call_goes_on() {
    const NONE: &str = "(i32.const 0) (i32.const 0)";
    let call = |event_type: &str, data: &str, tags: &str, id: &str, extensions: &str| {
        format!("(call $publish_all {event_type} {data} {tags} {id} {extensions} {RET}) {}", expect(1))
    };
    let (good, no_id) = ("(i32.const 288) (i32.const 9)", "(i32.const 0) (i32.const 0) (i32.const 0)");
    // A list of one text, and of one pair of texts.
    let lists = format!(
        "{BAD} (i64.store (i32.const 520) (i64.const 0x300000200)) (i64.store (i32.const 528) (i64.const 0x900000100))"
    );
    let one = "(i32.const 520) (i32.const 1)";
    let bad_id = format!("(i32.const 1) {BAD_TEXT}");
    let version = Guest::handler(format!(
        "{lists} {} {} {} {} {} (call $publish {good} {JSON} {RET}) {} {OK}",
        call(BAD_TEXT, JSON, NONE, no_id, NONE),
        call(good, BAD_TEXT, NONE, no_id, NONE),
        call(good, JSON, one, no_id, NONE),
        call(good, JSON, NONE, &bad_id, NONE),
        call(good, JSON, NONE, no_id, one),
        expect(0),
    ))
    .load()
    .await
    .unwrap();
    let mut transcript = Transcript::with_trace();
    let effects = version.handle_with(&event(), 1, Some(&mut transcript)).await.unwrap();
    assert_eq!(effects.outbox.len(), 1, "the good one is taken");
    let answers = transcript.trace.unwrap();
    let fields: Vec<_> = answers.iter().filter_map(|call| call.answer.split_once(": not valid text")).collect();
    let fields: Vec<_> = fields.into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["type", "data", "tags", "correlation-id", "extensions"]);
    assert_eq!(invalid(&version), 5);
}

#[tokio::test]
async fn a_log_line_that_is_not_utf8_is_replaced_by_one_that_says_so() {
    let version = Guest::handler(format!("{BAD} (call $log (i32.const 2) {BAD_TEXT}) {OK}")).load().await.unwrap();
    let mut transcript = Transcript::default();
    version.handle_with(&event(), 1, Some(&mut transcript)).await.unwrap();
    let message = "(message: not valid text: invalid utf-8 sequence of 1 bytes from index 1)".to_owned();
    assert_eq!(transcript.lines, [LogLine { level: crate::plugin::host::Level::Info, message }]);
}

#[tokio::test]
async fn a_setting_whose_key_is_not_utf8_is_not_set() {
    let guest = Guest {
        more: More::CONFIG,
        ..Guest::handler(format!("{BAD} (call $get {BAD_TEXT} {RET}) {} {OK}", expect(0)))
    };
    let version = guest.load().await.unwrap();
    version.handle(&event(), 1).await.unwrap();
    assert_eq!(invalid(&version), 1);
}

#[tokio::test]
async fn a_guest_that_goes_on_with_texts_that_are_not_utf8_ends() {
    let body = format!("{BAD} {}", times(1_000, &format!("(call $increment {BAD_TEXT} (i32.const 1) {RET})")));
    fault(handle(&body).await, FaultCode::Lift, "went on after 100 refusals in one call, the last one: key: not valid");
}

#[tokio::test]
async fn a_failure_whose_text_is_not_utf8_is_the_fault_lift_and_says_why() {
    let body = format!("(i32.store8 (i32.const 256) (i32.const 255)) {RETRY}");
    fault(handle(&body).await, FaultCode::Lift, "handed over text that is not valid: invalid utf-8 sequence");
}
