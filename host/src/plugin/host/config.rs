//! `busway:plugin/config`: the settings that the operator gave the plugin, as far as they are granted.

use super::transcript::Told;
use super::{Guest, printable};
use crate::plugin::bindings::handler::busway::plugin::config;
use crate::plugin::fault::FaultCode;

impl config::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.spend(key.len())?;
        if let Err(denied) = self.context.grants.config(&key) {
            self.context.stats.refused(FaultCode::Denied);
            // The contract has no error here: not granted is the same as not set, so the log says which it was.
            let (name, shown) = (&self.context.name, printable(&key));
            tracing::debug!(target: "plugin", plugin = %name, key = %shown, "config: {denied}");
            self.call.trace("config.get", || Told::new(&key, denied.to_string()).denied(true));
            return Ok(None);
        }
        let value = self.context.config.get(&key).cloned();
        self.call.trace("config.get", || Told::new(&key, value.as_deref().unwrap_or("none")));
        self.work(value.as_ref().map_or(0, String::len));
        Ok(value)
    }
}
