//! Plugins: WebAssembly components that handle events or answer questions about them, run so that nothing one of them
//! does hurts the hub or another plugin.
//!
//! Knows nothing of the log, the bus or HTTP: it is given an event and gives back what the plugin would do ([`Effects`])
//! or why not ([`CallError`]). The invariants kept here: a bad file changes nothing but the plugin's last error (I6),
//! every call, also `describe` and start code, runs under limits (I7), and a call is a transaction (I8).
//!
//! Start reading at [`version`]: what becomes of a file, and what a call is. Below it: [`instance`] (one call under
//! limits), [`host`] (what a guest may call), [`engine`] (wasmtime), [`compile`] (in a process of its own). Wasmtime is spoken of in this module and nowhere else.

mod bindings;
pub mod compile;
mod convert;
mod description;
mod directory;
mod engine;
mod fault;
pub mod feed;
mod gate;
mod grants;
mod host;
mod instance;
pub mod lane;
pub mod limits;
mod load_marker;
pub mod manifest;
mod memory;
pub mod registry;
mod room;
mod schema;
pub mod shadow;
pub mod stats;
#[cfg(test)]
mod testing;
mod threads;
mod ticker;
mod time;
mod version;
mod watcher;

pub use compile::Compiler;
pub use description::Description;
pub use engine::{Engine, EngineConfig, EngineError, Hash};
pub use fault::{CallError, FAULT_EVENT, Failure, FailureKind, Fault, FaultCode, LoadError};
/// What a file must look like before the compiler sees it: for `fuzz/` alone.
#[doc(hidden)]
pub use gate::check as check_file;
pub use grants::{Asked, Beyond, Capability, Denied, Grants};
pub use host::{HostCall, Level, LogLine, Transcript};
pub use instance::Usage;
pub use limits::{LimitError, Limits, LimitsOverride};
pub use manifest::{Isolation, Manifest, ManifestError, OnError, OrderBy, ShadowFile, Start};
/// JSON Schemas of plugins: for `fuzz/` alone.
#[doc(hidden)]
pub use schema::Schema;
pub use schema::SchemaError;
pub use stats::{Counts, LastError, Spread, Stats};
pub use version::{Asking, Effects, Params, Source, Version};

use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::Arc;

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is called once for each event that it subscribed to.
    Handler,
    /// It answers yes or no to a question about an event.
    Filter,
}

impl Kind {
    /// `handler` or `filter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Filter => "filter",
        }
    }
}

/// Longest name of a plugin, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// A plugin's name: that of its file without `.wasm`. Lower case, digits, `-` and `_`, so that it is the same on every
/// file system and safe in every log, path, metric and URL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// A text that is no name of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a plugin's name, 1 to {MAX_NAME_BYTES} of [a-z0-9_-] beginning with a letter or digit, found {0:?}")]
pub struct NameError(String);

impl Name {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The source of what the plugin publishes.
    fn as_source(&self) -> Arc<str> {
        ["plugin/", self.as_str()].concat().into()
    }
}

/// A name is ordered and hashed as its text is.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        if first && text.len() <= MAX_NAME_BYTES && text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_')
        {
            return Ok(Self(text.into()));
        }
        Err(NameError(text.chars().take(MAX_NAME_BYTES + 1).collect()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_everywhere() {
        for good in ["a", "0", "conform-rust", "a_b-c9", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "A", "a b", "a.b", "../a", "a\n", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
