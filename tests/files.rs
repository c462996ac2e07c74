//! The plugin directory belongs to strangers: whatever lies in it, the hub says what it is, and the plugin beside it loses nothing.

mod compiler;
mod content;
mod crowd;
mod directory;
mod globs;
mod leaks;
mod permission;
mod schema;

use crate::{
    guests::probe,
    hub::{TestHub, within},
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A healthy plugin beside the strangers'.
struct Beside {
    published: usize,
}

impl Beside {
    async fn install(hub: &TestHub) -> Self {
        hub.install("probe", probe(1), "").await;
        Self { published: 0 }
    }

    async fn publish(&mut self, hub: &TestHub) {
        hub.publish("probe.count", json!(null)).await;
        self.published += 1;
    }

    /// Each event was handled, and each once, by the one version that there was.
    async fn lost_nothing(self, hub: &TestHub) {
        let counted = hub.events_of("probed.count", self.published).await;
        let mut counts: Vec<_> = counted.iter().map(|event| event["data"]["count"].as_u64().unwrap()).collect();
        counts.sort_unstable();
        assert_eq!(counts, (1..=self.published as u64).collect::<Vec<_>>());
        let (_, status) = hub.get("/v1/plugins/probe").await;
        assert_eq!((&status["state"], &status["generation"]), (&json!("active"), &json!(1)), "{status}");
    }
}

impl TestHub {
    fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// What `/metrics` says of the compiler: how often it was started with an outcome, or was not needed (`saved`).
    async fn compilations(&self, outcome: &str) -> u64 {
        match outcome {
            "saved" => self.metric("busway_plugin_compilations_saved_total").await,
            outcome => self.metric(&format!("busway_plugin_compilations_total{{outcome=\"{outcome}\"}}")).await,
        }
    }

    /// Waits until the compiler was not needed `count` times.
    async fn saved(&self, count: u64) {
        within(async { while self.compilations("saved").await < count {} }).await;
    }

    /// Waits until the file is refused or its load has failed, and gives the error of the load.
    async fn refused(&self, name: &str) -> Value {
        self.plugin_until(name, |status| status["state"] == "failed").await["last_error"].clone()
    }

    /// What the list says of the files that are no plugins, once `condition` holds for it.
    async fn strangers(&self, condition: impl Fn(&Value) -> bool) -> Value {
        within(async {
            loop {
                let (_, list) = self.get("/v1/plugins").await;
                if condition(&list["refused"]) {
                    return list["refused"].clone();
                }
            }
        })
        .await
    }
}

/// Of a process, from `/proc`: in KiB, or a number.
fn status_of(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}
