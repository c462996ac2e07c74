//! Busway: a WebAssembly-extensible event hub.

#![forbid(unsafe_code)]

pub mod event;
pub mod metrics;
pub mod log;
pub mod bus;
