//! Many plugins at once.

use crate::{
    guests::probe,
    hub::{TestHub, within},
};
use serde_json::json;
use std::{
    fs,
    time::{Duration, Instant},
};

const PLUGINS: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_plugins_become_active_and_the_hub_answers_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let hub = TestHub::durable(dir, |config| config.plugins.cache = cache.clone()).await;
    // Not in the directory: the names there are all links to the one file.
    let file = hub.dir.path().join("file");
    fs::write(&file, probe(1)).unwrap();
    let began = Instant::now();
    for index in 0..PLUGINS {
        fs::hard_link(&file, hub.plugins().join(format!("p{index:03}.wasm"))).unwrap();
    }
    let mut slowest = Duration::ZERO;
    within(async {
        loop {
            let asked = Instant::now();
            assert_eq!(hub.get("/readyz").await.0, 200);
            assert_eq!(hub.post("/v1/events", &json!({"type": "other"})).await.0, 200);
            let (_, list) = hub.get("/v1/plugins").await;
            slowest = slowest.max(asked.elapsed());
            let plugins = list["plugins"].as_array().unwrap();
            if plugins.iter().filter(|plugin| plugin["state"] == "active").count() == PLUGINS {
                return;
            }
        }
    })
    .await;
    let active = began.elapsed();
    assert_eq!((hub.compilations("compiled").await, hub.compilations("saved").await), (1, PLUGINS as u64 - 1));
    let began = Instant::now();
    hub.publish("probe.echo", json!(null)).await;
    hub.events_of("probed.echo", PLUGINS).await;
    let handled = began.elapsed();
    let dir = hub.end().await;
    let began = Instant::now();
    let hub = TestHub::durable(dir, |config| config.plugins.cache = cache.clone()).await;
    let again = began.elapsed();
    assert_eq!(hub.compilations("compiled").await, 0);
    let (_, list) = hub.get("/v1/plugins").await;
    let plugins = list["plugins"].as_array().unwrap();
    assert_eq!(plugins.iter().filter(|plugin| plugin["state"] == "active").count(), PLUGINS);
    eprintln!(
        "{PLUGINS} plugins: active after {active:?}, slowest round of three requests {slowest:?}; one event handled by all \
         in {handled:?}; restart {again:?}"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
