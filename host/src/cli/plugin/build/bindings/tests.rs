//! What is written by hand beside the contract says the same, and contract 0.1 is what it always was.

use super::*;
use std::{fs, path::Path};
use wit_component::WitPrinter;
use wit_parser::{Function, Type, TypeDefKind, TypeId};

/// As it was when the first components were built for it, without its comments. It never changes: what else there is to say is
/// said in a contract with another version.
const FROZEN: &str = include_str!("../../../../../../tests/fixtures/contract-0.1/contract.wit");

#[test]
fn contract_0_1_is_frozen_but_for_its_comments() {
    let (resolve, world) = contract(World::Handler).unwrap();
    let package = resolve.worlds[world].package.unwrap();
    let mut printer = WitPrinter::default();
    printer.emit_docs(false).print(&resolve, package, &[]).unwrap();
    assert_eq!(printer.output.to_string(), FROZEN, "a change of the contract needs a new version, beside this one");
}

#[test]
fn the_headers_for_c_are_what_the_contract_makes_of_them() {
    let mut stale = Vec::new();
    for world in [World::Handler, World::Filter] {
        let folder = format!("plugins/sdk-c/{}", world.as_str());
        let generated = c(world);
        assert_eq!(generated.len(), packed::below(&folder).count());
        // Where whoever has changed the contract can take them from.
        let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(&folder);
        for (name, generated) in generated {
            let committed = packed::below(&folder).find(|(path, _)| *path == name);
            if committed.map(|(_, text)| text) != str::from_utf8(&generated).ok() {
                fs::create_dir_all(&wanted).unwrap();
                fs::write(wanted.join(&name), generated).unwrap();
                stale.push(format!("{folder}/{name}"));
            }
        }
    }
    assert!(
        stale.is_empty(),
        "not what the contract makes of them, which is now below target/, to be copied: {stale:?}"
    );
}

#[test]
fn the_declarations_for_javascript_are_those_of_the_contract() {
    let (resolve, _) = contract(World::Handler).unwrap();
    let declarations = packed::below("plugins/sdk-js").find(|(path, _)| *path == "contract.d.ts").unwrap().1;
    for interface in ["logging", "config", "kv", "publisher"] {
        let module = module(declarations, interface);
        let (_, of_contract) = resolve.interfaces.iter().find(|(_, of)| of.name.as_deref() == Some(interface)).unwrap();
        for function in of_contract.functions.values() {
            let line = declared(&resolve, function);
            assert!(module.contains(&line), "{interface}: expected `{line}`, found {module}");
        }
        assert_eq!(module.matches("function ").count(), of_contract.functions.len(), "{module}");
    }
    let found = |name: &str| resolve.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name)).unwrap().0;
    // Records come with every field, and null for none; a record that the plugin makes may leave those out.
    for (of_contract, interface, name, is_made) in [
        ("metadata", "types", "Metadata", false),
        ("event", "types", "RawEvent", false),
        ("new-event", "publisher", "NewEvent", true),
    ] {
        let record = record(&resolve, found(of_contract), name, is_made);
        let module = module(declarations, interface);
        let plain: String =
            module.lines().filter(|line| !line.trim_start().starts_with("/**")).collect::<Vec<_>>().join("\n");
        assert!(plain.contains(&record), "expected {record}, found {plain}");
    }
    let TypeDefKind::Enum(levels) = &resolve.types[found("level")].kind else { panic!("levels are no enum") };
    let levels: Vec<_> = levels.cases.iter().map(|case| format!("{:?}", case.name)).collect();
    assert!(module(declarations, "logging").contains(&format!("export type Level = {};", levels.join(" | "))));
}

fn module<'a>(declarations: &'a str, interface: &str) -> &'a str {
    let begin = format!("declare module \"busway:plugin/{interface}@0.1.0\" {{\n");
    let (_, rest) = declarations.split_once(&begin).unwrap_or_else(|| panic!("no module {interface}"));
    rest.split_once("\n}").unwrap().0
}

/// `busway.h` and `busway.c`, with the names of the interfaces cut short.
fn c(world: World) -> Vec<(String, Vec<u8>)> {
    let kind = world.as_str();
    // The generator complains of a name that the world does not have.
    let only_handlers: &[_] = if world == World::Handler { &["config", "kv", "publisher"] } else { &[] };
    let same = ["logging", kind].into_iter().chain(only_handlers.iter().copied()).map(|name| (name, name));
    let short = same.chain([("types", "busway")]);
    let options = wit_bindgen_c::Opts {
        rename: short.map(|(from, to)| (format!("busway:plugin/{from}@0.1.0"), to.to_owned())).collect(),
        rename_world: Some("busway".into()),
        // The component's type is embedded when the component is made; plugins/sdk-c has what the bindings want of the object.
        no_object_file: true,
        ..Default::default()
    };
    generate(world, &mut *options.build()).unwrap()
}

/// As the declarations have it.
fn declared(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<_> = function.params.iter().map(|param| member(resolve, &param.name, &param.ty, true)).collect();
    let result = function.result.as_ref().map_or("void".to_owned(), |ty| shown(resolve, ty));
    // A word of the language: declared under another name, exported under its own.
    let name = if function.name == "delete" { "remove" } else { &function.name };
    format!("function {name}({}): {result};", params.join(", "))
}

fn record(resolve: &Resolve, id: TypeId, name: &str, is_made: bool) -> String {
    let TypeDefKind::Record(record) = &resolve.types[id].kind else { panic!("{name} is no record") };
    let fields =
        record.fields.iter().map(|field| format!("    {};\n", member(resolve, &field.name, &field.ty, is_made)));
    format!("  export interface {name} {{\n{}  }}", fields.collect::<String>())
}

fn member(resolve: &Resolve, name: &str, ty: &Type, may_be_left_out: bool) -> String {
    let name = camel(name);
    match ty {
        Type::Id(id) if may_be_left_out => match &resolve.types[*id].kind {
            TypeDefKind::Option(some) => format!("{name}?: {}", shown(resolve, some)),
            _ => format!("{name}: {}", shown(resolve, ty)),
        },
        _ => format!("{name}: {}", shown(resolve, ty)),
    }
}

fn shown(resolve: &Resolve, ty: &Type) -> String {
    let id = match ty {
        Type::String => return "string".into(),
        Type::Bool => return "boolean".into(),
        Type::U32 | Type::S32 | Type::U64 | Type::S64 => return "number".into(),
        Type::Id(id) => *id,
        other => panic!("the contract has no {other:?}"),
    };
    let ty = &resolve.types[id];
    match (&ty.kind, ty.name.as_deref()) {
        (TypeDefKind::Type(Type::Id(of)), _) => shown(resolve, &Type::Id(*of)),
        (TypeDefKind::Option(some), _) => format!("{} | null", shown(resolve, some)),
        // An error is thrown.
        (TypeDefKind::Result(result), _) => result.ok.map_or("void".into(), |ok| shown(resolve, &ok)),
        (TypeDefKind::List(Type::U8), _) => "Uint8Array".into(),
        (TypeDefKind::List(of), _) => format!("{}[]", shown(resolve, of)),
        (TypeDefKind::Tuple(tuple), _) => {
            let of: Vec<_> = tuple.types.iter().map(|ty| shown(resolve, ty)).collect();
            format!("[{}]", of.join(", "))
        }
        (_, Some(name)) => {
            let name = camel(name);
            name[..1].to_uppercase() + &name[1..]
        }
        (kind, None) => panic!("the contract has no {kind:?}"),
    }
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}
