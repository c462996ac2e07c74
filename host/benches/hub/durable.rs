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
    io::{Seek, Write},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long each publishing round goes on.
const ROUND: Duration = Duration::from_secs(8);
/// How long, and how often, the hub and the bare disk are measured in turns.
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 9;
/// The file that the bare baseline writes around in, as a log written ahead is.
const AROUND: u64 = 64 << 20;
/// Events of the journal that is read back.
const EVENTS: u64 = 1_000_000;

pub(crate) fn publish(report: &mut Report) {
    for (sync, batch, connections, target) in
        [("full", 100, 8, 50_000), ("full", 1, 64, 8_000), ("normal", 100, 8, 100_000)]
    {
        let what = format!("durable publish, sync = {sync}, arrays of {batch} on {connections} connections");
        let server = Server::keeping(sync, |_| ());
        let (events, _) = load(server.addr, batch, connections, None, ROUND);
        let rate = events as f64 / ROUND.as_secs_f64();
        report.text(&what, &format!("≥ {target} events/s"), &format!("{rate:.0} events/s"));
        let what = format!("the same at {target} events/s: acknowledgement, and the bare sync, p50 / p99");
        let goal = if sync == "full" { "p99 ≤ 3 × fdatasync" } else { "" };
        report.text(&what, goal, &beside_bare(&server, batch, connections, target));
    }
}

/// How long an acknowledgement takes at a rate that is not the most that a hub can do, which would say little, beside what the
/// disk takes by itself. A shared disk stalls for a moment now and then, so the two take turns, and what is given is the median
/// of the turns.
fn beside_bare(server: &Server, batch: usize, connections: usize, rate: usize) -> String {
    let [mut hub50, mut hub99, mut bare50, mut bare99, mut ratios] = <[Vec<f64>; 5]>::default();
    for _ in 0..TURNS {
        let mut bare = bare_syncs(server.dir.path(), batch, connections, rate);
        let (_, mut hub) = load(server.addr, batch, connections, Some(rate), TURN);
        hub50.push(quantile(&mut hub, 0.5));
        hub99.push(quantile(&mut hub, 0.99));
        bare50.push(quantile(&mut bare, 0.5));
        bare99.push(quantile(&mut bare, 0.99));
        ratios.push(quantile(&mut hub, 0.99) / quantile(&mut bare, 0.99));
    }
    let [hub50, hub99, bare50, bare99, ratio] =
        [hub50, hub99, bare50, bare99, ratios].map(|mut each| quantile(&mut each, 0.5));
    format!("{hub50:.2} / {hub99:.2} ms; {bare50:.2} / {bare99:.2} ms: p99 {ratio:.1} ×")
}

/// What the disk alone takes under the same load: so many events a second are written and synced by hand, as many at once as
/// come at once, in whole pages. Milliseconds of each, counted from when it was to be written.
fn bare_syncs(dir: &Path, batch: usize, connections: usize, rate: usize) -> Vec<f64> {
    // Singles of many connections come together, as they do in a hub: one write for all that are due.
    let at_once = if batch == 1 { connections / 8 } else { batch };
    let bytes = vec![7; (at_once * 512).next_multiple_of(4_096)];
    let mut file = File::create(dir.join("bare")).expect("a file");
    file.write_all(&vec![0; AROUND as usize]).and_then(|()| file.sync_all()).expect("a disk");
    let every = Duration::from_secs_f64(at_once as f64 / rate as f64);
    let (begun, mut times, mut due) = (Instant::now(), Vec::new(), Instant::now());
    while begun.elapsed() < TURN {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if file.stream_position().expect("a position") + bytes.len() as u64 > AROUND {
            file.rewind().expect("it is a file");
        }
        file.write_all(&bytes).and_then(|()| file.sync_data()).expect("a disk");
        times.push(due.elapsed().as_secs_f64() * 1e3);
        due += every;
    }
    times
}

/// Publishes for a while on many connections at once, as fast as it goes or so many events a second in sum; gives the events
/// acknowledged and the milliseconds of each request, counted from when it was to be sent.
fn load(addr: SocketAddr, batch: usize, connections: usize, rate: Option<usize>, round: Duration) -> (usize, Vec<f64>) {
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
        while begun.elapsed() < round {
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
