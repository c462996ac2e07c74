//! Busway: a WebAssembly-extensible event hub.

// In one place only, which says why: `plugin::compile::cache`.
#![deny(unsafe_code)]

pub mod bus;
pub mod cli;
pub mod config;
pub mod confine;
pub mod demo;
pub mod event;
pub mod http;
pub mod hub;
pub mod incoming;
pub mod journal;
pub mod kv;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod plugin;
pub mod question;
pub mod seconds;
pub mod text;
pub mod ws;
