//! What a stuck client does to its neighbours: how long events take to healthy clients, with nobody beside them and with one
//! that has subscribed to everything and never reads. Rounds of either kind take turns, on one server.

use crate::{
    clients::{Http, PATIENCE, Swarm, message, websocket},
    fanout::event_json,
    process::Server,
    report::Report,
    sample::{median, quantile},
};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

const HEALTHY: usize = 50;
/// Of each kind.
const ROUNDS: usize = 15;
/// 5,000 events a second, ten at a time, for two seconds.
const BATCH: usize = 10;
const EVERY: Duration = Duration::from_millis(2);
const BATCHES: usize = 1_000;
/// More than a connection's two socket buffers hold at their largest; nobody but the stuck client wants it.
const FILL: usize = 12 << 20;
const FILL_EVENT: usize = 60 << 10;

/// Microseconds from the publisher's hand to the client's.
struct Latency {
    p50: f64,
    p99: f64,
}

pub(crate) fn run(report: &mut Report) {
    let server = Server::start(|_| ());
    let mut healthy = Swarm::connect(server.addr, "/ws/events?types=task.*", HEALTHY, &[]);
    assert!(healthy.read_until(HEALTHY as u64, Swarm::frames), "each is welcomed");
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for number in 0..=ROUNDS {
        // Each kind goes first in turn: what the round before leaves behind hits both.
        for stuck in [number % 2 == 0, number % 2 != 0] {
            let latency = round(server.addr, &mut healthy, stuck);
            // The first ones are for warming up.
            if number > 0 {
                if stuck { beside.push(latency) } else { alone.push(latency) }
            }
        }
    }
    let mut http = Http::connect(server.addr);
    assert_eq!(http.get("/v1/stats")["events_missed"], 0, "events were missed");
    assert_eq!(metric(&mut http, "busway_websocket_lagged_total"), 0, "nobody was told of a gap");
    for (what, of) in [("p50", (|latency| latency.p50) as fn(&Latency) -> f64), ("p99", |latency| latency.p99)] {
        let mut ratios: Vec<f64> = alone.iter().zip(&beside).map(|(alone, beside)| of(beside) / of(alone)).collect();
        let [alone, beside] = [&alone, &beside].map(|rounds| median(&mut rounds.iter().map(of).collect::<Vec<_>>()));
        let figures = format!("{beside:.0} µs, without it {alone:.0} µs: {:.2} ×", median(&mut ratios));
        report.text(
            &format!("delivery to 50 clients beside a stuck one, 5,000 events/s, {what}"),
            "(no target)",
            &figures,
        );
    }
}

/// The same clock, to one client that has nothing in its way.
pub(crate) fn live(report: &mut Report) {
    let server = Server::start(|_| ());
    let mut client = Swarm::connect(server.addr, "/ws/events?types=task.*", 1, &[]);
    assert!(client.read_until(1, Swarm::frames), "it is welcomed");
    let mut rounds: Vec<Latency> = (0..=ROUNDS).map(|_| measure(server.addr, &mut client)).skip(1).collect();
    for (what, target, of) in [
        ("p50", "≤ 300 µs", (|latency| latency.p50) as fn(&Latency) -> f64),
        ("p99", "≤ 2,000 µs", |latency| latency.p99),
    ] {
        let value = median(&mut rounds.iter_mut().map(|latency| of(latency)).collect::<Vec<_>>());
        report.row(&format!("live: publish → WebSocket in memory, 5,000 events/s, {what}"), target, value, "µs");
    }
}

fn round(addr: SocketAddr, healthy: &mut Swarm, stuck: bool) -> Latency {
    let mut http = Http::connect(addr);
    let client = stuck.then(|| {
        let mut client = websocket(addr, "/ws/events");
        message(&mut client);
        client
    });
    fill(&mut http);
    if stuck {
        let before = metric(&mut http, "busway_websocket_bytes_total");
        let last = http.post("/v1/events", r#"{"type":"fill.last","data":null}"#);
        http.send(&last);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(metric(&mut http, "busway_websocket_bytes_total"), before, "it takes nothing any more");
    } else {
        thread::sleep(Duration::from_millis(300));
    }
    let latency = measure(addr, healthy);
    let open = HEALTHY as u64 + u64::from(stuck);
    assert_eq!(metric(&mut http, "busway_websocket_connections"), open, "it was stuck to the end");
    assert_eq!(metric(&mut http, "busway_websocket_slow_total"), 0, "it was stuck to the end");
    drop(client);
    let deadline = Instant::now() + PATIENCE;
    while metric(&mut http, "busway_websocket_connections") > HEALTHY as u64 {
        assert!(Instant::now() < deadline, "the stuck client's connection does not end");
        thread::sleep(Duration::from_millis(20));
    }
    latency
}

/// In both kinds of round, so that the log has seen the same.
fn fill(http: &mut Http) {
    let request = http.post("/v1/events", &format!(r#"{{"type":"fill.more","data":"{}"}}"#, "x".repeat(FILL_EVENT)));
    for _ in 0..FILL / FILL_EVENT {
        http.send(&request);
    }
}

/// Every event that each of them gets, timed on its arrival: a view is in the publisher's order, so that a client's nth frame
/// is the nth event.
fn measure(addr: SocketAddr, healthy: &mut Swarm) -> Latency {
    let sent: Arc<Vec<OnceLock<Instant>>> = Arc::new((0..BATCHES).map(|_| OnceLock::new()).collect());
    let events = BATCHES * BATCH;
    let first = healthy.counters[0].frames;
    assert!(healthy.counters.iter().all(|counter| counter.frames == first), "they are all at the same event");
    let mut times = Vec::with_capacity(events * healthy.counters.len());
    let publisher = thread::spawn({
        let sent = sent.clone();
        move || publish(addr, &sent)
    });
    let target = healthy.frames() + (events * healthy.counters.len()) as u64;
    let whole = healthy.follow(target, |frames, now| {
        for frame in frames {
            let sent = sent[(frame - first) as usize / BATCH].get().expect("sent before it came");
            times.push((now - *sent).as_secs_f64() * 1e6);
        }
    });
    assert!(whole, "{} of {target} within {PATIENCE:?}", healthy.frames());
    publisher.join().expect("no panic");
    let all = first + events as u64;
    assert!(healthy.counters.iter().all(|counter| counter.frames == all), "each has them all, and none twice");
    Latency { p50: quantile(&mut times, 0.5), p99: quantile(&mut times, 0.99) }
}

fn publish(addr: SocketAddr, sent: &[OnceLock<Instant>]) {
    let mut http = Http::connect(addr);
    let request = http.post("/v1/events", &format!("[{}]", vec![event_json("task.created"); BATCH].join(",")));
    let began = Instant::now();
    for (index, sent) in sent.iter().enumerate() {
        thread::sleep((EVERY * index as u32).saturating_sub(began.elapsed()));
        sent.get_or_init(Instant::now);
        http.send(&request);
    }
}

/// One of the hub's own counters.
fn metric(http: &mut Http, name: &str) -> u64 {
    let text = http.text("/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not a number"))
}
