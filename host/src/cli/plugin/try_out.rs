//! A plugin's files made into a version, as the hub makes them, but in this process and for once.

use crate::{
    kv::{Quota, Store},
    plugin::{Engine, EngineConfig, Manifest, Name, Source, Stats, Version},
};
use anyhow::{Context, anyhow};
use std::{io::ErrorKind, path::Path, sync::Arc};

/// Loads `file` and the `.toml` beside it; `config` overrides what stands there.
pub(super) async fn load(file: &Path, config: &[(String, String)]) -> anyhow::Result<Arc<Version>> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: Name = stem.parse()?;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let beside = file.with_extension("toml");
    let text = match std::fs::read_to_string(&beside) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(anyhow!(error).context(format!("cannot read {}", beside.display()))),
    };
    let mut manifest = Manifest::parse(&text).map_err(|error| anyhow!("{}: {error}", beside.display()))?;
    for (key, value) in config {
        manifest.config.insert(key.clone(), value.as_str().into());
    }
    let source = Source {
        namespace: Store::new(Quota::default()).namespace(name.as_str()),
        name,
        bytes: bytes.into(),
        manifest,
        generation: 1,
        stats: Arc::new(Stats::default()),
    };
    let engine = Engine::new(EngineConfig::default())?;
    Version::load(&engine, source).await.map_err(|error| anyhow!("{}: {error}", error.code()))
}
