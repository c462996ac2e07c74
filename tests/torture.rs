//! The hub is killed again and again while publishers publish and a handler counts and emits; then what was acknowledged is
//! compared with what is there. `BUSWAY_KILLS` says how often, `BUSWAY_TORTURE_RESULT` where to write the result as JSON.

use crate::{
    guests::probe,
    hub::{PATIENCE, within},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

const PUBLISHERS: usize = 4;
/// The plugin, its events and its place: many at once, so that a kill finds calls under way.
const MANIFEST: &str = "concurrency = 4\nstart = \"earliest\"\n[grants]\nkv = true\npublish = [\"probed.*\"]\n";

/// A hub as its own process.
struct Process {
    child: Child,
    address: String,
    /// What the plugin said of each event that it was handed: seq and attempt.
    handed: tokio::task::JoinHandle<Vec<(u64, u64)>>,
}

impl Process {
    async fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_busway-under-test"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args([
                "--plugins".as_ref(),
                dir.join("plugins").as_os_str(),
                "--data".as_ref(),
                dir.join("data").as_os_str(),
            ])
            .env_remove("RUST_LOG")
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (address, mut listening) = watch::channel(None);
        let handed = tokio::spawn(async move {
            let mut handed = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, rest)) = line.split_once("listening on http://") {
                    address.send_replace(rest.split(',').next().map(str::to_owned));
                }
                handed.extend(handed_over(&line));
                if address.borrow().is_none() {
                    // Why it does not start, if it does not.
                    eprintln!("{line}");
                }
            }
            handed
        });
        let found = within(listening.wait_for(Option::is_some)).await;
        let address = found.expect("it listens").clone().unwrap();
        Self { child, address, handed }
    }

    async fn kill(mut self) -> Vec<(u64, u64)> {
        self.child.kill().await.unwrap();
        self.handed.await.unwrap()
    }
}

fn handed_over(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_once("handed ")?.1.split_whitespace();
    let seq = words.next()?.parse().ok()?;
    let attempt = words.nth(1)?.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    Some((seq, attempt))
}

/// What publishers were told: the seq of each event id.
type Acknowledged = Arc<Mutex<HashMap<String, u64>>>;

/// Publishes in order, and again whatever was not acknowledged, to whichever hub there is.
async fn publish(publisher: usize, mut hub: watch::Receiver<Option<String>>, acknowledged: Acknowledged) -> u64 {
    let client = crate::hub::http_client();
    let mut next = 0;
    loop {
        let count = 1 + next % 7;
        let event = |number: u64| {
            json!({"type": "probe.count", "data": null,
                   "metadata": {"event_id": format!("{publisher}-{number}"), "source": format!("publisher-{publisher}")}})
        };
        let batch: Vec<Value> = (next..next + count).map(event).collect();
        let receipts = loop {
            // No more hub: the end.
            let Ok(address) = hub.wait_for(Option::is_some).await.map(|address| address.clone().unwrap()) else {
                return next;
            };
            let request = client.post(format!("http://{address}/v1/events")).json(&batch).timeout(PATIENCE);
            let answer = match request.send().await {
                Ok(response) if response.status().is_success() => response.json::<Value>().await.ok(),
                _ => None,
            };
            match answer {
                Some(answer) => break answer,
                None => tokio::task::yield_now().await,
            }
        };
        let mut acknowledged = acknowledged.lock().unwrap();
        for receipt in receipts["events"].as_array().unwrap() {
            let (id, seq) = (receipt["event_id"].as_str().unwrap().to_owned(), receipt["seq"].as_u64().unwrap());
            assert_eq!(acknowledged.insert(id, seq).unwrap_or(seq), seq, "one event has one place");
        }
        next += count;
    }
}

async fn get(address: &str, path: &str) -> Value {
    let url = format!("http://{address}{path}");
    within(async { crate::hub::http_client().get(url).send().await.unwrap().json().await.unwrap() }).await
}

/// Every event, once the handler has done with all of them.
async fn everything(address: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    let (mut next, mut handled, mut to_handle) = (1, 0, 0);
    let begun = Instant::now();
    loop {
        let page = get(address, &format!("/v1/events?from={next}&limit=1000")).await;
        assert!(page["missed"].is_null(), "{}", page["missed"]);
        for event in page["events"].as_array().unwrap_or_else(|| panic!("from {next}: {page}")) {
            to_handle += u64::from(event["type"] == "probe.count");
            handled += u64::from(event["type"] == "probed.count");
            all.push(event.clone());
        }
        next = page["next"].as_u64().unwrap();
        if next > page["head"].as_u64().unwrap() && handled >= to_handle {
            return all;
        }
        assert!(begun.elapsed() < 10 * PATIENCE, "{handled} of {to_handle} were handled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn torture_nothing_acknowledged_is_lost_and_every_effect_is_there_once() {
    let kills: usize = std::env::var("BUSWAY_KILLS").map_or(20, |text| text.parse().expect("a number"));
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    fs::write(dir.path().join("plugins/probe.wasm"), probe(1)).unwrap();
    fs::write(dir.path().join("plugins/probe.toml"), MANIFEST).unwrap();

    let acknowledged = Acknowledged::default();
    let hub = watch::Sender::new(None);
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|index| tokio::spawn(publish(index, hub.subscribe(), acknowledged.clone()))).collect();
    let mut lives = Vec::new();
    for kill in 0..kills {
        let process = Process::start(dir.path()).await;
        hub.send_replace(Some(process.address.clone()));
        // A moment that nobody chose: that is what is tested, no condition is waited for.
        tokio::time::sleep(Duration::from_millis(20 + (kill as u64 * 7919) % 400)).await;
        lives.push(process.kill().await);
        hub.send_replace(None);
    }
    let process = Process::start(dir.path()).await;
    hub.send_replace(Some(process.address.clone()));
    // Each publisher ends with an acknowledgement: of what it may have published before the last kill.
    let before = acknowledged.lock().unwrap().len();
    within(async {
        while acknowledged.lock().unwrap().len() < before + 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    hub.send_replace(None);
    drop(hub);
    for publisher in publishers {
        within(publisher).await.unwrap();
    }
    let events = everything(&process.address).await;
    lives.push(process.kill().await);

    let acknowledged = acknowledged.lock().unwrap();
    let published = nothing_is_lost_or_reordered(&events, &acknowledged);
    every_effect_is_there_once(&events, &published);
    let redelivered = redeliveries_are_marked(&lives);
    let result = json!({"kills": kills, "events": events.len(), "acknowledged": acknowledged.len(), "published": published.len(),
                        "lost": 0, "reordered": 0, "handled": published.len(), "redelivered": redelivered});
    eprintln!("{result}");
    if let Ok(file) = std::env::var("BUSWAY_TORTURE_RESULT") {
        fs::write(file, format!("{result:#}\n")).unwrap();
    }
}

/// Gives the seqs of the publishers' events.
fn nothing_is_lost_or_reordered(events: &[Value], acknowledged: &HashMap<String, u64>) -> BTreeSet<u64> {
    for (event, seq) in events.iter().zip(1..) {
        assert_eq!(event["seq"], json!(seq), "seqs are in a row");
    }
    let mut places = HashMap::new();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for event in events.iter().filter(|event| event["type"] == "probe.count") {
        let id = event["metadata"]["event_id"].as_str().unwrap();
        let seq = event["seq"].as_u64().unwrap();
        assert_eq!(places.insert(id.to_owned(), seq), None, "{id} is there twice");
        let (publisher, number) = id.split_once('-').unwrap();
        let number = number.parse().unwrap();
        let before = last.insert(publisher.to_owned(), number);
        assert_eq!(before.map_or(0, |before| before + 1), number, "publisher {publisher} is in its own order");
    }
    for (id, seq) in acknowledged {
        assert_eq!(places.get(id), Some(seq), "{id} was acknowledged");
    }
    places.into_values().collect()
}

fn every_effect_is_there_once(events: &[Value], published: &BTreeSet<u64>) {
    let (mut counts, mut of) = (BTreeSet::new(), BTreeSet::new());
    for event in events.iter().filter(|event| event["type"] == "probed.count") {
        let data = &event["data"];
        assert!(counts.insert(data["count"].as_u64().unwrap()), "{data}: a count comes once");
        assert!(of.insert(data["of"].as_u64().unwrap()), "{data}: an event is answered once");
    }
    assert_eq!(&of, published);
    assert_eq!(counts, (1..=published.len() as u64).collect());
}

/// An event that was handed over before the hub was killed, and is again, says so. Gives how many there were.
fn redeliveries_are_marked(lives: &[Vec<(u64, u64)>]) -> usize {
    let mut before: BTreeSet<u64> = BTreeSet::new();
    let mut redelivered = 0;
    for life in lives {
        for (seq, attempt) in life {
            if before.contains(seq) {
                redelivered += 1;
                assert!(*attempt > 1, "event {seq} was handed over before");
            }
        }
        before.extend(life.iter().map(|(seq, _)| seq));
    }
    redelivered
}
