//! The hub in the author's own process: in memory, on loopback, with a plugin directory in the project's hidden one.

use super::super::project::Project;
use crate::{config::Config, hub::Hub, plugin::Compiler};
use anyhow::Context;
use std::{
    fs::{self, DirBuilder},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

pub(super) struct Embedded {
    hub: Hub,
    plugins: PathBuf,
}

impl Embedded {
    pub(super) async fn start(project: &Project, listen: SocketAddr) -> anyhow::Result<Self> {
        let dir = project.hidden().join("dev");
        let (plugins, cache) = (dir.join("plugins"), dir.join("cache"));
        // What was there the last time may not be of this project any more.
        let _ = fs::remove_dir_all(&plugins);
        for place in [&plugins, &cache] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(place);
            made.with_context(|| format!("cannot make {}", place.display()))?;
        }
        let mut config = Config::default();
        config.http.listen = listen;
        config.journal.memory = true;
        config.plugins.dir.clone_from(&plugins);
        config.plugins.cache = cache;
        config.plugins.compiler = Compiler::this_program();
        Ok(Self { hub: Hub::start(config).await?, plugins })
    }

    /// Its plugin directory.
    pub(super) fn plugins(&self) -> &Path {
        &self.plugins
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.hub.addr())
    }

    pub(super) async fn stop(self) {
        self.hub.shutdown().await;
    }
}
