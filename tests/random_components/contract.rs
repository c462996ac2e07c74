//! The contract, as far as the hub calls it, in the text format. The wrapping is as in the host's own tests; here it has room for a
//! module that is random.

use busway::plugin::Kind;

/// Where the random module is called from, in place of what a good plugin does there.
pub struct Role {
    pub what: &'static str,
    start: &'static str,
    describe: &'static str,
    call: &'static str,
    realloc: &'static str,
}

const GOOD: Role = Role {
    what: "within",
    start: "",
    describe: "$describe",
    call: "(drop (call $f (local.get $event))) $right",
    realloc: "(core func $libc \"realloc\")",
};

pub const ROLES: &[Role] = &[
    GOOD,
    Role { what: "again", call: "(loop $l (drop (call $f (i32.const 9))) (br $l)) $right", ..GOOD },
    Role { what: "answers", call: "(call $f (local.get $event))", ..GOOD },
    Role { what: "answers-near", call: "(i32.and (call $f (local.get $event)) (i32.const 0x3fc))", ..GOOD },
    Role { what: "starts", start: "(drop (call $f (i32.const 1)))", ..GOOD },
    Role { what: "describes", describe: "(call $f (i32.const 2))", ..GOOD },
    Role { what: "lies", describe: "(call $lie) (call $lie) $describe", ..GOOD },
    Role { what: "allocates", realloc: "(core func $random \"realloc\")", ..GOOD },
    Role { what: "says", call: "(loop $l (call $say) (br_if $l (call $f (i32.const 3)))) $right", ..GOOD },
];

fn words(words: &[u32]) -> String {
    words.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect()
}

/// What a random module may import.
pub fn imports(kind: Kind) -> &'static str {
    match kind {
        Kind::Handler => HANDLER_IMPORTS,
        Kind::Filter => FILTER_IMPORTS,
    }
}

/// The text of a component of this kind whose second module is a place for a random one.
pub fn component(kind: Kind, role: &Role) -> String {
    let handler = kind == Kind::Handler;
    let (right, described) = if handler { (64, 512) } else { (80, 640) };
    let fill = |text: &str| {
        let text = text.replace("$describe", &format!("(i32.const {described})"));
        text.replace("$right", &format!("(i32.const {right})"))
    };
    let (say, world) = if handler { (HANDLER_SAY, HANDLER) } else { (FILTER_SAY, FILTER) };
    let (lowered, export) = if handler { (HANDLER_LOWERED, "handler") } else { (FILTER_LOWERED, "filter") };
    format!(
        r#"(component {TYPES} {imported}
        {libc}
        (core instance $libc (instantiate $libc-module))
        (core func $log (canon lower (func $logging "log") (memory (core memory $libc "memory"))))
        {lowered}
        (core module $random-module)
        (core instance $random (instantiate $random-module (with "libc" (instance $libc)) (with "host" (instance $host))))
        (core module $main-module
          (import "libc" "memory" (memory 1))
          (import "random" "f" (func $f (param i32) (result i32)))
          {host}
          (func $any (param $mask i32) (result i32) (i32.and (call $f (local.get $mask)) (local.get $mask)))
          (func $say {say})
          (func $lie
            (i32.store8 (i32.add $describe_at (call $any (i32.const 63))) (call $any (i32.const 255))))
          (func $start {start})
          (start $start)
          (func (export "describe") (result i32) {describe})
          (func (export "call") (param $event i32) (result i32) {call}))
        (core instance $main (instantiate $main-module
          (with "libc" (instance $libc)) (with "host" (instance $host)) (with "random" (instance $random))))
        {world}
        (func $described (result $description) (canon lift (core func $main "describe") (memory (core memory $libc "memory"))))
        (func $called (param "event" $event) {asked}
          (canon lift (core func $main "call") (memory (core memory $libc "memory")) (realloc {realloc})))
        (instance $exported (export "describe" (func $described)) (export "{function}" (func $called)))
        (export "busway:plugin/{export}@0.1.0" (instance $exported)))"#,
        imported = if handler { [LOGGING, KV, PUBLISHER].concat() } else { LOGGING.into() },
        libc = libc(),
        host = named(imports(kind)),
        start = role.start,
        describe = fill(role.describe),
        call = fill(role.call),
        realloc = role.realloc,
        function = if handler { "handle" } else { "matches" },
        asked = if handler {
            r#"(param "delivery" $delivery) (result (result (error $failure)))"#
        } else {
            r#"(param "params" (option string)) (result (result bool (error string)))"#
        },
    )
    .replace("$describe_at", &format!("(i32.const {described})"))
}

/// The module with the memory: descriptions and their texts in it, and room from 16 KiB on.
fn libc() -> String {
    let texts = [256, 6, 272, 5, 288, 14];
    let emits_and_capabilities = words(&[320, 6, 0, 0, 336, 7, 352, 2, 360, 6]);
    let handler_says = words(&[&texts[..], &[0, 0, 384, 1, 400, 3, 0, 0]].concat());
    let filter_says = words(&[&texts[..], &[0; 5]].concat());
    format!(
        r#"(core module $libc-module
          (memory (export "memory") 2)
          (global $next (mut i32) (i32.const 16384))
          (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
            (local $at i32)
            (local.set $at (global.get $next))
            (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
            (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
              (then (drop (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536)))))))
            (local.get $at))
          (data (i32.const 84) "\01")
          (data (i32.const 256) "random") (data (i32.const 272) "1.0.0") (data (i32.const 288) "A random guest")
          (data (i32.const 320) "task.*") (data (i32.const 336) "publish") (data (i32.const 352) "kv")
          (data (i32.const 360) "config") (data (i32.const 384) "{emits_and_capabilities}")
          (data (i32.const 512) "{handler_says}") (data (i32.const 640) "{filter_says}"))"#
    )
}

/// The host's functions again, for the module that is not random: there they need names, and the memory is there already.
fn named(imports: &str) -> String {
    let functions = imports.split_once('\n').map_or("", |(_, functions)| functions);
    ["log", "set", "increment", "publish"].iter().fold(functions.to_owned(), |text, name| {
        text.replace(&format!("\"{name}\" (func "), &format!("\"{name}\" (func ${name} "))
    })
}

/// What a random module has to have.
pub const EXPORTS: &str = r#"
    (func (export "f") (param i32) (result i32) unreachable)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;

const FILTER_IMPORTS: &str = r#"(import "libc" "memory" (memory 1))
    (import "host" "log" (func (param i32 i32 i32)))"#;

const HANDLER_IMPORTS: &str = r#"(import "libc" "memory" (memory 1))
    (import "host" "log" (func (param i32 i32 i32)))
    (import "host" "set" (func (param i32 i32 i32 i32 i32)))
    (import "host" "increment" (func (param i32 i32 i32 i32)))
    (import "host" "publish" (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;

/// Mostly within the memory: what is plainly beyond it is refused at once.
const FILTER_SAY: &str = r#"
    (call $log (call $any (i32.const 3)) (call $any (i32.const 0x1ffff)) (call $any (i32.const 0x1ff)))"#;

const HANDLER_SAY: &str = r#"
    (call $log (call $any (i32.const 3)) (call $any (i32.const 0x1ffff)) (call $any (i32.const 0x1ff)))
    (call $set (call $any (i32.const 0xffff)) (call $any (i32.const 0x1ff)) (call $any (i32.const 0xffff))
      (call $any (i32.const 0xffff)) (i32.const 1024))
    (call $increment (call $any (i32.const 0xffff)) (call $any (i32.const 0x1ff)) (call $f (i32.const 4)) (i32.const 1024))
    (call $publish (i32.const 320) (i32.const 6) (call $any (i32.const 0xffff)) (call $any (i32.const 15))
      (call $any (i32.const 0xfffc)) (call $any (i32.const 3)) (call $any (i32.const 1)) (i32.const 256)
      (call $any (i32.const 7)) (call $any (i32.const 0xfffc)) (call $any (i32.const 3)) (i32.const 1024))"#;

const TYPES: &str = r#"
    (import "busway:plugin/types@0.1.0" (instance $types
      (type $pair (tuple string string))
      (type $m (record (field "event-id" string) (field "timestamp" u64) (field "correlation-id" (option string))
        (field "causation-id" (option string)) (field "source" (option string)) (field "tags" (list string))
        (field "hops" u32) (field "extensions" (list $pair))))
      (export "metadata" (type $metadata (eq $m)))
      (type $e (record (field "seq" u64) (field "type" string) (field "data" string) (field "metadata" $metadata)))
      (export "event" (type (eq $e)))
      (type $n (record (field "type" string) (field "data" string) (field "tags" (list string))
        (field "correlation-id" (option string)) (field "extensions" (list $pair))))
      (export "new-event" (type (eq $n)))
      (type $s (record (field "event-types" (list string)) (field "source-patterns" (list string))
        (field "required-tags" (list string)) (field "excluded-tags" (list string))))
      (export "subscription" (type (eq $s)))
      (type $k (enum "retry" "reject"))
      (export "failure-kind" (type $kind (eq $k)))
      (type $f (record (field "kind" $kind) (field "message" string) (field "retry-after-ms" (option u32))))
      (export "failure" (type (eq $f)))))
    (alias export $types "event" (type $event))
    (alias export $types "new-event" (type $new-event))
    (alias export $types "subscription" (type $subscription))
    (alias export $types "failure" (type $failure))
    (type $hint (tuple string string))"#;

const LOGGING: &str = r#"
    (import "busway:plugin/logging@0.1.0" (instance $logging
      (type $l (enum "trace" "debug" "info" "warn" "error"))
      (export "level" (type $level (eq $l)))
      (export "log" (func (param "level" $level) (param "message" string)))))"#;

const KV: &str = r#"
    (import "busway:plugin/kv@0.1.0" (instance $kv
      (export "set" (func (param "key" string) (param "value" (list u8)) (result (result (error string)))))
      (export "increment" (func (param "key" string) (param "delta" s32) (result (result s64 (error string)))))))"#;

const PUBLISHER: &str = r#"
    (import "busway:plugin/publisher@0.1.0" (instance $publisher
      (alias outer 1 $new-event (type $n))
      (export "new-event" (type $new (eq $n)))
      (type $c (enum "denied" "limit" "invalid"))
      (export "publish-code" (type $code (eq $c)))
      (type $p (record (field "code" $code) (field "message" string)))
      (export "publish-error" (type $error (eq $p)))
      (export "publish" (func (param "event" $new) (result (result string (error $error)))))))"#;

const FILTER_LOWERED: &str = r#"
    (core instance $host (export "log" (func $log)))"#;

const HANDLER_LOWERED: &str = r#"
    (core func $set (canon lower (func $kv "set") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core func $increment (canon lower (func $kv "increment") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core func $publish (canon lower (func $publisher "publish") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core instance $host (export "log" (func $log)) (export "set" (func $set)) (export "increment" (func $increment))
      (export "publish" (func $publish)))"#;

const HANDLER: &str = r#"
    (type $delivery-record (record (field "attempt" u32)))
    (export $delivery "delivery" (type $delivery-record))
    (type $description-record (record (field "name" string) (field "version" string) (field "summary" string)
      (field "subscriptions" (list $subscription)) (field "emits" (list string)) (field "capabilities" (list string))
      (field "hints" (list $hint))))
    (export $description "description" (type $description-record))"#;

const FILTER: &str = r#"
    (type $description-record (record (field "name" string) (field "version" string) (field "summary" string)
      (field "params-schema" (option string)) (field "hints" (list $hint))))
    (export $description "description" (type $description-record))"#;
