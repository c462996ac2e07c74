//! Where the calls to the host go: in a plugin to the component's imports, in a native test to [`crate::testing`].

#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::handler::busway::plugin::{config, kv, logging, publisher};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::host::{config, kv, logging, publisher};
