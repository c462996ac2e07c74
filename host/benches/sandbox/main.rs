//! What a plugin that means harm costs its neighbours, and how fast the hub is rid of it. In one process, so that nothing but the
//! hub's own ways is measured. Prints a table.
//!
//! `cargo bench --bench sandbox` runs everything, `cargo bench --bench sandbox -- runaway restart` only that.

#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]

mod ends;
#[path = "../../src/plugin/testing/guest.rs"]
#[allow(dead_code, reason = "shared with the host's own tests, which use all of it")]
mod guest;
#[path = "../shared/guests.rs"]
mod guests;
mod neighbours;
mod report;
mod restart;
mod round;

use busway::{config::Config, hub::Hub};
use report::Report;
use std::{fs, net::SocketAddr, path::Path};
use tempfile::TempDir;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    type Part = (&'static str, fn(&mut Report));
    const PARTS: [Part; 4] =
        [("neighbours", neighbours::run), ("trap", ends::trap), ("runaway", ends::runaway), ("restart", restart::run)];
    // Cargo itself passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut report = Report::default();
    for (name, run) in PARTS {
        if args.is_empty() || args.iter().any(|wanted| *wanted == name) {
            run(&mut report);
        }
    }
    report.print();
}

/// A hub in memory in this process, with its plugin directory.
pub(crate) struct Lab {
    pub(crate) hub: Hub,
    pub(crate) dir: TempDir,
}

impl Lab {
    pub(crate) async fn start(install: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        install(dir.path());
        let mut config = Config::default();
        config.journal.memory = true;
        config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.plugins.dir = dir.path().to_owned();
        let hub = Hub::start(config).await.expect("it starts");
        hub.ready().await;
        Self { hub, dir }
    }

    /// Puts a plugin in place, by rename.
    pub(crate) fn put(&self, name: &str, wasm: &[u8], manifest: &str) {
        put(self.dir.path(), name, wasm, manifest);
    }
}

/// Puts a plugin in place, by rename: its word first, so that it is never without.
pub(crate) fn put(dir: &Path, name: &str, wasm: &[u8], manifest: &str) {
    for (file, bytes) in [(format!("{name}.toml"), manifest.as_bytes()), (format!("{name}.wasm"), wasm)] {
        let aside = dir.join(format!(".{file}.new"));
        fs::write(&aside, bytes).expect("a file");
        fs::rename(aside, dir.join(file)).expect("a file");
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}
