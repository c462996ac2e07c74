//! Markers on disk: which files are being loaded for the first time. One that is still there at the
//! next start was set by a hub that ended meanwhile, and perhaps because of that file: after two
//! such ends it is skipped until its bytes change, or an operator asks for it. A file that was
//! loaded once is trusted from then on: a hub that is killed while it starts does not lose its
//! plugins.
//!
//! They are kept in the data directory, which one hub has at a time. A hub without one, in memory,
//! has none.

use super::{Engine, Hash, LoadError, Name, engine::blocking};
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// The ending of a marker's name; before it stands the SHA-256 of the file.
const ENDING: &str = "loading";
/// Loads that a hub did not live to end, before the file is skipped. One may be a power cut.
const MAX_ATTEMPTS: u32 = 2;
/// The ending once the file was loaded.
const LOADED: &str = "loaded";
/// Most files that are remembered as loaded. Beyond it all are forgotten, and each is marked at its
/// next load.
const MAX_LOADED: usize = 4_096;

/// The markers of a directory.
#[derive(Debug)]
pub(super) struct LoadMarkers {
    dir: PathBuf,
    /// Names of the markers that were there at the start.
    left: Mutex<BTreeSet<String>>,
}

/// One marker; dropped, it is removed.
#[derive(Debug)]
pub(super) struct LoadMarker {
    path: Option<PathBuf>,
}

impl LoadMarkers {
    /// Makes the directory, and reads which are there. One that cannot be read has none.
    pub(super) fn open(dir: &Path) -> Arc<Self> {
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(dir) {
            tracing::warn!(dir = %dir.display(), %error, "cannot note what is being loaded");
        }
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let (loaded, rest): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(&format!(".{LOADED}")));
        if loaded.len() > MAX_LOADED {
            for name in loaded {
                let _ = fs::remove_file(dir.join(name));
            }
        }
        let left = rest.into_iter().filter(|name| name.ends_with(&format!(".{ENDING}"))).collect();
        Arc::new(Self { dir: dir.to_owned(), left: Mutex::new(left) })
    }

    /// The marker's path; `None` for a file that was loaded before.
    fn set(&self, plugin: &str, hash: Hash, asked: bool) -> Result<Option<PathBuf>, LoadError> {
        let name = format!("{}.{ENDING}", hash.to_hex());
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
        if let Err(error) = write(&path, plugin, before + 1) {
            // A load is not refused because of it: a full disk must not keep plugins from loading.
            tracing::warn!(file = %path.display(), %error, "cannot note what is being loaded");
        }
        Ok(Some(path))
    }
}

impl LoadMarker {
    /// Marks a file as being loaded, on disk.
    ///
    /// # Errors
    /// [`LoadError::Crashed`] if a hub ended while it was loading these bytes; not if an operator
    /// `asked` for it.
    pub(super) async fn set(engine: &Engine, plugin: &Name, hash: Hash, asked: bool) -> Result<Self, LoadError> {
        let Some(markers) = engine.markers().cloned() else { return Ok(Self { path: None }) };
        let plugin = plugin.clone();
        let path = blocking(move || markers.set(plugin.as_str(), hash, asked)).await??;
        Ok(Self { path })
    }

    /// The file is loaded: it is not marked again.
    pub(super) fn loaded(mut self) {
        if let Some(path) = self.path.take() {
            let _ = fs::rename(&path, path.with_extension(LOADED));
        }
    }
}

impl Drop for LoadMarker {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// How many loads a marker tells of: one, if its writing was cut off.
fn attempts(path: &Path) -> u32 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().nth(1).and_then(|attempts| attempts.parse().ok()).unwrap_or(1)
}

/// On disk before the file is touched: what it does may end the machine, too.
fn write(path: &Path, plugin: &str, attempts: u32) -> io::Result<()> {
    let mut file = File::create(path)?;
    writeln!(file, "{plugin}\n{attempts}")?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_being_loaded_when_the_hub_ended_is_skipped_until_it_changes_or_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (same, other) = (Hash::of(b"a file"), Hash::of(b"another"));
        // A hub that ends without a word leaves it.
        for _ in 0..MAX_ATTEMPTS {
            LoadMarkers::open(dir.path()).set("x", same, false).unwrap();
        }
        let markers = LoadMarkers::open(dir.path());
        let error = markers.set("x", same, false).unwrap_err();
        assert_eq!(error.code(), "load.crashed");
        drop(LoadMarker { path: markers.set("x", other, false).unwrap() });
        drop(LoadMarker { path: markers.set("x", same, true).unwrap() });
        assert!(markers.set("x", same, false).is_ok(), "an operator asked");
    }

    #[test]
    fn a_file_that_was_loaded_once_is_not_marked_again() {
        let dir = tempfile::tempdir().unwrap();
        let hash = Hash::of(b"a file");
        let markers = LoadMarkers::open(dir.path());
        LoadMarker { path: markers.set("x", hash, false).unwrap() }.loaded();
        assert_eq!(LoadMarkers::open(dir.path()).set("x", hash, false).unwrap(), None);
    }
}
