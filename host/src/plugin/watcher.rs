//! Says that the plugin directory may have changed. Says no more than that: what is there is looked at anew each time
//! ([`super::directory`]), so bursts, renames, an overflow of the system's queue and a directory that was removed and made
//! again all come to the same.

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};

/// Looked at anew this often though nothing was said: for file systems that say nothing, such as network ones.
const ANYWAY: Duration = Duration::from_secs(2);

/// See the module's head.
pub(super) struct Watcher {
    dir: PathBuf,
    changed: Arc<Notify>,
    system: Option<RecommendedWatcher>,
}

impl Watcher {
    pub(super) fn new(dir: &Path) -> Self {
        let mut watcher = Self { dir: dir.to_owned(), changed: Arc::default(), system: None };
        watcher.watch();
        watcher
    }

    /// Watches the directory that is at the path now. It cannot be told whether it is still the same one, so this is done
    /// whenever something changed; it costs two calls to the system.
    fn watch(&mut self) {
        let changed = self.changed.clone();
        // Reading is no change, and our own reading would never end.
        let tell = move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                changed.notify_one();
            }
        };
        self.system = notify::recommended_watcher(tell)
            .and_then(|mut system| system.watch(&self.dir, RecursiveMode::NonRecursive).map(|()| system))
            .inspect_err(|error| tracing::debug!(%error, dir = %self.dir.display(), "the directory cannot be watched"))
            .ok();
    }

    /// Waits until the directory may have changed, or it is time to look anyway.
    pub(super) async fn changed(&mut self) {
        let told = timeout(ANYWAY, self.changed.notified()).await.is_ok();
        if told && self.dir.is_dir() && self.system.is_some() {
            return;
        }
        self.watch();
    }
}
