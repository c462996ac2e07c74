//! The text of components as no well-behaved toolchain would ever write them: core WebAssembly snippets, wrapped as the contract
//! wants it (types, lifting, lowering, a description in memory). Knows nothing of the host, so that tests outside of it can
//! take it in too.

use std::fmt::Write;

/// A guest to be. The snippets may call `$log (level ptr len)`, `$publish (type data as ptr len; ret)`,
/// `$increment (key as ptr len, delta, ret)`, `$set (key, value as ptr len; ret)`, `$alloc (bytes) -> ptr`.
pub(crate) struct Guest {
    pub(crate) is_filter: bool,
    pub(crate) name: &'static str,
    /// Of `handle` or `matches`: the local `$event` points to the event; the result is a pointer, see the constants.
    pub(crate) body: String,
    /// Start code.
    pub(crate) start: &'static str,
    /// Of `describe`: gets the right answer on the stack.
    pub(crate) describe: &'static str,
    /// More fields of the main module.
    pub(crate) fields: &'static str,
    pub(crate) version: &'static str,
    /// One subscription with these globs of types; none: every event.
    pub(crate) event_types: &'static [&'static str],
    pub(crate) emits: &'static [&'static str],
    pub(crate) capabilities: &'static [&'static str],
    pub(crate) hints: &'static [(&'static str, &'static str)],
    pub(crate) params_schema: Option<&'static str>,
    /// What it imports besides.
    pub(crate) more: More,
    /// Before `realloc` does its work.
    pub(crate) realloc: &'static str,
    /// Of what is called once the host has read the result.
    pub(crate) post_return: &'static str,
}

/// More imports, in the three places where an import has to be named.
#[derive(Clone, Copy, Default)]
pub(crate) struct More {
    /// Imports of the component, and `canon lower` of what is to be called.
    pub(crate) imports: &'static str,
    pub(crate) lowered: &'static str,
    /// Exports of the instance `host` ...
    pub(crate) exports: &'static str,
    /// ... and imports from it.
    pub(crate) core: &'static str,
}

impl More {
    /// The interface `config`: `$get (key as ptr len; ret)`.
    pub(crate) const CONFIG: Self = Self {
        imports: r#"(import "busway:plugin/config@0.1.0" (instance $config
              (export "get" (func (param "key" string) (result (option string))))))"#,
        lowered: r#"(core func $get (canon lower (func $config "get")
              (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))"#,
        exports: r#"(export "get" (func $get))"#,
        core: r#"(import "host" "get" (func $get (param i32 i32 i32)))"#,
    };
}

/// Pointers that a body may return.
pub(crate) const OK: &str = "(i32.const 64)";
pub(crate) const TRUE: &str = "(i32.const 80)";
pub(crate) const RETRY: &str = "(i32.const 96)";
/// Texts in memory, as pointer and length.
pub(crate) const TEXT: &str = "(i32.const 256) (i32.const 9)";
pub(crate) const JSON: &str = "(i32.const 272) (i32.const 4)";
/// Where host calls may write their results.
pub(crate) const RET: &str = "(i32.const 320)";

impl Guest {
    pub(crate) fn handler(body: impl Into<String>) -> Self {
        Self {
            is_filter: false,
            name: "test",
            body: body.into(),
            start: "",
            describe: "",
            fields: "",
            version: "1.0.0",
            event_types: &[],
            emits: &["task.*"],
            capabilities: &["publish", "kv", "config"],
            hints: &[],
            params_schema: None,
            more: More::default(),
            realloc: "",
            post_return: "",
        }
    }

    pub(crate) fn filter(body: impl Into<String>) -> Self {
        Self { is_filter: true, ..Self::handler(body) }
    }

    /// The text of the component.
    pub(crate) fn wat(&self) -> String {
        let (export, function, parameters, result) = match self.is_filter {
            false => ("handler", "handle", "(param \"delivery\" $delivery)", "(result (error $failure))"),
            true => ("filter", "matches", "(param \"params\" (option string))", "(result bool (error string))"),
        };
        let (image, described) = self.image();
        let description = if !self.is_filter { HANDLER_DESCRIPTION } else { FILTER_DESCRIPTION };
        let imports = if !self.is_filter { [LOGGING, KV, PUBLISHER].concat() } else { LOGGING.to_owned() };
        let lowered = if !self.is_filter { HANDLER_LOWERED } else { FILTER_LOWERED };
        let core = if !self.is_filter { HANDLER_CORE } else { FILTER_CORE };
        let Self { body, start, describe, fields, realloc, post_return, .. } = self;
        let More { imports: more_imports, lowered: more_lowered, exports: more_exports, core: more_core } = self.more;
        format!(
            r#"(component
            {TYPES} {imports} {more_imports}
            (core module $libc
              (memory (export "memory") 2)
              (global $next (mut i32) (i32.const 16384))
              (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
                (local $at i32) {realloc}
                (local.set $at (global.get $next))
                (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
                (block $fits
                  (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                  (br_if $fits (i32.ne (i32.const -1)
                    (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
                  unreachable)
                (local.get $at))
              (data (i32.const 0) "{image}"))
            (core instance $libc (instantiate $libc))
            {more_lowered}
            {lowered} {more_exports})
            (core module $main
              (import "libc" "memory" (memory 1))
              (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
              {more_core} {core}
              (func $alloc (param $size i32) (result i32)
                (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (local.get $size)))
              {fields}
              (func $start {start})
              (start $start)
              (func (export "describe") (result i32) (i32.const {described}) {describe})
              (func (export "call") (param $event i32) (result i32) (local $i i32) {body})
              (func (export "after") (param i32) {post_return}))
            (core instance $main (instantiate $main
              (with "libc" (instance $libc))
              (with "host" (instance $host))))
            {description}
            (func $describe (result $description)
              (canon lift (core func $main "describe") (memory (core memory $libc "memory"))))
            (func $call (param "event" $event) {parameters} (result {result})
              (canon lift (core func $main "call") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))
                (post-return (core func $main "after"))))
            (instance $exported (export "describe" (func $describe)) (export "{function}" (func $call)))
            (export "busway:plugin/{export}@0.1.0" (instance $exported)))"#
        )
    }

    /// The first bytes of memory, escaped for WAT, and where in them the description is.
    fn image(&self) -> (String, usize) {
        let mut image = vec![0u8; 1024];

        image[84] = 1;
        // A failure: error, retry, "test text", no pause.
        image[96] = 1;
        image[104..112].copy_from_slice(&[0, 1, 0, 0, 9, 0, 0, 0]);
        image[256..265].copy_from_slice(b"test text");
        image[272..276].copy_from_slice(b"null");
        image[288..297].copy_from_slice(b"task.test");
        let mut fields: Vec<u8> =
            [self.name, self.version, "A guest for tests"].map(|text| place(&mut image, text)).concat();
        match self.is_filter {
            false => {
                let types = list(&mut image, self.event_types);
                let at = align(&mut image);
                image.extend(types);
                image.extend([0; 24]);
                fields.extend(pair(at, usize::from(!self.event_types.is_empty())));
                fields.extend(list(&mut image, self.emits));
                fields.extend(list(&mut image, self.capabilities));
            }
            true => {
                fields.extend(u32::from(self.params_schema.is_some()).to_le_bytes());
                fields.extend(place(&mut image, self.params_schema.unwrap_or_default()));
            }
        }
        let hints: Vec<_> = self.hints.iter().flat_map(|(name, value)| [*name, *value]).collect();
        let mut pairs = list(&mut image, &hints);
        pairs[4..].copy_from_slice(&(self.hints.len() as u32).to_le_bytes());
        fields.extend(pairs);
        let at = align(&mut image);
        image.extend(fields);
        let escaped = image.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:02x}");
            text
        });
        (escaped, at)
    }
}

fn align(image: &mut Vec<u8>) -> usize {
    image.resize(image.len().next_multiple_of(8), 0);
    image.len()
}

fn pair(at: usize, length: usize) -> Vec<u8> {
    [(at as u32).to_le_bytes(), (length as u32).to_le_bytes()].concat()
}

fn place(image: &mut Vec<u8>, text: &str) -> Vec<u8> {
    let at = image.len();
    image.extend(text.as_bytes());
    pair(at, text.len())
}

fn list(image: &mut Vec<u8>, texts: &[&str]) -> Vec<u8> {
    let pairs: Vec<_> = texts.iter().map(|text| place(image, text)).collect();
    let at = align(image);
    image.extend(pairs.concat());
    pair(at, texts.len())
}

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
    (core func $log (canon lower (func $logging "log") (memory (core memory $libc "memory"))))
    (core instance $host (export "log" (func $log))"#;

const HANDLER_LOWERED: &str = r#"
    (core func $log (canon lower (func $logging "log") (memory (core memory $libc "memory"))))
    (core func $set (canon lower (func $kv "set") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core func $increment (canon lower (func $kv "increment") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core func $publish (canon lower (func $publisher "publish") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (core instance $host (export "log" (func $log)) (export "set" (func $set)) (export "increment" (func $increment))
      (export "publish" (func $publish))"#;

const FILTER_CORE: &str = r#"(import "host" "log" (func $log (param i32 i32 i32)))"#;

const HANDLER_CORE: &str = r#"
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i32)))
    (import "host" "increment" (func $increment (param i32 i32 i32 i32)))
    (import "host" "publish" (func $publish_all (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (func $publish (param $type i32) (param $type_len i32) (param $data i32) (param $data_len i32) (param $ret i32)
      (call $publish_all (local.get $type) (local.get $type_len) (local.get $data) (local.get $data_len)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (local.get $ret)))"#;

const HANDLER_DESCRIPTION: &str = r#"
    (type $delivery-record (record (field "attempt" u32)))
    (export $delivery "delivery" (type $delivery-record))
    (type $description-record (record (field "name" string) (field "version" string) (field "summary" string)
      (field "subscriptions" (list $subscription)) (field "emits" (list string)) (field "capabilities" (list string))
      (field "hints" (list $hint))))
    (export $description "description" (type $description-record))"#;

const FILTER_DESCRIPTION: &str = r#"
    (type $description-record (record (field "name" string) (field "version" string) (field "summary" string)
      (field "params-schema" (option string)) (field "hints" (list $hint))))
    (export $description "description" (type $description-record))"#;
