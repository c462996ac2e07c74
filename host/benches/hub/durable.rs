//! What it costs that nothing is lost: publishing with a journal, beside the machine's own `fdatasync`; reading a journal back,
//! and opening one of a million events.

use crate::{
    clients::Http,
    fanout::event_json,
    process::Server,
    report::Report,
    sample::{self, quantile},
};
use busway::{
    event::Event,
    journal::{self, JournalConfig},
    log::{Log, LogConfig, Step},
    metrics::Metrics,
};
use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long each publishing round goes on.
const ROUND: Duration = Duration::from_secs(8);
/// Syncs of the bare baseline.
const SYNCS: usize = 400;
/// Events of the journal that is read back.
const EVENTS: u64 = 1_000_000;

pub(crate) fn publish(report: &mut Report) {
    for (sync, batch, connections, target) in
        [("full", 100, 8, 50_000), ("full", 1, 64, 8_000), ("normal", 100, 8, 100_000)]
    {
        let what = format!("durable publish, sync = {sync}, arrays of {batch} on {connections} connections");
        // As fast as it goes, then at the rate that is the target: how long an acknowledgement takes says little of a hub
        // that is given more than it can do.
        let (rate, _) = measure(sync, batch, connections, None);
        report.text(&what, &format!("≥ {target} events/s"), &format!("{rate:.0} events/s"));
        let (_, mut times) = measure(sync, batch, connections, Some(target));
        let [p50, p99] = [0.5, 0.99].map(|q| quantile(&mut times.0, q));
        let [sync50, sync99] = [0.5, 0.99].map(|q| quantile(&mut times.1, q));
        let figures = format!("{p50:.2} / {p99:.2} ms; {sync50:.2} / {sync99:.2} ms: p99 {:.1} ×", p99 / sync99);
        let what = format!("the same at {target} events/s: acknowledgement, and the bare sync, p50 / p99");
        report.text(&what, if sync == "full" { "p99 ≤ 3 × fdatasync" } else { "" }, &figures);
    }
}

/// Events a second, and the milliseconds of each acknowledgement and of each bare sync, before and after.
fn measure(sync: &str, batch: usize, connections: usize, rate: Option<usize>) -> (f64, (Vec<f64>, Vec<f64>)) {
    let server = Server::keeping(sync, |_| ());
    let before = bare_syncs(server.dir.path(), batch);
    let (events, times) = load(server.addr, batch, connections, rate);
    let bare = [before, bare_syncs(server.dir.path(), batch)].concat();
    (events as f64 / ROUND.as_secs_f64(), (times, bare))
}

/// Milliseconds of a write of as many bytes as the events of one request, at least 4 KiB, and its `fdatasync`, on the same disk.
fn bare_syncs(dir: &Path, batch: usize) -> Vec<f64> {
    let bytes = vec![7; (batch * 512).max(4_096)];
    let mut file = File::create(dir.join("bare")).expect("a file");
    let once = |_| {
        let begun = Instant::now();
        file.write_all(&bytes).and_then(|()| file.sync_data()).expect("a disk");
        begun.elapsed().as_secs_f64() * 1e3
    };
    (0..SYNCS).map(once).collect()
}

/// Publishes for a while on many connections at once, as fast as it goes or so many events a second in sum; gives the events
/// acknowledged and the milliseconds of each request, counted from when it was to be sent.
fn load(addr: SocketAddr, batch: usize, connections: usize, rate: Option<usize>) -> (usize, Vec<f64>) {
    let every = rate.map(|rate| Duration::from_secs_f64((batch * connections) as f64 / rate as f64));
    let begun = Instant::now();
    let publisher = move |index: usize| {
        let mut http = Http::connect(addr);
        let event = event_json("task.created");
        let body = if batch == 1 { event } else { format!("[{}]", vec![event; batch].join(",")) };
        let request = http.post("/v1/events", &body);
        let mut times = Vec::new();
        // Spread, so that they do not all come at once.
        let mut due = begun + every.unwrap_or_default() * index as u32 / connections as u32;
        while begun.elapsed() < ROUND {
            match every {
                Some(every) => {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += every;
                }
                None => due = Instant::now(),
            }
            let from = every.map_or(due, |every| due - every);
            http.send(&request);
            times.push(from.elapsed().as_secs_f64() * 1e3);
        }
        times
    };
    let publishers: Vec<_> = (0..connections).map(|index| thread::spawn(move || publisher(index))).collect();
    let times: Vec<f64> = publishers.into_iter().flat_map(|publisher| publisher.join().expect("no panic")).collect();
    (times.len() * batch, times)
}

pub(crate) fn replay(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = JournalConfig { dir: dir.path().to_owned(), ..JournalConfig::default() };
    fill(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let log_config = LogConfig::default();
    let begun = Instant::now();
    let (opened, _) = open(&config);
    let log = runtime.block_on(async { Log::on_journal(&log_config, Arc::default(), opened).expect("it starts") });
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(log.head(), EVENTS);
    report.row("open a journal of 1 M events", "≤ 1 s", took, "s");
    let begun = Instant::now();
    let read = runtime.block_on(async {
        let (mut cursor, mut read) = (log.cursor(1), 0);
        while let Some(step) = cursor.read().await {
            match step {
                Step::Events(chunk) => read += chunk.events().len() as u64,
                Step::Gap(gap) => panic!("{gap:?}"),
            }
        }
        read
    });
    assert_eq!(read, EVENTS);
    let rate = EVENTS as f64 / begun.elapsed().as_secs_f64();
    report.text("replay to a cursor", "≥ 500,000 events/s", &format!("{rate:.0} events/s"));
    runtime.block_on(async {
        log.drain();
        log.close();
        log.ended().await;
    });
}

fn open(config: &JournalConfig) -> (journal::Opened, journal::Memory) {
    let log = LogConfig::default();
    journal::open(config, (log.dedup_window(), log.dedup_events), Arc::new(Metrics::default())).expect("it opens")
}

fn fill(config: &JournalConfig) {
    let (mut opened, _) = open(config);
    let data = sample::data();
    for first in (1..=EVENTS).step_by(1_000) {
        let numbered = |seq| {
            let event: Event = sample::event("task.created", &data).admit().expect("within bounds");
            Arc::new(Event { seq, ..event })
        };
        let events: Vec<Arc<Event>> = (first..first + 1_000).map(numbered).collect();
        opened.writer.commit(&events, &[]).expect("it is written");
    }
}
