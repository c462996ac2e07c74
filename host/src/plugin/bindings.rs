//! What `wit/` says, in Rust: one generated module for each world, which share the types. Nothing is written by hand
//! here; [`super::convert`] and [`super::host`] speak of these types, the rest of the crate of its own.
//!
//! Of the imports only the types are used: the functions are linked by [`super::host`], which
//! decodes the texts of a guest itself.
//!
//! Borrowing: an event is lowered from the log's own texts, without a copy of them for each call. What a guest calls is not async, which
//! would cost a future for each: a guest for which the host has worked for long gives its thread back itself, see [`super::host`].

#![allow(missing_docs, reason = "generated; the documentation stands in wit/")]

/// `handler-plugin`, and with it every interface that the host offers.
pub(super) mod handler {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "handler-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
        exports: { default: async },
    });
}

/// `filter-plugin`.
pub(super) mod filter {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "filter-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "busway:plugin/types": super::handler::busway::plugin::types,
            "busway:plugin/logging": super::handler::busway::plugin::logging,
        },
        exports: { default: async },
    });
}
