//! What the operator's word makes of a component: its limits, grants, settings and isolation. Decided when a file is loaded,
//! and again when code that is there already comes under another sidecar.

use super::{Description, Version};
use crate::kv::{Namespace, Quota, Store};
use crate::plugin::{
    Asked, Engine, Hash, Name,
    fault::LoadError,
    grants::Grants,
    host::Context,
    instance::Linked,
    limits::{Limits, LimitsOverride},
    load_marker::MarkedLoad,
    manifest::{Isolation, Manifest},
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

impl Version {
    /// The same code under another sidecar. The version itself does not change.
    ///
    /// # Errors
    /// If the sidecar asks for more than the hub allows, or its settings do not meet the plugin's schema.
    pub async fn under(&self, manifest: Manifest, generation: u64) -> Result<Arc<Self>, LoadError> {
        self.accept(&manifest).await?;
        self.under_accepted(manifest, generation)
    }

    /// Whether the settings of a sidecar meet the plugin's schema. That is looked at on other
    /// threads, so it is a step of its own.
    ///
    /// # Errors
    /// If they do not.
    pub(in crate::plugin) async fn accept(&self, manifest: &Manifest) -> Result<(), LoadError> {
        if manifest.config == self.manifest.config {
            return Ok(());
        }
        check_config(&self.instances.context().engine, &self.description, manifest).await
    }

    /// As [`Version::under`], for a sidecar that [`Version::accept`] took, or one with the settings
    /// of this version.
    ///
    /// # Errors
    /// If the sidecar asks for more than the hub allows.
    pub(in crate::plugin) fn under_accepted(
        &self,
        manifest: Manifest,
        generation: u64,
    ) -> Result<Arc<Self>, LoadError> {
        self.with(manifest, generation, self.instances.context())
    }

    /// The same code and sidecar with another memory.
    ///
    /// # Errors
    /// As [`Version::under`], of which none is to be expected.
    pub(in crate::plugin) fn with_memory(&self, namespace: Arc<Namespace>) -> Result<Arc<Self>, LoadError> {
        let context = Context { namespace, ..self.instances.context().as_ref().clone() };
        self.with(self.manifest.clone(), self.generation, &context)
    }

    fn with(&self, manifest: Manifest, generation: u64, context: &Context) -> Result<Arc<Self>, LoadError> {
        let limits = limits(self.instances.linked(), &manifest, self.max_memory)?;
        let (context, keep, isolation) = apply(&self.description, &manifest, &limits, context)?;
        Ok(Arc::new(Self {
            grants: context.grants.clone(),
            instances: self.instances.with(Arc::new(context), keep),
            turns: Semaphore::new(manifest.concurrency),
            name: self.name.clone(),
            hash: self.hash,
            sha256: self.sha256.clone(),
            size: self.size,
            generation,
            description: Arc::clone(&self.description),
            described: self.described,
            manifest,
            limits,
            isolation,
            max_memory: self.max_memory,
            stats: Arc::clone(&self.stats),
        }))
    }

    /// What a file asks for, whatever any operator has said: to compare it with another.
    ///
    /// # Errors
    /// The first step that fails, as in [`Version::load`].
    pub async fn asked(engine: &Arc<Engine>, name: Name, bytes: Arc<[u8]>) -> Result<Asked, LoadError> {
        let component = engine.compile(&bytes, Hash::of(&bytes), &MarkedLoad::UNMARKED).await?;
        let linked = super::link::link(engine, &component)?;
        let context = Context {
            source: name.as_source(),
            name: name.clone(),
            grants: Grants::while_loading(None),
            config: BTreeMap::new(),
            limits: Limits::HANDLER.of_load(),
            namespace: Store::new(Quota::default()).namespace(name.as_str()),
            stats: Arc::default(),
            throttle: Arc::default(),
            engine: Arc::clone(engine),
            tempo: Arc::default(),
        };
        let mut asked = super::describe(&name, linked, context, &MarkedLoad::UNMARKED).await?.0.asked;
        asked.capabilities.extend(super::link::imported(engine, &component));
        Ok(asked)
    }

    /// Whether an instance starts under `limits`, in the place of those that the operator has set over the API.
    ///
    /// # Errors
    /// If they ask for more than the hub allows, or start code or `describe` do not end well.
    pub async fn try_under(&self, limits: &LimitsOverride) -> Result<(), LoadError> {
        let manifest = Manifest { limits_override: limits.clone(), ..self.manifest.clone() };
        let limits = self::limits(self.instances.linked(), &manifest, self.max_memory)?;
        let context = self.instances.context().as_ref().clone();
        let grants = Grants::while_loading(manifest.grants);
        let context = Context { grants, limits: limits.of_load(), ..context };
        let linked = self.instances.linked().clone();
        super::describe(&self.name, linked, context, &MarkedLoad::UNMARKED).await.map(drop)
    }
}

/// What a call may use up.
pub(super) fn limits(linked: &Linked, manifest: &Manifest, max_memory: usize) -> Result<Limits, LoadError> {
    let defaults = match linked {
        Linked::Handler(_) => Limits::HANDLER,
        Linked::Filter(_) => Limits::FILTER,
    };
    let limits = manifest.limits_override.over(manifest.limits.over(defaults));
    if limits.memory > max_memory {
        let asked = limits.memory;
        let text = format!("its operator's limits ask for {asked} bytes of memory, the hub allows {max_memory}");
        return Err(LoadError::Describe(text));
    }
    Ok(limits)
}

/// The context of its instances, how many of them are kept, and whether any are.
pub(super) fn apply(
    description: &Description,
    manifest: &Manifest,
    limits: &Limits,
    context: &Context,
) -> Result<(Context, usize, Isolation), LoadError> {
    let isolation = manifest.isolation.or(description.isolation).unwrap_or_default();
    let keep = if isolation == Isolation::Reuse { manifest.concurrency } else { 0 };
    let grants = Grants::decide(description.asked.clone(), manifest.grants.clone());
    let (config, limits) = (manifest.config_texts(), limits.clone());
    Ok((Context { grants, config, limits, ..context.clone() }, keep, isolation))
}

/// Whether the settings of the sidecar meet the plugin's schema. On slow threads: it may take some
/// milliseconds.
pub(super) async fn check_config(
    engine: &Engine,
    description: &Description,
    manifest: &Manifest,
) -> Result<(), LoadError> {
    let Some(schema) = description.config_schema.clone() else { return Ok(()) };
    let config = manifest.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let checking = engine.slow().handle().spawn_blocking(move || schema.check(&Value::Object(config)));
    let checked = checking.await.map_err(|error| LoadError::Describe(format!("its schema cannot be used: {error}")))?;
    checked.map_err(|error| {
        // The values may be secrets, and this is told to everybody who may read the log: where and which rule, never what.
        let place = if error.pointer.is_empty() { "the whole" } else { &error.pointer };
        let expected = &error.expected;
        LoadError::Describe(format!(
            "the [config] of the file beside it does not meet the plugin's schema: {place}: expected {expected}"
        ))
    })
}
