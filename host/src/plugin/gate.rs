//! What a file must look like before the compiler sees it: size, first bytes, how much there is of what, and for which contract
//! it was built. The compiler is the one part that is no sandbox, so what is plainly not a component is told apart here, with a
//! text that says what it is instead, and what would be too much work is refused before any of it is done.

mod contract;
mod counts;

pub(super) use contract::CONTRACT;

use super::LoadError;
use super::limits::MAX_FILE_BYTES;

/// `\0asm`, then the version and layer: a component of the format that wasm tools write since 2023.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const CORE_MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

/// Lets `bytes` through if they begin as a component does and are not too many.
///
/// # Errors
/// What it is instead, or of what there is too much.
pub fn check(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(LoadError::Size { most: MAX_FILE_BYTES as u64, bytes: bytes.len() as u64 });
    }
    if bytes.starts_with(&COMPONENT) {
        return counts::check(bytes).and_then(|()| contract::check(bytes));
    }
    if bytes.starts_with(&CORE_MODULE) {
        return Err(LoadError::CoreModule);
    }
    // Wasmtime writes what it has compiled as ELF.
    if bytes.starts_with(b"\x7fELF") {
        return Err(LoadError::Precompiled);
    }
    Err(LoadError::NotWasm { found: describe(bytes) })
}

fn describe(bytes: &[u8]) -> &'static str {
    let head = &bytes[..bytes.len().min(512)];
    let text = str::from_utf8(head).map_or(head.len() > 4 && head.is_ascii(), |_| true);
    let word = head.trim_ascii_start();
    match bytes {
        [] => "an empty file",
        _ if COMPONENT.starts_with(bytes) => "a file cut off within its first bytes",
        _ if bytes.starts_with(b"\0asm") => "a version of the binary format that this hub does not know",
        _ if bytes.starts_with(b"\x89PNG") => "a PNG image",
        _ if word.starts_with(b"(component") || word.starts_with(b"(module") => {
            "the text format: translate it with `wasm-tools parse`"
        }
        _ if word.starts_with(b"<") => "HTML or XML: perhaps an error page saved under this name",
        _ if text => "text",
        _ => "other binary data",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(bytes: &[u8], code: &str, text: &str) {
        let error = check(bytes).expect_err("should be refused");
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(text), "{error}");
    }

    #[test]
    fn what_is_not_a_component_is_told_apart() {
        refused(b"", "load.not-wasm", "an empty file");
        refused(b"\0as", "load.not-wasm", "cut off");
        refused(b"\0asm\x0d\0\x02\0rest", "load.not-wasm", "version");
        refused(b"\0asm\x01\0\0\0rest", "load.core-module", "wasm-tools component new");
        refused(b"\x7fELF\x02", "load.precompiled", "compiled");
        refused(b"\x89PNG\r\n", "load.not-wasm", "PNG");
        refused(b"  (component)", "load.not-wasm", "text format");
        refused(b"<!doctype html>", "load.not-wasm", "HTML");
        refused("grüße".as_bytes(), "load.not-wasm", "found text");
        refused(&[0, 255, 3, 200], "load.not-wasm", "other binary data");
        refused(&vec![0; MAX_FILE_BYTES + 1], "load.size", "67108865 bytes");
        assert!(check(b"\0asm\x0d\0\x01\0").is_ok());
    }
}
