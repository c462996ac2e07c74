//! What a guest asks of the host and does not get: it is told so, and may go on.

use super::guest::{Guest, JSON, More, OK, RET, TEXT};
use crate::hub::TestHub;
use serde_json::json;

const SUBSCRIBED: &str =
    "limits.deadline = \"10s\"\nretry.attempts = 1\nsubscriptions = [{ event_types = [\"task.created\"] }]";

/// Real sockets and real files, as the interfaces of WASI have them.
const OUTSIDE: More = More {
    imports: r#"
        (import "wasi:sockets/network@0.2.0" (instance $network
          (type $e (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
            "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit" "address-not-bindable"
            "address-in-use" "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted"
            "datagram-too-large" "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure"))
          (export "error-code" (type (eq $e)))
          (type $f (enum "ipv4" "ipv6"))
          (export "ip-address-family" (type (eq $f)))))
        (alias export $network "error-code" (type $error-code))
        (alias export $network "ip-address-family" (type $family))
        (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
        (alias export $tcp "tcp-socket" (type $tcp-socket))
        (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
          (alias outer 1 $error-code (type $e)) (export "error-code" (type $error (eq $e)))
          (alias outer 1 $family (type $f)) (export "ip-address-family" (type $ip (eq $f)))
          (alias outer 1 $tcp-socket (type $t)) (export "tcp-socket" (type $socket (eq $t)))
          (export "create-tcp-socket" (func (param "address-family" $ip) (result (result (own $socket) (error $error)))))))
        (import "wasi:sockets/udp@0.2.0" (instance $udp (export "udp-socket" (type (sub resource)))))
        (alias export $udp "udp-socket" (type $udp-socket))
        (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
          (alias outer 1 $error-code (type $e)) (export "error-code" (type $error (eq $e)))
          (alias outer 1 $family (type $f)) (export "ip-address-family" (type $ip (eq $f)))
          (alias outer 1 $udp-socket (type $t)) (export "udp-socket" (type $socket (eq $t)))
          (export "create-udp-socket" (func (param "address-family" $ip) (result (result (own $socket) (error $error)))))))
        (import "wasi:filesystem/types@0.2.0" (instance $files (export "descriptor" (type (sub resource)))))
        (alias export $files "descriptor" (type $descriptor))
        (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
          (alias outer 1 $descriptor (type $d)) (export "descriptor" (type $open (eq $d)))
          (export "get-directories" (func (result (list (tuple (own $open) string)))))))"#,
    lowered: r#"
        (core func $connect (canon lower (func $create "create-tcp-socket") (memory (core memory $libc "memory"))))
        (core func $send (canon lower (func $create-udp "create-udp-socket") (memory (core memory $libc "memory"))))
        (core func $list (canon lower (func $preopens "get-directories")
          (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))"#,
    exports: r#"(export "tcp" (func $connect)) (export "udp" (func $send)) (export "list" (func $list))"#,
    core: r#"
        (import "host" "tcp" (func $tcp (param i32 i32)))
        (import "host" "udp" (func $udp (param i32 i32)))
        (import "host" "list" (func $list (param i32)))"#,
};

/// Traps unless what a host call has written is an error with this number.
fn must_be_error(number: u32) -> String {
    format!(
        "(if (i32.ne (i32.load8_u {RET}) (i32.const 1)) (then unreachable))
         (if (i32.ne (i32.load8_u offset=4 {RET}) (i32.const {number})) (then unreachable))"
    )
}

/// Says that it came to its end.
fn end() -> String {
    format!("(call $publish (i32.const 288) (i32.const 9) {JSON} {RET}) {OK}")
}

async fn runs_to_its_end(guest: &Guest) -> TestHub {
    let hub = TestHub::start().await;
    hub.install("test", wat::parse_str(guest.wat()).unwrap(), SUBSCRIBED).await;
    hub.publish("task.created", json!(null)).await;
    let status = hub.plugin_until("test", |status| status["calls"] == 1).await;
    assert_eq!((&status["ok"], &status["faults"]), (&json!(1), &json!({})), "{status}");
    assert_eq!(hub.events_of("task.test", 1).await[0]["data"], json!(null));
    hub
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_wants_sockets_is_denied_them_and_one_that_looks_for_files_finds_no_directory() {
    const ACCESS_DENIED: u32 = 1;
    let body: String = ["tcp", "udp"]
        .into_iter()
        .flat_map(|socket| (0..2).map(move |family| format!("(call ${socket} (i32.const {family}) {RET})")))
        .map(|call| call + &must_be_error(ACCESS_DENIED))
        .collect();
    // Found: where they are, and how many.
    let look = format!(
        "(i32.store offset=4 {RET} (i32.const -1)) (call $list {RET}) (if (i32.load offset=4 {RET}) (then unreachable))"
    );
    runs_to_its_end(&Guest { more: OUTSIDE, ..Guest::handler(body + &look + &end()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_not_json_is_an_error_that_the_guest_handles_and_the_hub_counts() {
    const INVALID: u32 = 2;
    let publish = format!("(call $publish (i32.const 288) (i32.const 9) {TEXT} {RET})");
    let hub = runs_to_its_end(&Guest::handler(publish + &must_be_error(INVALID) + &end())).await;
    let (_, status) = hub.get("/v1/plugins/test").await;
    assert_eq!(status["refused"], json!({"denied": 0, "outbox": 0, "invalid": 1}));
    for (reason, count) in [("denied", 0), ("outbox", 0), ("invalid", 1)] {
        let sample = format!("busway_plugin_refused_total{{plugin=\"test\",reason=\"{reason}\"}}");
        assert_eq!(hub.metric(&sample).await, count, "{sample}");
    }
}
