//! One load: from the files to a version that is ready.

use super::plugin::Plugin;
use crate::plugin::{
    Engine, Hash, LoadError, Manifest, Name, ShadowFile, Source, Version, directory, engine, load_marker::MarkedLoad,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Longest that one load may take, waiting for other compilations included.
const LOAD_TIME: Duration = Duration::from_secs(600);

/// Gives a load up that takes too long: others wait for its place.
async fn within(load: impl Future<Output = Result<Arc<Version>, LoadError>>) -> Result<Arc<Version>, LoadError> {
    let late = |_| Err(LoadError::Describe(format!("it was not loaded after {} s", LOAD_TIME.as_secs())));
    timeout(LOAD_TIME, load).await.unwrap_or_else(late)
}

/// What to load.
pub(super) struct Order {
    pub(super) generation: u64,
    /// There was a sidecar when the directory was looked at, or the version that is active was
    /// loaded under one: without it, nothing is loaded.
    pub(super) sidecar: bool,
    /// An operator asked for it: nothing that was said of the file before counts.
    pub(super) asked: bool,
    /// Found this file, make it the sidecar of that version instead.
    pub(super) instead: Option<(Hash, Arc<Version>)>,
}

/// Everything from the file to a version that is ready. What goes wrong is the plugin's last error.
pub(super) async fn load(
    engine: &Arc<Engine>,
    dir: PathBuf,
    plugin: &Plugin,
    order: Order,
) -> Result<Arc<Version>, LoadError> {
    let Order { generation, sidecar, asked, instead } = order;
    let limits_override = plugin.standing().limits.clone();
    let name = plugin.name().clone();
    let read_name = name.clone();
    let read = move || {
        let text = directory::read_manifest(&dir, &read_name)?;
        if sidecar && text.is_none() {
            return Err(LoadError::File(
                "no sidecar, though there was one: that stays in force until there is another, or the plugin is reloaded",
            ));
        }
        let bytes = directory::read_component(&dir, &read_name)?;
        // Of a large file it takes a while, so it is done here, where it is needed.
        let hash = Hash::of(&bytes);
        Ok::<_, LoadError>((text, bytes, hash))
    };
    let result = async {
        let read = tokio::task::spawn_blocking(read).await;
        let (text, bytes, hash) = read.map_err(|error| LoadError::Io(Arc::new(std::io::Error::other(error))))??;
        let manifest = text.as_deref().map_or_else(|| Ok(Manifest::default()), Manifest::of_sidecar)?;
        let manifest = Manifest { limits_override, ..manifest };
        if manifest.shadow.as_ref().is_some_and(|ShadowFile(file)| *file == name) {
            return Err(LoadError::Describe("the sidecar names the plugin's own file as its shadow".into()));
        }
        if let Some((_, current)) = instead.filter(|(rejected, _)| hash == *rejected) {
            return current.under(manifest, generation).await;
        }
        if asked {
            engine.forget_refusal(hash);
        }
        let marked = MarkedLoad::begin(engine, &name, hash, text.as_deref(), asked).await?;
        let (namespace, stats) = (plugin.namespace().clone(), plugin.stats().clone());
        let source = Source { name, bytes, manifest, generation, namespace, stats };
        let version = within(Version::load_marked(engine, source, &marked)).await?;
        marked.loaded().await;
        Ok(version)
    };
    result.await.inspect_err(|error| plugin.stats().load_failed(error, None))
}

/// A file that is to be compared with `current`, under the same sidecar. It goes by its own name, so that what it says in the log is not
/// taken for the active version's; its memory comes later.
pub(super) async fn load_candidate(
    engine: &Arc<Engine>,
    dir: PathBuf,
    file: &Name,
    current: &Version,
) -> Result<Arc<Version>, LoadError> {
    let name = file.clone();
    let read = tokio::task::spawn_blocking(move || directory::read_component(&dir, &name)).await;
    let bytes = read.map_err(|error| LoadError::Io(Arc::new(std::io::Error::other(error))))??;
    let whole = bytes.clone();
    let hash = engine::blocking(move || Hash::of(&whole)).await?;
    let marked = MarkedLoad::begin(engine, file, hash, None, false).await?;
    let (name, manifest) = (file.clone(), current.manifest().clone());
    let namespace = current.namespace().detached();
    let source = Source { name, bytes, manifest, generation: 0, namespace, stats: Arc::default() };
    let version = within(Version::load_marked(engine, source, &marked)).await?;
    marked.loaded().await;
    let (expected, found) = (current.kind().as_str(), version.kind().as_str());
    if expected != found {
        return Err(LoadError::Exports(format!("expected a {expected}, as the plugin is one, found a {found}")));
    }
    Ok(version)
}
