//! What harm can be meant, one case each.

use super::guest::{Guest, JSON, More, OK, RET, RETRY, TEXT};
use crate::guests::probe;
use std::time::Duration;

pub struct Case {
    pub name: &'static str,
    pub wasm: Vec<u8>,
    pub manifest: &'static str,
    pub subscribes: &'static str,
    /// Events a second.
    pub rate: u32,
    pub ends: Ends,
    /// Of a call.
    pub deadline: Duration,
}

/// How it ends: with one of these codes, or well.
#[derive(Clone, Copy)]
pub enum Ends {
    Load(&'static [&'static str]),
    Fault(&'static [&'static str]),
    Well,
}

const RANDOM: More = More {
    imports: r#"(import "wasi:random/random@0.2.0" (instance $random
        (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#,
    lowered: r#"(core func $bytes (canon lower (func $random "get-random-bytes")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))"#,
    exports: r#"(export "bytes" (func $bytes))"#,
    core: r#"(import "host" "bytes" (func $bytes (param i64 i32)))"#,
};

pub const POLL: More = More {
    imports: r#"(import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $p (sub resource)))
        (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $o)) (export "p" (type $q (eq $o)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $q))))))"#,
    lowered: r#"(core func $wait (canon lower (func $poll "poll")
        (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core func $after (canon lower (func $clock "subscribe-duration")))"#,
    exports: r#"(export "wait" (func $wait)) (export "after" (func $after))"#,
    core: r#"(import "host" "wait" (func $wait (param i32 i32 i32)))
        (import "host" "after" (func $after (param i64) (result i32)))"#,
};

/// On a machine that is busy with other things, the time is over before the fuel is.
const STOPPED: &[&str] = &["fuel", "deadline"];

fn times(n: u32, what: &str) -> String {
    format!(
        "(local.set $i (i32.const {n}))
         (loop $l {what} (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) {OK}"
    )
}

fn case(name: &'static str, guest: &Guest, ends: Ends) -> Case {
    Case {
        name,
        wasm: wat::parse_str(guest.wat()).unwrap_or_else(|error| panic!("{name}: {error}")),
        manifest: "",
        subscribes: "task.created",
        rate: 100,
        ends,
        deadline: Duration::from_millis(100),
    }
}

fn body(name: &'static str, body: impl Into<String>, code: &'static [&'static str]) -> Case {
    case(name, &Guest::handler(body), Ends::Fault(code))
}

pub fn all() -> Vec<Case> {
    [time(), memory(), output()].into_iter().flatten().map(patient).collect()
}

/// What takes too much of something else than time is to be stopped for that, also where the machine is slow.
fn patient(case: Case) -> Case {
    match case.ends {
        Ends::Fault(codes) if codes.contains(&"deadline") => case,
        Ends::Load(_) => case,
        _ => Case { deadline: Duration::from_secs(10), ..case },
    }
}

fn time() -> Vec<Case> {
    let endless = "(loop $l (br $l))";
    let ok = || Guest::handler(OK);
    let sleeps = format!(
        "(i32.store (i32.const 512) (call $after (i64.const 3600000000000)))
         (call $wait (i32.const 512) (i32.const 1) {RET}) {OK}"
    );
    let crowd = "(i32.store (i32.const 512) (call $after (i64.const 0))) (drop (memory.grow (i32.const 64)))
         (local.set $i (i32.const 1000000))
         (loop $l (i32.store (i32.add (i32.const 65536) (i32.mul (i32.const 4) (local.get $i))) (i32.load (i32.const 512)))
           (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))";
    let fill = "(drop (memory.grow (i32.const 900))) (loop $l (memory.fill (i32.const 0) (i32.const 0) (i32.const 50000000)) (br $l))
         (i32.const 64)";
    let unlimited = "limits.fuel = 1_000_000_000_000";
    vec![
        body("loops in the call", format!("{endless} {OK}"), STOPPED),
        Case { manifest: unlimited, ..body("loops without a limit of fuel", format!("{endless} {OK}"), &["deadline"]) },
        case("loops in start code", &Guest { start: endless, ..ok() }, Ends::Load(&["load.describe"])),
        case("loops in describe", &Guest { describe: endless, ..ok() }, Ends::Load(&["load.describe"])),
        case("sleeps an hour", &Guest { more: POLL, ..Guest::handler(sleeps) }, Ends::Fault(&["deadline"])),
        case(
            "waits for a million things",
            &Guest {
                more: POLL,
                ..Guest::handler(format!("{crowd} (call $wait (i32.const 65540) (i32.const 1000000) {RET}) {OK}"))
            },
            Ends::Fault(&["lift"]),
        ),
        Case {
            manifest: unlimited,
            ..body(
                "a million tiny host calls",
                times(1_000_000, &format!("(call $log (i32.const 0) {TEXT})")),
                &["lift", "deadline"],
            )
        },
        Case {
            manifest: unlimited,
            ..body(
                "millions of kv calls",
                times(10_000_000, &format!("(call $increment {TEXT} (i32.const 1) {RET})")),
                &["lift", "deadline"],
            )
        },
        case("uses 99 % of its fuel each time", &Guest::handler(times(9_900_000, "")), Ends::Well),
        case(
            "recurses",
            &Guest { fields: "(func $deep (call $deep) (call $deep))", ..Guest::handler(format!("(call $deep) {OK}")) },
            Ends::Fault(&["stack"]),
        ),
        Case { manifest: unlimited, ..body("fills 50 MB again and again", fill, &["deadline", "fuel"]) },
        case(
            "traps one time in two",
            &Guest::handler(format!(
                "(if (i32.and (i32.load8_u (local.get $event)) (i32.const 1)) (then unreachable)) {OK}"
            )),
            Ends::Fault(&["trap"]),
        ),
        Case { rate: 10_000, ..body("a storm of traps", "unreachable", &["trap"]) },
        case("traps in realloc", &Guest { realloc: "unreachable", ..ok() }, Ends::Fault(&["trap"])),
        case("traps after it has answered", &Guest { post_return: "unreachable", ..ok() }, Ends::Fault(&["trap"])),
        case("loops after it has answered", &Guest { post_return: endless, ..ok() }, Ends::Fault(STOPPED)),
        Case { subscribes: "probe.harm", wasm: probe(1), ..case("", &ok(), Ends::Well) }.named("does nothing at all"),
    ]
}

fn memory() -> Vec<Case> {
    let ok = || Guest::handler(OK);
    let grow = format!("(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable {OK}");
    let big_text =
        format!("(drop (memory.grow (i32.const 700))) (i32.store (i32.const 108) (i32.const 0x40000000)) {RETRY}");
    let handles = times(100_000, "(drop (call $after (i64.const 3600000000000)))");
    let slow_leak = format!("(drop (memory.grow (i32.const 1))) {OK}");
    vec![
        body("grows to the limit", grow, &["memory"]),
        case(
            "declares 4 GiB",
            &Guest { fields: "(memory 65536)", ..ok() },
            Ends::Load(&["load.compile", "load.describe"]),
        ),
        case(
            "a table of ten million",
            &Guest { fields: "(table 10000000 funcref)", ..ok() },
            Ends::Load(&["load.compile", "load.describe"]),
        ),
        case("leaks handles", &Guest { more: POLL, ..Guest::handler(handles) }, Ends::Fault(&["lift", "trap"])),
        Case {
            manifest: "isolation = \"reuse\"",
            rate: 2_000,
            ..case("leaks 64 KiB a call", &Guest::handler(slow_leak), Ends::Well)
        },
        body("answers with a text of a gigabyte", big_text, &["lift"]),
        body("answers out of bounds", "(i32.const -8)", &["lift"]),
        body("answers out of line", "(i32.const 65)", &["lift"]),
        body(
            "answers with what is no text",
            format!("(i32.store8 (i32.const 256) (i32.const 255)) {RETRY}"),
            &["lift"],
        ),
    ]
}

fn output() -> Vec<Case> {
    let publish = format!("(call $publish (i32.const 288) (i32.const 9) {JSON} {RET})");
    let deep = format!(
        "(drop (memory.grow (i32.const 4))) (memory.fill (i32.const 70000) (i32.const 91) (i32.const 65000))
         (local.set $i (i32.const 200))
         (loop $l (call $publish (i32.const 288) (i32.const 9) (i32.const 70000) (i32.const 65000) {RET})
           (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) {OK}"
    );
    let random = times(1_000_000, &format!("(call $bytes (i64.const 60000) {RET})"));
    vec![
        body(
            "a log line of 100 MB",
            format!("(call $log (i32.const 2) (i32.const 0) (i32.const 100000000)) {OK}"),
            &["lift"],
        ),
        case(
            "many log lines",
            &Guest::handler(times(100_000, &format!("(call $log (i32.const 2) {TEXT})"))),
            Ends::Well,
        ),
        body("a million events", times(1_000_000, &publish), &["outbox"]),
        Case { subscribes: "task.*", ..body("triggers itself", format!("{publish} {OK}"), &["loop"]) },
        Case {
            manifest: "grants.publish = []",
            ..body("publishes what it may not", times(1_000, &publish), &["denied"])
        },
        body("data nested 65,000 deep", deep, &["lift"]),
        case(
            "random bytes without end",
            &Guest { more: RANDOM, ..Guest::handler(random) },
            Ends::Fault(&["lift", "memory"]),
        ),
    ]
}

impl Case {
    fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}
