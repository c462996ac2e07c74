//! One event to many: published over HTTP, delivered to WebSocket clients. Every delivery is counted on the client's side; the
//! CPU time is the server's.

use crate::{
    clients::{Http, PATIENCE, Swarm},
    process::{Process, Server},
    report::Report,
    sample::{self, median},
};
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

pub(crate) const CLIENTS: usize = 200;
pub(crate) const EVENTS: usize = 5_000;
pub(crate) const BATCH: usize = 50;
/// One by one.
pub(crate) const RATE: u32 = 500;
pub(crate) const SINGLE: u32 = 1_500;
pub(crate) const ROUNDS: usize = 7;

/// What one server did with one load.
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu_us: f64,
}

/// Runs `publish` on a thread of its own while `swarm` reads until `count` has grown by `growth`.
pub(crate) fn round(
    process: &Process,
    swarm: &mut Swarm,
    (growth, count): (u64, fn(&Swarm) -> u64),
    publish: impl FnOnce() + Send + 'static,
) -> Figures {
    let deliveries = (CLIENTS * EVENTS) as f64;
    let target = count(swarm) + growth;
    let before = process.cpu();
    let began = Instant::now();
    let publisher = thread::spawn(publish);
    assert!(swarm.read_until(target, count), "{} of {target} within {PATIENCE:?}", count(swarm));
    let time = began.elapsed();
    publisher.join().expect("no panic");
    let cpu = process.cpu() - before;
    Figures { per_second: deliveries / time.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / deliveries }
}

/// Median of the rates; the CPU of all rounds together, since one round is only some ticks of the clock.
pub(crate) fn together(rounds: &[Figures]) -> Figures {
    let mut rates: Vec<f64> = rounds.iter().map(|round| round.per_second).collect();
    let cpu = rounds.iter().map(|round| round.cpu_us).sum::<f64>() / rounds.len() as f64;
    Figures { per_second: median(&mut rates), cpu_us: cpu }
}

/// Calls `send` at a steady rate.
pub(crate) fn at_rate(mut send: impl FnMut()) {
    let began = Instant::now();
    for index in 1..=SINGLE {
        send();
        thread::sleep((Duration::from_secs(1) * index / RATE).saturating_sub(began.elapsed()));
    }
}

pub(crate) fn run(report: &mut Report) {
    let server = Server::start(|_| ());
    let mut swarm = Swarm::connect(server.addr, "/ws/events?types=task.*", CLIENTS, &[]);
    assert!(swarm.read_until(CLIENTS as u64, Swarm::frames), "each is welcomed");
    let batches = batched(&server, &mut swarm, BATCH);
    report.row("fan-out to 200 clients, arrays of 50: deliveries", "≥ 1.0 M/s", batches.per_second / 1e6, "M/s");
    report.row("the same: server CPU a delivery", "≤ 0.5 µs", batches.cpu_us, "µs");
    let single = one_by_one(&server, &mut swarm);
    report.row("500 events/s one by one to 200 clients: server CPU a delivery", "(no target)", single, "µs");
    let missed = Http::connect(server.addr).get("/v1/stats")["events_missed"].clone();
    assert_eq!(missed, 0, "events were missed");
}

fn batched(server: &Server, swarm: &mut Swarm, batch: usize) -> Figures {
    let addr = server.addr;
    let deliveries = (CLIENTS * EVENTS) as u64;
    let rounds: Vec<Figures> = (0..=ROUNDS)
        .map(|_| round(&server.process, swarm, (deliveries, Swarm::frames), move || publish(addr, batch)))
        // The first one is for warming up.
        .skip(1)
        .collect();
    together(&rounds)
}

fn publish(addr: SocketAddr, batch: usize) {
    let mut http = Http::connect(addr);
    let event = event_json("task.created");
    let request = http.post("/v1/events", &format!("[{}]", vec![event; batch].join(",")));
    for _ in 0..EVENTS / batch {
        http.send(&request);
    }
}

fn one_by_one(server: &Server, swarm: &mut Swarm) -> f64 {
    let addr = server.addr;
    let deliveries = CLIENTS as u64 * u64::from(SINGLE);
    let target = swarm.frames() + deliveries;
    let before = server.process.cpu();
    let publisher = thread::spawn(move || {
        let mut http = Http::connect(addr);
        let request = http.post("/v1/events", &event_json("task.created"));
        at_rate(|| drop(http.send(&request)));
    });
    assert!(swarm.read_until(target, Swarm::frames), "all come");
    publisher.join().expect("no panic");
    (server.process.cpu() - before).as_secs_f64() * 1e6 / deliveries as f64
}

/// The event as a publisher writes it.
pub(crate) fn event_json(event_type: &str) -> String {
    let data = sample::data();
    format!(r#"{{"type":"{event_type}","data":{data},"metadata":{{"source":"executor-1","tags":["urgent"]}}}}"#)
}
