//! Reloads and faults leave nothing behind: the hub's memory, files and threads are the same after thousands of them.
//! `BUSWAY_RELOADS` and `BUSWAY_FAULTS` say how many, `BUSWAY_LEAKS_RESULT` where to write the figures as JSON.

use super::status_of;
use crate::{
    cli::{Serving, busway},
    guests::probe,
    hub::{PATIENCE, within},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Stdio};
use tokio::time::timeout;

/// Most that may come on top after the first quarter: the allocator's own ups and downs.
const GROWTH_KIB: i64 = 16 << 10;
/// Fewer than put a plugin in quarantine.
const FAULTS_AT_ONCE: u64 = 4;

/// The real program, so that what is measured is the hub's alone.
struct Subject {
    hub: Serving,
    client: reqwest::Client,
}

/// What must not grow.
#[derive(Debug, Clone, Copy)]
struct Figures {
    rss_kib: i64,
    fds: i64,
    threads: i64,
}

impl Subject {
    /// With little room for what is kept on purpose, so that it is full soon.
    async fn start(dir: &Path) -> Self {
        let (plugins, config) = (dir.join("plugins"), dir.join("config.toml"));
        fs::create_dir(&plugins).unwrap();
        // Traps are what is counted: on a busy machine none of them may be late instead.
        fs::write(plugins.join("probe.toml"), "retry.attempts = 1\nlimits.deadline = \"10s\"").unwrap();
        fs::write(plugins.join("probe.wasm"), probe(1)).unwrap();
        let text = "[log]\nbuffer_size = 256\n[journal]\nmax_dead_letters = 100\nmax_events = 1000\n";
        fs::write(&config, text).unwrap();
        let mut command = busway();
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&config);
        // Nobody reads what it says once it listens, and a full pipe would hold it up.
        command.env("RUST_LOG", "off");
        command.arg("--plugins").arg(&plugins).arg("--data").arg(dir.join("data"));
        let hub = Serving::of(command.stdout(Stdio::null())).await;
        Self { hub, client: crate::hub::http_client() }
    }

    async fn post(&self, path: &str, body: &Value) {
        let url = format!("http://{}{path}", self.hub.address);
        let response = within(self.client.post(url).json(body).send()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }

    async fn status(&self) -> Value {
        let url = format!("http://{}/v1/plugins/probe", self.hub.address);
        within(async { self.client.get(url).send().await.unwrap().json().await.unwrap() }).await
    }

    fn figures(&self) -> Figures {
        let pid = self.hub.child.id().unwrap();
        Figures {
            rss_kib: status_of(pid, "VmRSS") as i64,
            fds: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as i64,
            threads: status_of(pid, "Threads") as i64,
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// From the first quarter on, nothing has grown.
fn flat(what: &str, times: u64, quarter: Figures, end: Figures) -> Value {
    let grown = end.rss_kib - quarter.rss_kib;
    let slope = grown as f64 * 1024.0 / (times as f64 * 0.75);
    let result = json!({"times": times, "rss_kib": end.rss_kib, "rss_grown_kib": grown, "bytes_each": slope.round(),
                        "fds": [quarter.fds, end.fds], "threads": [quarter.threads, end.threads]});
    eprintln!("{what}: {result}");
    assert!(grown < GROWTH_KIB, "{what}: {quarter:?} → {end:?}");
    assert!((end.fds - quarter.fds).abs() <= 4 && (end.threads - quarter.threads).abs() <= 4, "{quarter:?} → {end:?}");
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn leaks_reloads_and_faults_leave_nothing_behind() {
    let (reloads, faults) = (number("BUSWAY_RELOADS", 300), number("BUSWAY_FAULTS", 5_000));
    let dir = tempfile::tempdir().unwrap();
    let subject = Subject::start(dir.path()).await;
    within(async { while subject.status().await["state"] != "active" {} }).await;
    let (path, aside) = (dir.path().join("plugins/probe.wasm"), dir.path().join("plugins/aside"));
    let versions = [probe(1), probe(2)];
    let mut quarter = subject.figures();
    for reload in 0..reloads {
        fs::write(&aside, &versions[reload as usize % 2]).unwrap();
        fs::rename(&aside, &path).unwrap();
        subject.post("/v1/plugins/probe/reload", &json!({})).await;
        // One call, so that it has an instance that goes with it.
        subject.post("/v1/events", &json!({"type": "probe.echo"})).await;
        if reload == reloads / 4 {
            quarter = subject.figures();
        }
    }
    let reloaded = flat("reloads", reloads, quarter, subject.figures());
    assert!(subject.status().await["generation"].as_u64().unwrap() > reloads / 2, "they were reloads");
    let traps = vec![json!({"type": "probe.trap"}); FAULTS_AT_ONCE as usize];
    let mut faulted = 0;
    while faulted < faults {
        subject.post("/v1/events", &json!(traps)).await;
        faulted += FAULTS_AT_ONCE;
        let counted = async { while subject.status().await["faults"]["trap"].as_u64().unwrap_or(0) < faulted {} };
        if timeout(PATIENCE, counted).await.is_err() {
            panic!("{faulted} were to be counted: {}", subject.status().await);
        }
        // What it did is forgiven; the version before must not come back, nor the plugin go into quarantine.
        subject.post("/v1/plugins/probe/enable", &json!({})).await;
        if faulted == faults / 4 / FAULTS_AT_ONCE * FAULTS_AT_ONCE {
            quarter = subject.figures();
        }
    }
    let faulted = flat("faults", faults, quarter, subject.figures());
    if let Ok(file) = std::env::var("BUSWAY_LEAKS_RESULT") {
        fs::write(file, format!("{:#}\n", json!({"reloads": reloaded, "faults": faulted}))).unwrap();
    }
}
