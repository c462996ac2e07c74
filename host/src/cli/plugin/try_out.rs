//! A plugin's files made into versions, as the hub makes them, but in this process and for once; and one event through such a
//! version, with all that came of it.

use crate::{
    cli::output::note,
    event::Event,
    kv::{Namespace, Quota, Store},
    plugin::{
        Asked, CallError, Compiler, Engine, EngineConfig, EngineError, Hash, Kind, Manifest, Name, Params, Source,
        Stats, Transcript, Version,
    },
};
use anyhow::{Context, anyhow};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::ErrorKind,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A plugin's files, read once; what is compiled is kept, so that another version of them costs next to nothing.
pub(super) struct Files {
    engine: Arc<Engine>,
    name: Name,
    bytes: Arc<[u8]>,
    /// What the file beside it says; nothing, where there is none.
    pub(super) manifest: Manifest,
}

impl Files {
    /// Reads `file` and the `.toml` beside it.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        Self::read_as(file, stem.parse()?)
    }

    /// The same, of files that are to be called otherwise.
    pub(super) fn read_as(file: &Path, name: Name) -> anyhow::Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let beside = file.with_extension("toml");
        let text = match std::fs::read_to_string(&beside) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(anyhow!(error).context(format!("cannot read {}", beside.display()))),
        };
        let manifest = text.as_deref().map_or_else(|| Ok(Manifest::default()), Manifest::of_sidecar);
        let manifest = manifest.map_err(|error| anyhow!("{}: {error}", beside.display()))?;
        let engine = engine(cache_dir())?;
        // Whoever asks again wants it tried again: the machine may have been at fault.
        engine.forget_refusal(Hash::of(&bytes));
        Ok(Self { engine, name, bytes: bytes.into(), manifest })
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// What another file asks for, as if it were the same plugin.
    pub(super) async fn asked(&self, file: &Path) -> anyhow::Result<Asked> {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let asked = Version::asked(&self.engine, self.name.clone(), bytes.into()).await;
        asked.map_err(|error| anyhow!("{}: {}: {error}", file.display(), error.code()))
    }

    /// A version under `manifest`, with a memory of its own that holds `kv`.
    pub(super) async fn load(&self, manifest: Manifest, kv: &[(String, String)]) -> anyhow::Result<Arc<Version>> {
        let namespace = Store::new(Quota::default()).namespace(self.name.as_str());
        let mut transaction = namespace.begin();
        for (key, value) in kv {
            transaction.set(key, value.as_bytes()).with_context(|| format!("kv: {key:?}"))?;
        }
        transaction.commit().context("nobody else writes to a namespace of this process")?;
        let source = Source {
            namespace,
            name: self.name.clone(),
            bytes: Arc::clone(&self.bytes),
            manifest,
            generation: 1,
            stats: Arc::new(Stats::default()),
        };
        Version::load(&self.engine, source).await.map_err(|error| anyhow!("{}: {error}", error.code()))
    }
}

/// With a compile cache, if it can be used: a large file takes a minute to compile.
fn engine(cache: Option<PathBuf>) -> Result<Arc<Engine>, EngineError> {
    let config = EngineConfig { compiler: Compiler::this_program(), cache, ..EngineConfig::default() };
    match Engine::new(config.clone()) {
        Err(error @ EngineError::Cache { .. }) => {
            note(format_args!("going on without what was compiled before: {error}"));
            Engine::new(EngineConfig { cache: None, ..config })
        }
        engine => engine,
    }
}

/// The user's own, by the XDG Base Directory Specification: a path that is not absolute is as good as none.
fn cache_dir() -> Option<PathBuf> {
    let dir = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = dir("XDG_CACHE_HOME").or_else(|| dir("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("busway"))
}

/// `manifest` with settings from the command line in place of its own. What is JSON is taken as such, so that a schema which asks
/// for a number gets one; everything else is text.
pub(super) fn with_config(mut manifest: Manifest, config: &[(String, String)]) -> Manifest {
    for (key, text) in config {
        let value = serde_json::from_str(text).ok().filter(|value: &Value| !value.is_null());
        manifest.config.insert(key.clone(), value.unwrap_or_else(|| text.as_str().into()));
    }
    manifest
}

/// What a namespace holds; what is no text is shown as far as it is.
pub(super) type Memory = BTreeMap<String, String>;

/// All that came of one call.
pub(super) struct Outcome {
    /// Of a filter.
    pub(super) verdict: Option<bool>,
    /// Of a handler.
    pub(super) emitted: Vec<Event>,
    pub(super) error: Option<CallError>,
    pub(super) before: Memory,
    pub(super) after: Memory,
    pub(super) transcript: Transcript,
}

/// Calls the version with one event and, if it returns ok, commits what it wrote, as the hub does.
pub(super) async fn call(
    version: &Version,
    event: &Event,
    attempt: u32,
    params: &Params,
    mut transcript: Transcript,
) -> anyhow::Result<Outcome> {
    let before = memory(version.namespace())?;
    let (mut verdict, mut emitted, mut error) = (None, Vec::new(), None);
    match version.kind() {
        Kind::Filter => match version.matches_with(event, params, Some(&mut transcript)).await {
            Ok(answer) => verdict = Some(answer),
            Err(why) => error = Some(why),
        },
        Kind::Handler => match version.handle_with(event, attempt, Some(&mut transcript)).await {
            Ok(effects) => {
                emitted = effects.outbox;
                if let Some(writes) = effects.writes {
                    writes.commit().context("nobody else writes to a namespace of this process")?;
                }
            }
            Err(why) => error = Some(why),
        },
    }
    Ok(Outcome { verdict, emitted, error, before, after: memory(version.namespace())?, transcript })
}

/// What a namespace holds now.
pub(super) fn memory(namespace: &Arc<Namespace>) -> anyhow::Result<Memory> {
    let mut transaction = namespace.begin();
    let mut all = Memory::new();
    for key in transaction.keys("", None) {
        let value = transaction.get(&key)?.unwrap_or_default();
        all.insert(key, String::from_utf8_lossy(&value).into_owned());
    }
    Ok(all)
}

/// A key, and its value before and after.
pub(super) type Change<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// Where two readings of a memory differ.
pub(super) fn changes<'a>(before: &'a Memory, after: &'a Memory) -> Vec<Change<'a>> {
    let keys: BTreeSet<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
    let value = |memory: &'a Memory, key: &str| memory.get(key).map(String::as_str);
    let change = |key| (key, value(before, key), value(after, key));
    keys.into_iter().map(change).filter(|(_, before, after)| before != after).collect()
}

/// Why the hub would not call the version with the event; none, if it would. A filter is asked about whatever others want to know.
pub(super) fn not_asked(version: &Version, event: &Event) -> anyhow::Result<Option<String>> {
    if version.kind() == Kind::Filter || version.wants(event) {
        return Ok(None);
    }
    let filters = version.subscriptions();
    if filters.iter().any(|filter| filter.matches(event)) {
        return Ok(Some("no plugin is told of its own faults".into()));
    }
    let filters = filters.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(match &filters[..] {
        [] => "it subscribes to nothing".into(),
        filters => format!("it subscribes to {}", filters.join(", ")),
    }))
}

/// The parameters for a filter, checked; a handler takes none.
pub(super) async fn params(version: &Version, params: Option<Value>) -> anyhow::Result<Params> {
    match version.kind() {
        Kind::Filter => version.check_params(params).await.map_err(|error| anyhow!("params{error}")),
        Kind::Handler if params.is_some() => Err(anyhow!("params: expected none, as {} is a handler", version.name())),
        Kind::Handler => Ok(Params::default()),
    }
}

/// The text of a file, or of stdin where `-` stands for one.
pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(text)
}
