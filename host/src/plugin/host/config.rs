//! `busway:plugin/config`: the settings that the operator gave the plugin, as far as they are granted.

use super::text::{InvalidText, Texts, decoded};
use super::transcript::Told;
use super::{Guest, interface, printable};
use crate::plugin::fault::FaultCode;
use wasmtime::component::{Linker, WasmStr};

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance(&interface("config"))?.func_wrap("get", |mut store, (key,): (WasmStr,)| {
        let key = Texts::of(&store).read("key", &key);
        store.data_mut().setting(key).map(|value| (value,))
    })
}

impl Guest {
    /// The contract has no error here: a key that is not valid text is one that is not set.
    fn setting(&mut self, key: Result<String, InvalidText>) -> wasmtime::Result<Option<String>> {
        self.spend(decoded(&key))?;
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                self.call.trace("config.get", || Told::new("", format!("error: {error}")));
                self.refuse(FaultCode::Lift, &error.to_string())?;
                return Ok(None);
            }
        };
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
