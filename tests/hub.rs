//! A hub of a test's own, on port 0 and a plugin directory that goes with it.

use busway::{config::Config, event::NewEvent, hub::Hub, plugin::Compiler};
use serde_json::{Value, json};
use std::{net::SocketAddr, ops::Deref, path::Path, time::Duration};
use tempfile::TempDir;

/// How long a condition may take to come true before a test fails: far longer than it ever does.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client that asks nobody else: whoever runs the tests may have a proxy in the environment.
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub struct TestHub {
    hub: Hub,
    pub dir: TempDir,
    pub http: reqwest::Client,
}

impl Deref for TestHub {
    type Target = Hub;

    fn deref(&self) -> &Hub {
        &self.hub
    }
}

impl TestHub {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), change).await
    }

    pub async fn in_dir(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let hub = Self::starting(dir, change).await;
        within(hub.ready()).await;
        hub
    }

    /// One whose plugins may still be loading.
    pub async fn starting(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.plugins.dir = dir.path().join("plugins");
        config.journal.dir = dir.path().join("data");
        // As the program does it: in another process, and what another test compiled is not compiled again.
        config.plugins.compiler = Compiler::Child(env!("CARGO_BIN_EXE_busway-under-test").into());
        config.plugins.cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        // Set, every test has a journal: those that fail then are about what only memory forgets.
        config.journal.memory = std::env::var_os("BUSWAY_TEST_JOURNAL").is_none();
        change(&mut config);
        let hub = Hub::start(config).await.unwrap();
        Self { hub, dir, http: crate::hub::http_client() }
    }

    /// One with a journal, in a directory where there may be one already.
    pub async fn durable(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let on_disk = |config: &mut Config| {
            config.journal.memory = false;
            change(config);
        };
        Self::in_dir(dir, on_disk).await
    }

    /// Stops it; what it kept is left.
    pub async fn end(self) -> TempDir {
        let Self { hub, dir, .. } = self;
        assert!(within(hub.shutdown()).await, "everything ends in time");
        dir
    }

    /// Stops it and starts another in its place.
    pub async fn restart(self) -> Self {
        Self::durable(self.end().await, |_| ()).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.http.post(self.url(path)).json(body)).await
    }

    pub async fn put_json(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.http.put(self.url(path)).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.http.delete(self.url(path))).await
    }

    pub async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        answer(self.http.post(self.url(path)).header("content-type", "application/json").body(body)).await
    }

    /// A sample of `/metrics`, by its name and labels as they stand there.
    pub async fn metric(&self, sample: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let text = text.as_str().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
    }

    pub async fn publish(&self, event_type: &str, data: Value) -> u64 {
        self.bus().publish(NewEvent::new(event_type).data(data).unwrap()).await.unwrap().seq
    }

    /// Every event that is still in the log.
    pub async fn events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut next = 1;
        loop {
            let (status, page) = self.get(&format!("/v1/events?from={next}&limit=1000")).await;
            assert_eq!(status, 200, "{page}");
            all.extend(page["events"].as_array().unwrap().iter().cloned());
            next = page["next"].as_u64().unwrap();
            if next > page["head"].as_u64().unwrap() {
                return all;
            }
        }
    }

    /// Waits until `condition` holds for the events in the log, and returns them.
    pub async fn events_until(&self, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut head = self.bus().log().watch_head();
        within(async {
            loop {
                let before = head.borrow_and_update().seq;
                let events = self.events().await;
                if condition(&events) {
                    return events;
                }
                let _ = head.wait_for(|head| head.seq > before).await;
            }
        })
        .await
    }

    /// Waits until there are `count` events of `event_type`, and returns them.
    pub async fn events_of(&self, event_type: &str, count: usize) -> Vec<Value> {
        let of_type =
            |events: &[Value]| events.iter().filter(|event| event["type"] == event_type).cloned().collect::<Vec<_>>();
        of_type(&self.events_until(|events| of_type(events).len() >= count).await)
    }

    pub async fn stop(self) -> bool {
        within(self.hub.shutdown()).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = within(request.send()).await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
}

/// Fails the test if `future` takes longer than anything here may take.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it came true in time")
}

/// Waits until `condition` holds, looking again every millisecond.
pub async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        while !condition() {
            look.tick().await;
        }
    })
    .await;
}
