//! A project's sources as they stand: all files in its directory but those that a build writes. Looked at again and again rather than
//! watched: there are few, and every file system can do it.

use super::super::project::Project;
use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Directories that tools write into, besides hidden ones.
const OUTPUT: [&str; 5] = ["target", "node_modules", "__pycache__", "zig-out", "dist"];
/// Files that they write.
const WRITTEN: [&str; 4] = ["Cargo.lock", "package-lock.json", "go.sum", "uv.lock"];
/// More files than that are no plugin's sources.
const MOST: usize = 10_000;

/// See the module's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sources {
    dir: PathBuf,
    files: BTreeMap<PathBuf, (u64, Option<SystemTime>)>,
}

impl Sources {
    pub(super) fn of(project: &Project) -> anyhow::Result<Self> {
        Self::below(&project.dir)
    }

    fn below(dir: &Path) -> anyhow::Result<Self> {
        let mut sources = Self { dir: dir.to_owned(), files: BTreeMap::new() };
        sources.collect(dir)?;
        Ok(sources)
    }

    fn collect(&mut self, dir: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Gone since it was listed: the next look will tell.
            let Ok(about) = entry.metadata() else { continue };
            if name.starts_with('.') || name.ends_with('~') {
                continue;
            }
            if about.is_dir() {
                if !OUTPUT.contains(&name.as_str()) {
                    self.collect(&entry.path())?;
                }
            } else if about.is_file() && !WRITTEN.contains(&name.as_str()) && !name.ends_with(".wasm") {
                self.files.insert(entry.path(), (about.len(), about.modified().ok()));
                if self.files.len() > MOST {
                    bail!("expected a plugin's project, found more than {MOST} files below {}", self.dir.display());
                }
            }
        }
        Ok(())
    }

    /// Waits until they have changed since, and rest again: editors write several files, and some in several steps.
    pub(super) async fn changed(&self, every: Duration) -> anyhow::Result<()> {
        let mut last = Self::below(&self.dir)?;
        loop {
            let now = Self::below(&self.dir)?;
            if now != *self && now == last {
                return Ok(());
            }
            last = now;
            tokio::time::sleep(every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, file: &str, text: &str) {
        let file = dir.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[tokio::test]
    async fn what_a_build_writes_is_no_change_and_what_an_author_writes_is() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, "src/lib.rs", "one");
        let sources = Sources::below(dir).unwrap();
        for file in [".busway/sdk/x.rs", "target/x", "node_modules/a/b.js", "x.wasm", "Cargo.lock", "src/lib.rs~"] {
            write(dir, file, "x");
        }
        assert_eq!(Sources::below(dir).unwrap(), sources);
        write(dir, "src/lib.rs", "another");
        sources.changed(Duration::from_millis(1)).await.unwrap();
        let sources = Sources::below(dir).unwrap();
        write(dir, "x.toml", "");
        assert_ne!(Sources::below(dir).unwrap(), sources, "the sidecar is the author's");
    }
}
