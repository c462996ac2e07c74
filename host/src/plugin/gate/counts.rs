//! What a component is made of, counted before the compiler sees it. Compiling is where a small file costs most: time and
//! memory grow with the number of functions, and faster than the length of one. What is counted here is only the frame of the
//! format, in one pass over the file; whether it is valid is the compiler's to say, in a process of its own.

use crate::plugin::{
    LoadError,
    limits::{MAX_CODE_BYTES, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_ITEMS, MAX_MODULES, MAX_NESTING},
};
use wasmparser::{Parser, Payload};

#[derive(Default)]
struct Counts {
    /// Modules and components within the file.
    modules: usize,
    functions: usize,
    code_bytes: usize,
    /// Entries of all other sections: types, imports, globals, segments and so on.
    items: usize,
}

/// Refuses what would be too much work.
pub(super) fn check(bytes: &[u8]) -> Result<(), LoadError> {
    let (mut counts, mut depth) = (Counts::default(), 0);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| LoadError::Compile(format!("it is not whole: {error}")))?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                counts.modules += 1;
                depth += 1;
                within("modules and components in it", counts.modules, MAX_MODULES)?;
                within("levels of components in components", depth, MAX_NESTING)?;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionStart { count, .. } => {
                counts.functions = counts.functions.saturating_add(count as usize);
                within("functions", counts.functions, MAX_FUNCTIONS)?;
            }
            Payload::CodeSectionEntry(body) => {
                let bytes = body.range().len();
                counts.code_bytes += bytes;
                within("bytes in a function", bytes, MAX_FUNCTION_BYTES)?;
                within("bytes of code", counts.code_bytes, MAX_CODE_BYTES)?;
            }
            other => {
                counts.items = counts.items.saturating_add(entries(&other));
                within("entries in its sections", counts.items, MAX_ITEMS)?;
            }
        }
    }
    Ok(())
}

fn entries(payload: &Payload<'_>) -> usize {
    let count = match payload {
        Payload::TypeSection(section) => section.count(),
        Payload::ImportSection(section) => section.count(),
        Payload::FunctionSection(section) => section.count(),
        Payload::TableSection(section) => section.count(),
        Payload::MemorySection(section) => section.count(),
        Payload::TagSection(section) => section.count(),
        Payload::GlobalSection(section) => section.count(),
        Payload::ExportSection(section) => section.count(),
        Payload::ElementSection(section) => section.count(),
        Payload::DataCountSection { count, .. } => *count,
        Payload::DataSection(section) => section.count(),
        Payload::InstanceSection(section) => section.count(),
        Payload::CoreTypeSection(section) => section.count(),
        Payload::ComponentInstanceSection(section) => section.count(),
        Payload::ComponentAliasSection(section) => section.count(),
        Payload::ComponentTypeSection(section) => section.count(),
        Payload::ComponentCanonicalSection(section) => section.count(),
        Payload::ComponentImportSection(section) => section.count(),
        Payload::ComponentExportSection(section) => section.count(),
        // A section each: versions, start functions, custom sections.
        _ => 1,
    };
    count as usize
}

fn within(what: &'static str, found: usize, most: usize) -> Result<(), LoadError> {
    if found <= most { Ok(()) } else { Err(LoadError::TooMuch { what, most, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, problem: &str) {
        let error = check(&wat::parse_str(text).unwrap()).expect_err("should be refused");
        assert_eq!(error.code(), "load.size");
        assert!(error.to_string().contains(problem), "{error}");
    }

    #[test]
    fn what_would_be_too_much_work_is_refused_before_any_of_it() {
        check(&wat::parse_str("(component (core module (func)))").unwrap()).unwrap();
        let many = "(func)".repeat(MAX_FUNCTIONS + 1);
        refused(&format!("(component (core module {many}))"), "at most 200000 functions, found 200001");
        let long = "nop ".repeat(MAX_FUNCTION_BYTES + 1);
        refused(&format!("(component (core module (func {long})))"), "bytes in a function, found");
        let deep = format!("{}{}", "(component ".repeat(MAX_NESTING + 2), ")".repeat(MAX_NESTING + 2));
        refused(&deep, "levels of components");
        refused(&format!("(component {})", "(core module) ".repeat(MAX_MODULES + 1)), "modules and components");
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_an_error_and_no_panic() {
        let whole = wat::parse_str("(component (core module (memory 1) (func (result i32) i32.const 1)))").unwrap();
        for length in 8..whole.len() {
            let _ = check(&whole[..length]);
        }
        assert_eq!(check(&whole[..whole.len() - 3]).unwrap_err().code(), "load.compile");
    }
}
