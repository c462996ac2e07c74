//! From what a toolchain gives, a core module or a component, to the component that the hub is given: in this process, so that authors
//! need no further tool.

use super::{super::project::World, bindings::contract};
use anyhow::Context;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as PREVIEW1, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as ADAPTER,
};
use wasm_encoder::{ComponentSectionId, ExportKind, ExportSection, Module, RawSection, Section, SectionId};
use wasmparser::{BinaryReader, ExportSectionReader, ExternalKind, Parser};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// What the contract calls what a plugin of its world exports.
fn exported(world: World, name: &str) -> Option<String> {
    let known = matches!((world, name), (_, "describe") | (World::Handler, "handle") | (World::Filter, "matches"));
    known.then(|| format!("busway:plugin/{}@0.1.0#{name}", world.as_str()))
}

/// The component, without what it does not need to run.
pub(super) fn finish(built: &[u8], world: World) -> anyhow::Result<Vec<u8>> {
    if Parser::is_component(built) {
        return strip(built);
    }
    let mut module = rename_exports(built, world)?;
    if !has_type(&module)? {
        let (resolve, id) = contract(world)?;
        embed_component_metadata(&mut module, &resolve, id, StringEncoding::UTF8)?;
    }
    // The adapter is put in only where the module speaks WASI preview 1, as Go does.
    let component = ComponentEncoder::default().validate(true).module(&module)?.adapter(PREVIEW1, ADAPTER)?.encode();
    strip(&component.context("it does not fit the contract")?)
}

/// Whether the toolchain said already which world it is for.
fn has_type(module: &[u8]) -> anyhow::Result<bool> {
    let sections = sections(module)?;
    Ok(sections.into_iter().any(|section| section.name.is_some_and(|name| name.starts_with("component-type"))))
}

/// AssemblyScript's exports have plain names: they get those of the contract.
fn rename_exports(bytes: &[u8], world: World) -> anyhow::Result<Vec<u8>> {
    let mut module = Module::new();
    for section in sections(bytes)? {
        if section.id != SectionId::Export as u8 {
            module.section(&RawSection { id: section.id, data: section.data });
            continue;
        }
        let found: Vec<_> =
            ExportSectionReader::new(BinaryReader::new(section.data, 0))?.into_iter().collect::<Result<_, _>>()?;
        let mut exports = ExportSection::new();
        for export in &found {
            // A toolchain that gives the full names may export a function of the author's of the same plain name.
            let full = exported(world, export.name).filter(|full| found.iter().all(|other| other.name != full));
            exports.export(full.as_deref().unwrap_or(export.name), kind(export.kind)?, export.index);
        }
        module.section(&exports);
    }
    Ok(module.finish())
}

fn kind(kind: ExternalKind) -> anyhow::Result<ExportKind> {
    Ok(match kind {
        ExternalKind::Func => ExportKind::Func,
        ExternalKind::Table => ExportKind::Table,
        ExternalKind::Memory => ExportKind::Memory,
        ExternalKind::Global => ExportKind::Global,
        ExternalKind::Tag => ExportKind::Tag,
        other => anyhow::bail!("expected exports of functions, tables, memories, globals or tags, found {other:?}"),
    })
}

/// Names, notes on who made it and debug sections help nobody at run time, and some differ from build to build.
fn is_needless(section: &str) -> bool {
    const NAMES: [&str; 8] = [
        "name",
        "component-name",
        "producers",
        "target_features",
        "build_id",
        "sourceMappingURL",
        "external_debug_info",
        "linking",
    ];
    NAMES.contains(&section) || [".debug", "reloc.", "go:", "go."].iter().any(|prefix| section.starts_with(prefix))
}

/// A component or module without its needless sections, and so everything in it.
fn strip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = bytes.get(..HEADER).unwrap_or_default().to_vec();
    let is_component = Parser::is_component(bytes);
    for section in sections(bytes)? {
        let nested = [ComponentSectionId::CoreModule as u8, ComponentSectionId::Component as u8].contains(&section.id);
        if section.name.is_some_and(is_needless) {
            continue;
        }
        let data = if is_component && nested { strip(section.data)? } else { section.data.to_vec() };
        RawSection { id: section.id, data: &data }.append_to(&mut out);
    }
    Ok(out)
}

/// Magic number and version.
const HEADER: usize = 8;

struct Part<'a> {
    id: u8,
    data: &'a [u8],
    /// Of a custom section.
    name: Option<&'a str>,
}

/// The sections of a module or component, which have the same frame.
fn sections(bytes: &[u8]) -> anyhow::Result<Vec<Part<'_>>> {
    if !bytes.starts_with(b"\0asm") || bytes.len() < HEADER {
        anyhow::bail!("expected WebAssembly, found {} bytes that begin otherwise", bytes.len());
    }
    let mut reader = BinaryReader::new(&bytes[HEADER..], HEADER);
    let mut parts = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        let data = reader.read_bytes(size as usize)?;
        let name = (id == SectionId::Custom as u8).then(|| BinaryReader::new(data, 0).read_string()).transpose()?;
        parts.push(Part { id, data, name });
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handler that does nothing, as a toolchain without component bindings makes it.
    const PLAIN: &str = r#"(module
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 8)
        (func (export "describe") (result i32) i32.const 64)
        (func $here (export "handle") (param i32) (result i32) i32.const 128)
        (@custom "producers" "\00"))"#;

    #[test]
    fn a_core_module_with_plain_names_becomes_a_component_of_the_contract() {
        let bytes = finish(&wat::parse_str(PLAIN).unwrap(), World::Handler).unwrap();
        assert!(Parser::is_component(&bytes));
        wasmparser::Validator::new().validate_all(&bytes).unwrap();
        let texts = String::from_utf8_lossy(&bytes).into_owned();
        assert!(texts.contains("busway:plugin/handler@0.1.0") && !texts.contains("producers"));
        assert_eq!(finish(&bytes, World::Handler).unwrap(), bytes, "nothing more to do");
    }

    #[test]
    fn what_has_the_full_names_keeps_them() {
        let full = PLAIN.replace(
            "(export \"describe\")",
            "(export \"describe\") (export \"busway:plugin/handler@0.1.0#describe\")",
        );
        let bytes = finish(&wat::parse_str(full).unwrap(), World::Handler).unwrap();
        wasmparser::Validator::new().validate_all(&bytes).unwrap();
    }

    #[test]
    fn what_lacks_an_export_is_refused_with_its_name() {
        let error =
            finish(&wat::parse_str(PLAIN.replace("\"handle\"", "\"handel\"")).unwrap(), World::Handler).unwrap_err();
        assert!(format!("{error:#}").contains("handler@0.1.0` function `handle`"), "{error:#}");
        assert!(finish(b"#!/bin/sh", World::Handler).unwrap_err().to_string().contains("expected WebAssembly"));
    }
}
