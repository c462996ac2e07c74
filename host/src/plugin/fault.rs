//! What can go wrong with a plugin, in the words that the API, the log, the metrics and the `plugin.*` events share.
//! Each has a stable code: programs compare those, the texts are for people.

use super::manifest::ManifestError;
use std::{sync::Arc, time::Duration};

/// Type of the event that says that a call faulted.
pub const FAULT_EVENT: &str = "plugin.fault";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        /// Why a call ended without an answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FaultCode { $($(#[$doc])* $name,)+ }

        impl FaultCode {
            /// All of them, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its stable text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }
        }
    };
}

codes! {
    /// It used up its fuel.
    Fuel = "fuel",
    /// The time was over.
    Deadline = "deadline",
    /// It trapped after it was refused memory, or began with too much.
    Memory = "memory",
    /// Its stack was full.
    Stack = "stack",
    /// It trapped: a panic, an assertion, an exception, a division by zero …
    Trap = "trap",
    /// What it passed to the host was not what the contract says: pointers out of bounds, text that is not UTF-8, or too
    /// much of it.
    Lift = "lift",
    /// It went on publishing more than one call may.
    Outbox = "outbox",
    /// It went on using what it was not granted.
    Denied = "denied",
    /// The chain of causes is too long, or too much comes of one event: plugins trigger each other, or one itself.
    Loop = "loop",
}

/// What is too much of a loop, and the way there: the seqs of the event that was handled and of its ancestors.
pub(super) fn looped(what: &str, chain: &[u64], seq: u64) -> String {
    let mut text = format!("{what}: plugins that trigger each other, or one that triggers itself; the chain: ");
    for ancestor in chain {
        text.push_str(&format!("{ancestor} → "));
    }
    text + &seq.to_string()
}

impl std::fmt::Display for FaultCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that ended without an answer; it left no trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault {
    /// What kind.
    pub code: FaultCode,
    /// What happened, and what the guest last wrote to stderr, where Rust, Go, JavaScript and Python say why.
    pub message: String,
    /// Of its time, that in which it could have gone on and others were at work instead.
    pub starved: Duration,
}

/// Why a handler did not handle an event, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Whether trying again makes sense.
    pub kind: FailureKind,
    /// The guest's text, cut at 4 KiB.
    pub message: String,
    /// For `Retry`: not before this many milliseconds have passed.
    pub retry_after_ms: Option<u32>,
}

/// Transient or permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It may work later.
    Retry,
    /// It will never work.
    Reject,
}

/// Why a call has no effects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest said so.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The sandbox ended it.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a version was not loaded; the one before it goes on serving (I6).
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Io(Arc<std::io::Error>),
    /// It is no regular file in the plugin directory.
    #[error("expected a regular file in the plugin directory, found {0}")]
    File(&'static str),
    /// Its name cannot be a plugin's.
    #[error(transparent)]
    Name(#[from] super::NameError),
    /// The file is too large.
    #[error("expected a file of at most {most} bytes, found {bytes} bytes")]
    Size {
        /// How large it may be.
        most: u64,
        /// Its size.
        bytes: u64,
    },
    /// Compiling it would be too much work.
    #[error("expected at most {most} {what}, found {found}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
        /// How many there are, as far as it was counted.
        found: usize,
    },
    /// It is no WebAssembly.
    #[error("expected a WebAssembly component, found {found}")]
    NotWasm {
        /// What it looks like.
        found: &'static str,
    },
    /// It is a core module.
    #[error(
        "expected a component, found a core module: build for wasm32-wasip2, or make it a component with `wasm-tools component new`"
    )]
    CoreModule,
    /// It was compiled by somebody else.
    #[error("expected a component, found a compiled program (ELF): only this hub's own compiler is trusted")]
    Precompiled,
    /// The compiler refused it.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// The compiler could not be run; of the file nothing is known.
    #[error("cannot run the compiler: {0}")]
    Compiler(Arc<std::io::Error>),
    /// It wants what the hub does not offer.
    #[error("{0}")]
    Imports(String),
    /// It does not offer what the hub calls.
    #[error("{0}")]
    Exports(String),
    /// Its start code or `describe` faulted, or what it says of itself does not hold.
    #[error("{0}")]
    Describe(String),
    /// The operator's file beside it is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The hub ended twice in a row while it was loading these bytes.
    #[error(
        "the hub ended twice in a row while it was loading this file: it is skipped until it or its sidecar changes, or until it is reloaded over the API; remembered in {}", .0.display()
    )]
    Crashed(
        /// The marker that says so.
        std::path::PathBuf,
    ),
}

impl LoadError {
    /// All codes.
    pub const CODES: [&str; 12] = [
        "load.io",
        "load.name",
        "load.size",
        "load.not-wasm",
        "load.core-module",
        "load.precompiled",
        "load.compile",
        "load.imports",
        "load.exports",
        "load.describe",
        "load.manifest",
        "load.crashed",
    ];

    /// Its stable code, one of [`LoadError::CODES`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::File(_) | Self::Compiler(_) => "load.io",
            Self::Name(_) => "load.name",
            Self::Size { .. } | Self::TooMuch { .. } => "load.size",
            Self::NotWasm { .. } => "load.not-wasm",
            Self::CoreModule => "load.core-module",
            Self::Precompiled => "load.precompiled",
            Self::Compile(_) => "load.compile",
            Self::Imports(_) => "load.imports",
            Self::Exports(_) => "load.exports",
            Self::Describe(_) => "load.describe",
            Self::Manifest(_) => "load.manifest",
            Self::Crashed(_) => "load.crashed",
        }
    }
}

impl From<std::io::Error> for LoadError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
