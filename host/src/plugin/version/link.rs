//! Links a compiled component with the host, and says in words what is missing or has another form where that fails. Of which
//! version of the contract it is was asked before it was compiled: see [`crate::plugin::gate`].

use super::Version;
use super::signature::Side;
use crate::plugin::bindings::filter::FilterPluginPre;
use crate::plugin::bindings::handler::HandlerPluginPre;
use crate::plugin::engine::Engine;
use crate::plugin::fault::LoadError;
use crate::plugin::gate::CONTRACT;
use crate::plugin::grants::Capability;
use crate::plugin::instance::Linked;
use std::collections::BTreeSet;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// Every import found, every export of one of the two worlds there.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<Linked, LoadError> {
    let exports = names(component.component_type().exports(engine.linker().engine()).map(|(name, _)| name));
    let has = |interface: &str| exports.iter().any(|name| of_contract(name) == Some(interface));
    let is_handler = match (has("handler"), has("filter")) {
        (true, false) => true,
        (false, true) => false,
        (true, true) => {
            let expected = expected();
            return Err(LoadError::Exports(format!("expected {expected}, found both: make it two plugins")));
        }
        (false, false) => return Err(LoadError::Exports(missing(&exports))),
    };
    // Wasmtime does not miss an interface of which nothing is used.
    if let Some(strange) = strange_imports(engine, component) {
        return Err(LoadError::Imports(strange));
    }
    let pre = engine
        .linker()
        .instantiate_pre(component)
        .map_err(|error| LoadError::Imports(unknown(engine, component, &error)))?;
    // Asked here: wasmtime looks at the types of exports only when an instance is made.
    if let Some(unlike) = unlike(engine, component) {
        return Err(LoadError::Exports(unlike));
    }
    let linked = if is_handler {
        HandlerPluginPre::new(pre).map(Linked::Handler)
    } else {
        FilterPluginPre::new(pre).map(Linked::Filter)
    };
    linked.map_err(|error| LoadError::Exports(format!("an export is not as the contract has it: {error:#}")))
}

/// What it asks for by its imports.
pub(super) fn imported(engine: &Engine, component: &Component) -> BTreeSet<Capability> {
    let ty = component.component_type();
    ty.imports(engine.linker().engine()).filter_map(|(name, _)| Capability::imported(name)).collect()
}

/// What can be read off its component.
impl Version {
    /// The interface of the contract that it exports, with the version for which it was built.
    pub fn interface(&self) -> String {
        let (component, mine) = (self.instances.linked().component(), self.kind().as_str());
        let exports = names(component.component_type().exports(component.engine()).map(|(name, _)| name));
        exports.into_iter().find(|name| of_contract(name) == Some(mine)).unwrap_or_default()
    }

    /// The interfaces that it imports; not one of them gives it anything that is not granted.
    pub fn imports(&self) -> Vec<String> {
        let component = self.instances.linked().component();
        names(component.component_type().imports(component.engine()).map(|(name, _)| name))
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

/// The interface's name alone, if it is one of the contract's.
fn of_contract(name: &str) -> Option<&str> {
    let name = name.strip_prefix("busway:plugin/")?;
    Some(name.split_once('@').map_or(name, |(name, _)| name))
}

fn expected() -> String {
    format!("an export of busway:plugin/handler@{CONTRACT} or of busway:plugin/filter@{CONTRACT}")
}

fn missing(exports: &[String]) -> String {
    let other = exports.iter().find(|name| of_contract(name).is_some());
    let found = match (other, exports) {
        (Some(other), _) => format!("{other}, which nobody asks for"),
        (None, []) => "no exports at all".to_owned(),
        (None, exports) => {
            let shown: Vec<_> = exports.iter().take(8).map(String::as_str).collect();
            format!("{}: built for another world", shown.join(", "))
        }
    };
    format!("{}, found {found}", format_args!("expected {}", expected()))
}

/// The function that is missing or of another type.
fn unlike(engine: &Engine, component: &Component) -> Option<String> {
    let (engine, ty) = (engine.linker().engine(), component.component_type());
    ty.exports(engine).find_map(|(name, item)| match (of_contract(name), item.ty) {
        (Some(interface @ ("handler" | "filter")), ComponentItem::ComponentInstance(found)) => {
            Side::Export.mismatch(engine, interface, &found).map(|what| format!("the export {name}: {what}"))
        }
        _ => None,
    })
}

/// Imports that the host does not offer, if there are any.
fn strange_imports(engine: &Engine, component: &Component) -> Option<String> {
    let (engine, ty) = (engine.linker().engine(), component.component_type());
    let strange = ty.imports(engine).map(|(name, _)| name).filter(|name| !is_offered(name));
    let strange: Vec<String> = strange.take(8).map(purpose).collect();
    let offered = || WASI.map(|(package, _)| package).join(", ");
    (!strange.is_empty()).then(|| {
        format!(
            "expected imports of busway:plugin@{CONTRACT} and of wasi 0.2 ({}), found {}",
            offered(),
            strange.join(", ")
        )
    })
}

fn unknown(engine: &Engine, component: &Component, error: &wasmtime::Error) -> String {
    let (engine, ty) = (engine.linker().engine(), component.component_type());
    let mismatch = ty.imports(engine).find_map(|(name, item)| match (of_contract(name), item.ty) {
        (Some(interface), ComponentItem::ComponentInstance(found)) => {
            Side::Import.mismatch(engine, interface, &found).map(|what| format!("the import {name}: {what}"))
        }
        _ => None,
    });
    mismatch.unwrap_or_else(|| format!("an import is not as the host has it: {error:#}"))
}

fn is_offered(name: &str) -> bool {
    if let Some(interface) = of_contract(name) {
        return CONTRACT_IMPORTS.contains(&interface);
    }
    let Some((path, version)) = name.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    version.starts_with("0.2.") && WASI.iter().any(|(known, has)| *known == package && has.contains(&interface))
}

/// What a component may import of the contract.
const CONTRACT_IMPORTS: [&str; 5] = ["types", "logging", "config", "kv", "publisher"];

/// The packages of WASI 0.2 that the host links, with their interfaces.
const WASI: [(&str, &[&str]); 6] = [
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:clocks", &["wall-clock", "monotonic-clock", "timezone"]),
    ("wasi:random", &["random", "insecure", "insecure-seed"]),
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:filesystem", &["types", "preopens"]),
    (
        "wasi:sockets",
        &["network", "instance-network", "tcp", "tcp-create-socket", "udp", "udp-create-socket", "ip-name-lookup"],
    ),
];

/// Longest name that is shown, in characters.
const MAX_SHOWN: usize = 100;

/// What is often asked for and not there, and what to use instead.
const KNOWN: [(&str, &str); 8] = [
    ("wasi:http/", "HTTP: a plugin has no network"),
    ("wasi:tls/", "TLS: a plugin has no network"),
    ("wasi:keyvalue/", "a key-value store: use busway:plugin/kv"),
    ("wasi:config/", "settings: use busway:plugin/config"),
    ("wasi:logging/", "log lines: use busway:plugin/logging"),
    ("wasi:messaging/", "messages: use busway:plugin/publisher"),
    ("wasi:blobstore/", "files: a plugin has none"),
    ("wasi:nn/", "machine learning"),
];

/// The name of an import, and what it is for where that is known.
fn purpose(name: &str) -> String {
    let is_cut = name.chars().nth(MAX_SHOWN).is_some();
    let mut shown: String = name.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    if is_cut {
        shown.push('…');
    }
    match KNOWN.iter().find(|(known, _)| name.starts_with(known)) {
        Some((_, what)) => format!("{shown} ({what})"),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interfaces_that_there_are_can_be_imported() {
        for name in
            ["busway:plugin/kv@0.1.0", "busway:plugin/types@0.1.3", "wasi:io/streams@0.2.6", "wasi:cli/exit@0.2.0"]
        {
            assert!(is_offered(name), "{name}");
        }
        let long = format!("wasi:io/{}@0.2.0", "a".repeat(10_000));
        for name in [&*long, "wasi:iota/streams@0.2.0", "wasi:io/streams@0.3.0", "busway:plugin/files@0.1.0", "x", ""] {
            assert!(!is_offered(name), "{}", purpose(name));
        }
        assert_eq!(purpose(&long).chars().count(), MAX_SHOWN + 1);
    }
}
