//! The whole way: an event is published, a handler (`redact`, reused instances) emits another, a filter (`urgent-only`) looks
//! at that for a view, and one WebSocket client gets it.

use crate::{
    clients::{Http, masked, message, websocket},
    guests::guest,
    process::Server,
    report::Report,
    sample::quantile,
};
use serde_json::Value;
use std::{
    fs,
    io::{BufReader, Write},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const TIMES: usize = 3_000;
const WARM: usize = 300;
const EVENTS: usize = 50_000;
const BATCH: usize = 50;
/// On their way at once, so that nobody falls out of the log.
const WINDOW: usize = 2_000;
const VIEW: &str = "/ws/events?types=log.entry.redacted&filter=urgent-only";

pub(crate) fn run(report: &mut Report) {
    let server = Server::start(install);
    let mut client = websocket(server.addr, VIEW);
    message(&mut client);
    over_http(report, &server, &mut client);
    over_websocket(report, &server, &mut client);
    throughput(report, &server, &mut client);
    let mut http = Http::connect(server.addr);
    for plugin in ["redact", "urgent-only"] {
        let status = http.get(&format!("/v1/plugins/{plugin}"));
        let time = find(&status, "time_us").expect("a plugin has its times");
        let figures = format!("p50 {} µs, p99 {} µs, fuel p50 {}", time["p50"], time["p99"], fuel(&status));
        report.text(&format!("  of which a call of {plugin}, by its statistics"), "", &figures);
    }
    let stats = http.get("/v1/stats");
    assert_eq!((&stats["events_missed"], &stats["handler_errors"]), (&0.into(), &0.into()), "{stats}");
}

fn install(dir: &Path) {
    fs::write(dir.join("urgent-only.wasm"), guest("urgent-only")).expect("a file");
    fs::write(dir.join("urgent-only.toml"), "isolation = \"reuse\"\n").expect("a file");
    fs::write(dir.join("redact.wasm"), guest("redact")).expect("a file");
    let manifest = "isolation = \"reuse\"\n[grants]\npublish = [\"*.redacted\"]\n[limits]\nemit_rate = 1_000_000\n";
    fs::write(dir.join("redact.toml"), manifest).expect("a file");
}

/// Finds a member of that name at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| object.values().find_map(|inner| find(inner, name)))
}

fn fuel(status: &Value) -> &Value {
    find(status, "fuel").filter(|fuel| fuel["p50"].is_number()).map_or(&Value::Null, |fuel| &fuel["p50"])
}

fn event() -> String {
    crate::fanout::event_json("log.entry")
}

fn latency(report: &mut Report, how: &str, mut once: impl FnMut() -> f64) {
    let mut times: Vec<f64> = (0..WARM + TIMES).map(|_| once()).skip(WARM).collect();
    let (p50, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    let figures = format!("p50 {p50:.0} µs, p99 {p99:.0} µs");
    report.text(&format!("publish ({how}) → handler → filter → client"), "(no target)", &figures);
}

fn over_http(report: &mut Report, server: &Server, client: &mut BufReader<TcpStream>) {
    let mut http = Http::connect(server.addr);
    let request = http.post("/v1/events", &event());
    let mut acknowledged = Vec::new();
    latency(report, "HTTP", || {
        let began = Instant::now();
        http.send(&request);
        acknowledged.push(began.elapsed().as_secs_f64() * 1e6);
        message(client);
        began.elapsed().as_secs_f64() * 1e6
    });
    let p50 = quantile(&mut acknowledged, 0.5);
    report.row("  of which until the publisher has its answer, p50", "", p50, "µs");
}

fn over_websocket(report: &mut Report, server: &Server, client: &mut BufReader<TcpStream>) {
    let mut publisher = websocket(server.addr, "/ws/events?types=none");
    message(&mut publisher);
    let frame = masked(format!(r#"{{"op":"publish","event":{}}}"#, event()).as_bytes());
    latency(report, "WebSocket", || {
        let began = Instant::now();
        publisher.get_mut().write_all(&frame).expect("it reads");
        message(client);
        let time = began.elapsed().as_secs_f64() * 1e6;
        message(&mut publisher);
        time
    });
}

fn throughput(report: &mut Report, server: &Server, client: &mut BufReader<TcpStream>) {
    let (arrived, arrivals) = std::sync::mpsc::sync_channel(EVENTS);
    let addr = server.addr;
    let (cpu, began) = (server.process.cpu(), Instant::now());
    let publisher = thread::spawn(move || {
        let mut http = Http::connect(addr);
        let request = http.post("/v1/events", &format!("[{}]", vec![event(); BATCH].join(",")));
        let mut under_way = 0;
        for _ in 0..EVENTS / BATCH {
            http.send(&request);
            under_way += BATCH;
            while under_way > WINDOW {
                arrivals.recv().expect("the client reads");
                under_way -= 1;
            }
            under_way -= arrivals.try_iter().count();
        }
        // Kept until the client has read the last one.
        while under_way > 0 && arrivals.recv_timeout(Duration::from_secs(20)).is_ok() {
            under_way -= 1;
        }
    });
    for _ in 0..EVENTS {
        message(client);
        arrived.send(()).expect("the publisher waits");
    }
    let time = began.elapsed();
    publisher.join().expect("no panic");
    let cpu = (server.process.cpu() - cpu).as_secs_f64() * 1e6 / EVENTS as f64;
    let rate = EVENTS as f64 / time.as_secs_f64() / 1e3;
    report.text("the same, arrays of 50", "(no target)", &format!("{rate:.1} k events/s, {cpu:.1} µs server CPU each"));
}
