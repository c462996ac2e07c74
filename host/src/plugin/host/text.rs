//! Texts that a guest hands to a host function. They are decoded in the
//! function, not on the way to it as the generated bindings would: one that
//! is not valid UTF-8 is an error that the guest can handle, not a trap.
//!
//! Results of a guest's own functions are decoded before their memory is given back
//! (`post-return`), so there such a text stays the fault `lift`.

use super::Guest;
use std::char::DecodeUtf16Error;
use std::str::Utf8Error;
use wasmtime::StoreContextMut;
use wasmtime::component::WasmStr;

/// What to say of a call that ended because a text could not be decoded.
pub(in crate::plugin) fn invalid_text(error: &wasmtime::Error) -> Option<String> {
    let is_text = error.is::<Utf8Error>() || error.is::<DecodeUtf16Error>();
    is_text.then(|| format!("handed over text that is not valid: {}", error.root_cause()))
}

/// Why a text of a guest cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[error("{field}: not valid text: {cause}")]
pub(super) struct InvalidText {
    field: &'static str,
    cause: String,
    /// Bytes that were decoded before that was found.
    pub(super) bytes: usize,
}

/// Decodes the texts of one host call.
pub(super) struct Texts<'a, 'b> {
    store: &'a StoreContextMut<'b, Guest>,
    bytes: usize,
}

impl<'a, 'b> Texts<'a, 'b> {
    pub(super) fn of(store: &'a StoreContextMut<'b, Guest>) -> Self {
        Self { store, bytes: 0 }
    }

    /// Decodes `text`, which `field` names in the error. The guest's
    /// encoding may be UTF-16 too (Canonical ABI, `string-encoding`).
    pub(super) fn read(&mut self, field: &'static str, text: &WasmStr) -> Result<String, InvalidText> {
        match text.to_str(self.store) {
            Ok(text) => {
                self.bytes += text.len();
                Ok(text.into_owned())
            }
            Err(error) => {
                self.bytes += error.downcast_ref::<Utf8Error>().map_or(0, |error| error.valid_up_to());
                Err(InvalidText { field, cause: error.root_cause().to_string(), bytes: self.bytes })
            }
        }
    }
}

/// The bytes that were decoded for a text.
pub(super) fn decoded(text: &Result<String, InvalidText>) -> usize {
    match text {
        Ok(text) => text.len(),
        Err(error) => error.bytes,
    }
}
