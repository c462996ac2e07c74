//! What Busway promises, tested on the real parts: a hub on a port of its own, real sockets, real components. A test waits for
//! conditions, never for time to pass; its name is the promise.

mod authoring;
mod autobahn;
mod bus;
mod calls;
mod capabilities;
mod cli;
mod client;
mod confine;
mod conformance;
mod contract;
mod counters;
mod cursors;
mod dead_letters;
mod dev;
mod faults;
mod files;
mod filter_errors;
mod guests;
mod hostile;
mod http;
mod http_edges;
mod hub;
mod invariants;
mod journal;
mod limits;
mod live_shadow;
mod loops;
mod plugin_faults;
mod plugins;
mod praxis;
mod properties;
mod random_components;
mod rfc6455;
mod shadow;
mod stopping;
mod streams;
mod strict;
mod terminal;
mod tidy;
mod tools;
mod torture;
#[cfg(feature = "webhooks")]
mod webhooks;
mod websocket;
