//! For which version of the contract a component was built: it stands in the names of what it imports and exports, so it can be
//! told before anything is compiled, and instead of whatever the types that differ would make of it.

use crate::plugin::LoadError;
use wasmparser::{Parser, Payload};

/// The version that this hub knows, with any patch: within it only comments change.
pub(in crate::plugin) const CONTRACT: &str = "0.1";

const PACKAGE: &str = "busway:plugin/";
/// Longest name that is shown.
const MAX_SHOWN: usize = 100;

/// Refuses a component that was built for another version. One that names no version of the contract is for others to judge.
pub(super) fn check(bytes: &[u8]) -> Result<(), LoadError> {
    let (mut import, mut depth) = (None, 0);
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                let mut names = section.into_iter().map_while(Result::ok).map(|import| import.name.name);
                import = import.or_else(|| names.find_map(|name| problem("imports", name)));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                let mut names = section.into_iter().map_while(Result::ok).map(|export| export.name.name);
                if let Some(problem) = names.find_map(|name| problem("exports", name)) {
                    return Err(LoadError::Exports(problem));
                }
            }
            _ => {}
        }
    }
    import.map_or(Ok(()), |problem| Err(LoadError::Imports(problem)))
}

fn problem(does: &str, name: &str) -> Option<String> {
    let (_, version) = name.strip_prefix(PACKAGE)?.split_once('@').unwrap_or(("", ""));
    let patch = version.strip_prefix(CONTRACT).and_then(|rest| rest.strip_prefix('.'));
    if patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let cut = |text: &str| text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect::<String>();
    let built =
        if version.is_empty() { "a contract without a version".into() } else { format!("contract {}", cut(version)) };
    Some(format!("built for {built}, this hub knows {CONTRACT}: it {does} {}", cut(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(fields: &str) -> Result<(), LoadError> {
        check(&wat::parse_str(format!("(component (instance $i) {fields})")).unwrap())
    }

    #[track_caller]
    fn refused(fields: &str, code: &str, text: &str) {
        let error = checked(fields).expect_err("should be refused");
        assert_eq!(error.code(), code);
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn any_patch_of_the_known_contract_is_let_through_and_any_other_version_is_named() {
        let export = |version: &str| format!("(export \"busway:plugin/handler{version}\" (instance $i))");
        let import = |version: &str| format!("(import \"busway:plugin/kv{version}\" (instance))");
        for fields in
            ["", &export("@0.1.0"), &export("@0.1.27"), &import("@0.1.3"), "(export \"a:b/c@9.0.0\" (instance $i))"]
        {
            checked(fields).unwrap();
        }
        let text = |built: &str, does: &str| format!("built for {built}, this hub knows 0.1: it {does}");
        let newer = text("contract 0.2.0", "exports busway:plugin/handler@0.2.0");
        refused(&(import("@0.2.0") + &export("@0.2.0")), "load.exports", &newer);
        refused(&import("@1.0.0"), "load.imports", &text("contract 1.0.0", "imports busway:plugin/kv@1.0.0"));
        refused(&import("@0.10.0"), "load.imports", &text("contract 0.10.0", "imports busway:plugin/kv@0.10.0"));
        let early = text("contract 0.1.0-rc.1", "imports busway:plugin/kv@0.1.0-rc.1");
        refused(&import("@0.1.0-rc.1"), "load.imports", &early);
        refused(&export(""), "load.exports", &text("a contract without a version", "exports busway:plugin/handler"));
    }

    #[test]
    fn what_a_component_holds_within_is_its_own_business() {
        checked("(component (import \"busway:plugin/kv@0.2.0\" (instance)))").unwrap();
    }
}
