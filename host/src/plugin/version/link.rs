//! Links a compiled component with the host, and says in words what is missing where that fails.

use crate::plugin::bindings::filter::FilterPluginPre;
use crate::plugin::bindings::handler::HandlerPluginPre;
use crate::plugin::engine::Engine;
use crate::plugin::fault::LoadError;
use crate::plugin::instance::Linked;
use wasmtime::component::Component;

const HANDLER: &str = "busway:plugin/handler@0.1.0";
const FILTER: &str = "busway:plugin/filter@0.1.0";

/// Every import found, every export of one of the two worlds there.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<Linked, LoadError> {
    let exports = names(component.component_type().exports(engine.linker().engine()).map(|(name, _)| name));
    let is_handler = match (exports.iter().any(|name| name == HANDLER), exports.iter().any(|name| name == FILTER)) {
        (true, false) => true,
        (false, true) => false,
        (true, true) => {
            let text = format!("expected an export of {HANDLER} or of {FILTER}, found both: make it two plugins");
            return Err(LoadError::Exports(text));
        }
        (false, false) => return Err(LoadError::Exports(missing(&exports))),
    };
    let pre = engine
        .linker()
        .instantiate_pre(component)
        .map_err(|error| LoadError::Imports(unknown(engine, component, &error)))?;
    let linked = if is_handler {
        HandlerPluginPre::new(pre).map(Linked::Handler)
    } else {
        FilterPluginPre::new(pre).map(Linked::Filter)
    };
    linked.map_err(|error| LoadError::Exports(format!("an export is not as the contract has it: {error:#}")))
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}

fn missing(exports: &[String]) -> String {
    let other = exports.iter().find(|name| name.starts_with("busway:plugin/"));
    let found = match (other, exports) {
        (Some(other), _) => format!("{other}: built for another version of the contract"),
        (None, []) => "no exports at all".to_owned(),
        (None, exports) => {
            let shown: Vec<_> = exports.iter().take(8).map(String::as_str).collect();
            format!("{}: built for another world", shown.join(", "))
        }
    };
    format!("expected an export of {HANDLER} or of {FILTER}, found {found}")
}

fn unknown(engine: &Engine, component: &Component, error: &wasmtime::Error) -> String {
    let ty = component.component_type();
    let imports = ty.imports(engine.linker().engine()).map(|(name, _)| name);
    let strange =
        imports.filter(|name| !name.starts_with("busway:plugin/") && !WASI.iter().any(|known| name.starts_with(known)));
    let strange = names(strange.take(8));
    if strange.is_empty() {
        return format!("an import is not as the host has it: {error:#}");
    }
    format!(
        "expected imports of busway:plugin@0.1.0 and of wasi 0.2 ({}), found {}",
        WASI.join(", "),
        strange.join(", ")
    )
}

const WASI: [&str; 6] = ["wasi:io", "wasi:clocks", "wasi:random", "wasi:cli", "wasi:filesystem", "wasi:sockets"];
