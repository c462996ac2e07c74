//! The functions of the contract and those of a component in the syntax of WIT, so that a mismatch can be told in the words of
//! whoever wrote the plugin. A component's types have no names, so what has the form of one of the contract's is shown under its
//! name.
//!
//! Knows nothing of linking. Start reading at [`Side`].

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type};

/// Names and types of the functions of an interface.
type Functions = &'static [(&'static str, &'static str)];

const EXPORTS: &[(&str, Functions)] = &[
    (
        "handler",
        &[
            ("describe", "func() -> description"),
            ("handle", "func(event: event, delivery: delivery) -> result<_, failure>"),
        ],
    ),
    (
        "filter",
        &[
            ("describe", "func() -> description"),
            ("matches", "func(event: event, params: option<json>) -> result<bool, string>"),
        ],
    ),
];

const IMPORTS: &[(&str, Functions)] = &[
    ("logging", &[("log", "func(level: level, message: string)")]),
    ("config", &[("get", "func(key: string) -> option<string>")]),
    (
        "kv",
        &[
            ("get", "func(key: string) -> result<option<list<u8>>, string>"),
            ("set", "func(key: string, value: list<u8>) -> result<_, string>"),
            ("delete", "func(key: string) -> result<_, string>"),
            ("keys", "func(prefix: string, after: option<string>) -> result<list<string>, string>"),
            ("increment", "func(key: string, delta: s32) -> result<s64, string>"),
        ],
    ),
    ("publisher", &[("publish", "func(event: new-event) -> result<string, publish-error>")]),
    ("types", &[]),
];

/// The contract's types by their form, with `json` as what it is, a string.
const NAMED: &[(&str, &str)] = &[
    (
        "metadata",
        "record { event-id: string, timestamp: u64, correlation-id: option<string>, causation-id: option<string>, \
         source: option<string>, tags: list<string>, hops: u32, extensions: list<tuple<string, string>> }",
    ),
    ("event", "record { seq: u64, type: string, data: string, metadata: metadata }"),
    (
        "new-event",
        "record { type: string, data: string, tags: list<string>, correlation-id: option<string>, \
         extensions: list<tuple<string, string>> }",
    ),
    (
        "subscription",
        "record { event-types: list<string>, source-patterns: list<string>, required-tags: list<string>, \
         excluded-tags: list<string> }",
    ),
    ("failure-kind", "enum { retry, reject }"),
    ("failure", "record { kind: failure-kind, message: string, retry-after-ms: option<u32> }"),
    ("delivery", "record { attempt: u32 }"),
    (
        "description",
        "record { name: string, version: string, summary: string, subscriptions: list<subscription>, \
         emits: list<string>, capabilities: list<string>, hints: list<tuple<string, string>> }",
    ),
    (
        "description",
        "record { name: string, version: string, summary: string, params-schema: option<string>, \
         hints: list<tuple<string, string>> }",
    ),
    ("level", "enum { trace, debug, info, warn, error }"),
    ("publish-code", "enum { denied, limit, invalid }"),
    ("publish-error", "record { code: publish-code, message: string }"),
];

/// Parts of a type that are looked at: a stranger's may be of any size.
const MAX_PARTS: usize = 500;
/// Longest text of a function.
const MAX_SHOWN: usize = 400;

/// From where one looks at an interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The component must have every function of it.
    Export,
    /// The component may use any function of it.
    Import,
}

impl Side {
    /// What is wrong with the component's `interface`, by its name without package and version; none: nothing that shows here.
    pub(super) fn mismatch(self, engine: &Engine, interface: &str, found: &ComponentInstance) -> Option<String> {
        let table = if self == Self::Export { EXPORTS } else { IMPORTS };
        let Some((_, expected)) = table.iter().find(|(name, _)| *name == interface) else {
            let known: Vec<_> = table.iter().map(|(name, _)| *name).collect();
            return Some(format!(
                "expected one of the contract's interfaces ({}), found {interface}",
                known.join(", ")
            ));
        };
        if self == Self::Export {
            return expected.iter().find_map(|(name, signature)| {
                let item = found.get_export(engine, name).map(|found| found.ty);
                differs(name, signature, item.as_ref())
            });
        }
        let mut used = found.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        used.find_map(|(name, item)| match expected.iter().find(|(known, _)| *known == name) {
            Some((_, signature)) => differs(name, signature, Some(&item.ty)),
            None => {
                let known: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
                let known = if known.is_empty() { "no functions".to_owned() } else { known.join(", ") };
                Some(format!("expected {known}, found {name}, which this hub does not offer"))
            }
        })
    }
}

fn differs(name: &str, expected: &str, found: Option<&ComponentItem>) -> Option<String> {
    let shown = match found {
        None => "nothing of that name".to_owned(),
        Some(ComponentItem::ComponentFunc(found)) => {
            let shown = function(found);
            if shown.replace("json", "string") == expected.replace("json", "string") {
                return None;
            }
            format!("{name}: {}", cut(shown))
        }
        Some(_) => format!("{name}, which is no function"),
    };
    Some(format!("expected {name}: {expected}, found {shown}"))
}

fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(MAX_SHOWN);
    if end < text.len() {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A function's type as WIT has it.
fn function(found: &ComponentFunc) -> String {
    let mut left = MAX_PARTS;
    let parameters = found.params().take(MAX_PARTS).map(|(name, ty)| {
        let ty = shown(&ty, &mut left);
        // It is the same type under another name: it must not look like the difference.
        let ty = if (name, ty.as_str()) == ("params", "option<string>") { "option<json>".to_owned() } else { ty };
        format!("{name}: {ty}")
    });
    let parameters: Vec<_> = parameters.collect();
    let result = found.results().next().map(|ty| format!(" -> {}", shown(&ty, &mut left))).unwrap_or_default();
    let waits = if found.async_() { "async " } else { "" };
    format!("{waits}func({}){result}", parameters.join(", "))
}

fn shown(ty: &Type, left: &mut usize) -> String {
    if *left == 0 {
        return "…".to_owned();
    }
    *left -= 1;
    let form = form(ty, left);
    NAMED.iter().find(|(_, known)| *known == form).map_or(form, |(name, _)| (*name).to_owned())
}

fn form(ty: &Type, left: &mut usize) -> String {
    // What no value of the contract holds is shown by its kind alone.
    let plain = |kind: &str| kind.to_owned();
    match ty {
        Type::Bool => plain("bool"),
        Type::S8 => plain("s8"),
        Type::U8 => plain("u8"),
        Type::S16 => plain("s16"),
        Type::U16 => plain("u16"),
        Type::S32 => plain("s32"),
        Type::U32 => plain("u32"),
        Type::S64 => plain("s64"),
        Type::U64 => plain("u64"),
        Type::Float32 => plain("f32"),
        Type::Float64 => plain("f64"),
        Type::Char => plain("char"),
        Type::String => plain("string"),
        Type::List(list) => format!("list<{}>", shown(&list.ty(), left)),
        Type::Option(option) => format!("option<{}>", shown(&option.ty(), left)),
        Type::Tuple(tuple) => {
            let types: Vec<_> = tuple.types().take(MAX_PARTS).map(|ty| shown(&ty, left)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        Type::Record(record) => {
            let field = |field: wasmtime::component::types::Field<'_>, left: &mut usize| {
                format!("{}: {}", field.name, shown(&field.ty, left))
            };
            let fields: Vec<_> = record.fields().take(MAX_PARTS).map(|one| field(one, left)).collect();
            format!("record {{ {} }}", fields.join(", "))
        }
        Type::Enum(names) => {
            let names: Vec<_> = names.names().take(MAX_PARTS).collect();
            format!("enum {{ {} }}", names.join(", "))
        }
        Type::Flags(flags) => {
            let names: Vec<_> = flags.names().take(MAX_PARTS).collect();
            format!("flags {{ {} }}", names.join(", "))
        }
        Type::Variant(variant) => {
            let cases: Vec<_> = variant.cases().take(MAX_PARTS).map(|case| case.name.to_owned()).collect();
            format!("variant {{ {} }}", cases.join(", "))
        }
        Type::Result(result) => match (result.ok(), result.err()) {
            (None, None) => plain("result"),
            (Some(ok), None) => format!("result<{}>", shown(&ok, left)),
            (ok, Some(err)) => {
                let ok = ok.map_or_else(|| "_".to_owned(), |ok| shown(&ok, left));
                format!("result<{ok}, {}>", shown(&err, left))
            }
        },
        Type::Map(_) => plain("map"),
        Type::Own(_) | Type::Borrow(_) => plain("resource"),
        Type::Future(_) => plain("future"),
        Type::Stream(_) => plain("stream"),
        Type::ErrorContext => plain("error-context"),
        Type::FixedLengthList(_) => plain("list<_, N>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    /// The text of `wit/` without its comments, on one line.
    fn contract() -> String {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let texts = files.filter(|path| path.extension().is_some_and(|end| end == "wit"));
        let text: String = texts.map(|path| fs::read_to_string(path).unwrap()).collect();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_expected_is_what_the_contract_says() {
        let text = contract();
        let mut known = BTreeSet::new();
        for (interface, functions) in EXPORTS.iter().chain(IMPORTS) {
            let (_, body) = text.split_once(&format!("interface {interface} {{")).unwrap();
            let body = body.split("interface ").next().unwrap();
            for (name, signature) in *functions {
                assert!(body.contains(&format!(" {name}: {signature};")), "{interface}.{name}: {signature}");
                known.insert((*interface, *name));
            }
        }
        assert_eq!(text.matches(": func(").count(), known.len(), "each function of the contract is here");
        let forms = text.replace('%', "").replace("json", "string").replace(", }", " }");
        for (name, form) in NAMED {
            let (kind, body) = form.split_once(' ').unwrap();
            assert!(forms.contains(&format!("{kind} {name} {body}")), "{name}: {form}");
        }
        let types = text.matches(" record ").count() + text.matches(" enum ").count();
        assert_eq!(types, NAMED.len(), "each type of the contract is here");
    }
}
