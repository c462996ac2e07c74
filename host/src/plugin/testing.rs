//! Components for tests, made into versions: see [`guest`] for how they are written.

pub(super) mod guest;

use super::Name;
use super::engine::{Engine, EngineConfig};
use super::fault::LoadError;
use super::manifest::Manifest;
use super::stats::Stats;
use super::version::{Source, Version};
use crate::event::{Event, NewEvent};
use crate::kv::{Quota, Store};
pub(super) use guest::{Guest, JSON, OK, RET, RETRY, TEXT, TRUE};
use std::sync::{Arc, LazyLock};

/// One for all tests of a process: it reserves address space and caches what is compiled.
pub(super) static ENGINE: LazyLock<Arc<Engine>> =
    LazyLock::new(|| Engine::new(EngineConfig::default()).expect("the machine has address space"));

impl Guest {
    pub(super) fn wasm(&self) -> Arc<[u8]> {
        wat::parse_str(self.wat()).expect("the test's WAT is well formed").into()
    }

    pub(super) async fn load(&self) -> Result<Arc<Version>, LoadError> {
        load(self.wasm(), Manifest::default()).await
    }

    pub(super) async fn load_with(&self, manifest: &str) -> Arc<Version> {
        load(self.wasm(), Manifest::parse(manifest).unwrap()).await.unwrap()
    }
}

pub(super) async fn load(bytes: Arc<[u8]>, manifest: Manifest) -> Result<Arc<Version>, LoadError> {
    let name: Name = "test".parse().unwrap();
    let namespace = Store::new(Quota::default()).namespace("test");
    let source = Source { name, bytes, manifest, generation: 1, namespace, stats: Arc::new(Stats::default()) };
    Version::load(&ENGINE, source).await
}

pub(super) fn event() -> Event {
    NewEvent::new("task.created").correlation_id("c1").event_id("e1").admit().unwrap()
}
