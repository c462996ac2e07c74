//! Busway: a WebAssembly-extensible event hub.

#![forbid(unsafe_code)]

pub mod event;
pub mod kv;
pub mod metrics;
pub mod plugin;
