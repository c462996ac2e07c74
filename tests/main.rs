//! What Busway promises, tested on the real parts: a hub on a port of its own, real sockets, real components. A test waits for
//! conditions, never for time to pass; its name is the promise.

mod bus;
mod cli;
mod client;
mod cursors;
mod dead_letters;
mod faults;
mod guests;
mod http;
mod hub;
mod invariants;
mod journal;
mod plugins;
mod praxis;
mod properties;
mod tidy;
mod tools;
mod torture;
#[cfg(feature = "webhooks")]
mod webhooks;
mod websocket;
