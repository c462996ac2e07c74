//! Markers on disk: which file the hub works on in its own process while it loads it for the first
//! time. A marker that is there at the next start was left by a hub that ended meanwhile, and
//! perhaps because of that file: after two such ends in a row the file is skipped until it or its
//! sidecar changes, or an operator asks for it. A file that was loaded once is trusted from then
//! on, so a hub that is killed while it starts does not lose its plugins.
//!
//! Compiling a file and trying its schema are no such work: processes of their own do that
//! ([`super::compile`]). They take up to minutes, in which a hub may be ended for any reason.
//!
//! Markers are in the data directory, which one hub has at a time. A hub without one, in memory,
//! has none.

use super::{Engine, Hash, LoadError, Name, engine::blocking};
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// The extension of a marker's file name; the name is [`key`] in hexadecimal.
const LOADING: &str = "loading";
/// The extension once the file was loaded.
const LOADED: &str = "loaded";
/// Loads that a hub did not live to end, before the file is skipped. One may be a power cut.
const MAX_ATTEMPTS: u32 = 2;
/// Most markers of a kind that are kept. Beyond it all are forgotten, at the next start.
const MAX_MARKERS: usize = 4_096;

/// The markers of a directory.
#[derive(Debug)]
pub(super) struct LoadMarkers {
    dir: PathBuf,
    /// Names of the markers that were there at the start.
    left: Mutex<BTreeSet<String>>,
    /// One marked step at a time, or an end of the hub would speak against several files.
    step: Semaphore,
}

/// A load whose steps in this process are marked.
pub(super) struct MarkedLoad(Option<Suspect>);

/// A file that has not been loaded before.
struct Suspect {
    markers: Arc<LoadMarkers>,
    path: PathBuf,
    /// The text of the marker's file.
    text: Arc<str>,
}

/// A marker on disk; dropped, it is removed.
struct Marker(PathBuf);

impl LoadMarkers {
    /// Makes the directory, and reads which are there. One that cannot be read has none.
    pub(super) fn open(dir: &Path) -> Arc<Self> {
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(dir) {
            tracing::warn!(dir = %dir.display(), %error, "cannot note which file is being loaded");
        }
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let mut left = BTreeSet::new();
        for extension in [LOADING, LOADED] {
            let is_one = |name: &&String| Path::new(name).extension().is_some_and(|found| found == extension);
            let found: Vec<&String> = names.iter().filter(is_one).collect();
            if found.len() > MAX_MARKERS {
                found.iter().for_each(|name| drop(fs::remove_file(dir.join(name))));
            } else if extension == LOADING {
                left = found.into_iter().cloned().collect();
            }
        }
        Arc::new(Self { dir: dir.to_owned(), left: Mutex::new(left), step: Semaphore::new(1) })
    }

    /// `None` for a file that was loaded before. `asked`: an operator
    /// asked for it, so what happened before does not count.
    fn begin(self: Arc<Self>, plugin: &str, key: Hash, asked: bool) -> Result<Option<Suspect>, LoadError> {
        let name = format!("{}.{LOADING}", key.to_hex());
        let path = self.dir.join(&name);
        if path.with_extension(LOADED).exists() {
            return Ok(None);
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if left.contains(&name) && !asked { attempts(&path) } else { 0 };
        if before >= MAX_ATTEMPTS {
            return Err(LoadError::Crashed(path));
        }
        left.remove(&name);
        drop(left);
        let text = format!("{plugin}\n{}\n", before + 1).into();
        Ok(Some(Suspect { markers: self, path, text }))
    }
}

impl MarkedLoad {
    /// Of a file that is not noted anywhere.
    pub(super) const UNMARKED: Self = Self(None);

    /// Looks up what is known of the file `hash` under a sidecar. Nothing is marked yet.
    ///
    /// # Errors
    /// [`LoadError::Crashed`] if the hub ended in two loads of it in a row, and no operator `asked`
    /// for it.
    pub(super) async fn begin(
        engine: &Engine,
        plugin: &Name,
        hash: Hash,
        sidecar: Option<&str>,
        asked: bool,
    ) -> Result<Self, LoadError> {
        let Some(markers) = engine.markers().cloned() else { return Ok(Self::UNMARKED) };
        let (plugin, key) = (plugin.clone(), key(hash, sidecar));
        blocking(move || markers.begin(plugin.as_str(), key, asked)).await?.map(Self)
    }

    /// Runs a step that works on the file in this process, and has the marker on disk meanwhile.
    /// Waits until no other load is in such a step; so it must not wait for another load itself.
    /// Dropping the future removes the marker.
    pub(super) async fn step<T>(&self, step: impl Future<Output = T>) -> T {
        let Some(suspect) = &self.0 else { return step.await };
        // Never closed.
        let _turn = suspect.markers.step.acquire().await;
        let _marker = suspect.mark().await;
        step.await
    }

    /// Notes that the file was loaded: its next loads are not marked.
    pub(super) async fn loaded(self) {
        let Some(Suspect { path, text, .. }) = self.0 else { return };
        let path = path.with_extension(LOADED);
        let _ = blocking(move || note(&path, &text)).await;
    }
}

impl Suspect {
    /// The file is not synced: what a load may end is this
    /// process, and the system keeps what that has written.
    async fn mark(&self) -> Option<Marker> {
        let (path, text) = (self.path.clone(), self.text.clone());
        // Made in there, so that one that nobody waits for any more is removed again.
        let mark = move || {
            note(&path, &text);
            Marker(path)
        };
        blocking(mark).await.ok()
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A load goes on without its marker: a full disk must not keep plugins from loading.
fn note(path: &Path, text: &str) {
    if let Err(error) = fs::write(path, text) {
        tracing::warn!(file = %path.display(), %error, "cannot note which file is being loaded");
    }
}

/// What is suspected or trusted: these bytes under this
/// sidecar, as this version of the hub loads them.
fn key(file: Hash, sidecar: Option<&str>) -> Hash {
    Hash::of(format!("{}\n{}\n{}", env!("CARGO_PKG_VERSION"), file.to_hex(), sidecar.unwrap_or_default()).as_bytes())
}

/// How many loads a marker tells of: one, if its writing was cut off.
fn attempts(path: &Path) -> u32 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().nth(1).and_then(|attempts| attempts.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(dir: &Path, key: Hash, asked: bool) -> Result<MarkedLoad, LoadError> {
        LoadMarkers::open(dir).begin("x", key, asked).map(MarkedLoad)
    }

    /// A hub that ends in the middle of a step of this load.
    async fn end_within(load: MarkedLoad) {
        std::mem::forget(load.0.unwrap().mark().await);
    }

    fn markers(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[tokio::test]
    async fn what_was_being_loaded_when_the_hub_ended_twice_is_skipped_until_it_changes_or_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (file, other) = (Hash::of(b"a file"), Hash::of(b"another"));
        for _ in 0..MAX_ATTEMPTS {
            let load = begin(dir, key(file, None), false).unwrap();
            // Steps that end well are not held against those that
            // come after them, nor do they take anything back.
            load.step(async {}).await;
            end_within(load).await;
        }
        assert_eq!(begin(dir, key(file, None), false).err().unwrap().code(), "load.crashed");
        assert!(begin(dir, key(other, None), false).is_ok(), "another file");
        assert!(begin(dir, key(file, Some("[grants]")), false).is_ok(), "another sidecar");
        begin(dir, key(file, None), true).unwrap().step(async {}).await;
        assert_eq!(markers(dir), 0);
        assert!(begin(dir, key(file, None), false).is_ok(), "an operator asked");
    }

    #[tokio::test]
    async fn a_hub_that_ends_between_two_steps_leaves_no_marker() {
        let dir = tempfile::tempdir().unwrap();
        let load = begin(dir.path(), Hash::of(b"a file"), false).unwrap();
        assert_eq!(load.step(async { markers(dir.path()) }).await, 1, "within a step");
        assert_eq!(markers(dir.path()), 0);
        let (dropped, _) = tokio::join!(
            tokio::time::timeout(std::time::Duration::ZERO, load.step(std::future::pending::<()>())),
            tokio::task::yield_now()
        );
        assert!(dropped.is_err());
        load.step(async {}).await;
        assert_eq!(markers(dir.path()), 0, "nor does one whose load is given up");
    }

    #[tokio::test]
    async fn one_load_at_a_time_is_in_a_step() {
        let dir = tempfile::tempdir().unwrap();
        let all = LoadMarkers::open(dir.path());
        let load = |name: &str| MarkedLoad(all.clone().begin(name, Hash::of(name.as_bytes()), false).unwrap());
        let (first, second) = (load("first"), load("second"));
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let held = async { first.step(wait).await.unwrap() };
        let after = second.step(async { markers(dir.path()) });
        let mut after = std::pin::pin!(after);
        let (mut held, mut go) = (std::pin::pin!(held), Some(go));
        tokio::select! {
            biased;
            () = async { while markers(dir.path()) == 0 { tokio::task::yield_now().await } } => {}
            () = &mut held => unreachable!("it waits"),
        }
        assert!(futures_util::poll!(&mut after).is_pending(), "it waits for the first");
        go.take().unwrap().send(()).unwrap();
        held.await;
        assert_eq!(after.await, 1);
    }

    #[tokio::test]
    async fn a_file_that_was_loaded_once_is_not_marked_again() {
        let dir = tempfile::tempdir().unwrap();
        let key = key(Hash::of(b"a file"), None);
        begin(dir.path(), key, false).unwrap().loaded().await;
        let load = begin(dir.path(), key, false).unwrap();
        assert!(load.0.is_none());
        assert_eq!(load.step(async { markers(dir.path()) }).await, 1, "only that it was loaded");
    }
}
