//! A new version: from the moment its file is renamed into place to the answer of the first call of it, events being published
//! and handled meanwhile. Cold: bytes never seen before. Compiled before: bytes that were active earlier.

use crate::{
    clients::{Http, message, websocket},
    guests::guest,
    process::Server,
    report::Report,
    sample::median,
};
use serde_json::Value;
use std::{
    fs,
    io::BufReader,
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

const VERSIONS: u32 = 8;
const MARK: &[u8] = b"probe-version-00000000";
const MANIFEST: &str = "isolation = \"reuse\"\n[grants]\npublish = [\"*\"]\nkv = true\nconfig = [\"*\"]\n";

pub(crate) fn run(report: &mut Report) {
    let probe = guest("probe");
    let server = Server::start(|dir| {
        fs::write(dir.join("probe.toml"), MANIFEST).expect("a file");
        fs::write(dir.join("probe.wasm"), version(&probe, 0)).expect("a file");
    });
    let mut client = websocket(server.addr, "/ws/events?types=probed.echo,plugin.*");
    message(&mut client);
    let mut http = Http::connect(server.addr);
    let request = http.post("/v1/events", r#"{"type":"probe.echo","data":1}"#);
    let mut first_call = |number| {
        let began = replace(server.dir.path(), &version(&probe, number));
        wait(&mut client, |event| {
            assert_ne!(event["type"], "plugin.failed", "{event}");
            event["type"] == "plugin.activated"
        });
        // A call as soon as there is something new to call.
        http.send(&request);
        wait(&mut client, |event| event["type"] == "probed.echo" && event["data"]["version"] == number);
        // The next one is to be found by itself, not along with this one.
        let time = began.elapsed().as_secs_f64() * 1e3;
        std::thread::sleep(Duration::from_millis(150));
        time
    };
    let mut cold: Vec<f64> = (1..=VERSIONS).map(&mut first_call).collect();
    let mut known: Vec<f64> = (1..=VERSIONS).map(&mut first_call).collect();
    for (what, target, times) in [
        ("reload to first call, never compiled", "≤ 400 ms", &mut cold),
        ("reload to first call, compiled before", "≤ 150 ms", &mut known),
    ] {
        let figures = format!("{:.0} ms, longest {:.0} ms", median(times), times[times.len() - 1]);
        report.text(what, target, &figures);
    }
}

/// The probe with another number in it.
fn version(probe: &[u8], number: u32) -> Vec<u8> {
    let at = probe.windows(MARK.len()).position(|window| window == MARK).expect("the mark is in the probe");
    let mut bytes = probe.to_vec();
    bytes[at + MARK.len() - 8..at + MARK.len()].copy_from_slice(format!("{number:08}").as_bytes());
    bytes
}

fn replace(dir: &Path, bytes: &[u8]) -> Instant {
    let aside = dir.join(".probe.new");
    fs::write(&aside, bytes).expect("a file");
    let began = Instant::now();
    fs::rename(aside, dir.join("probe.wasm")).expect("a file");
    began
}

fn wait(client: &mut BufReader<TcpStream>, is_it: impl Fn(&Value) -> bool) {
    while !is_it(&serde_json::from_slice(&message(client)).expect("JSON")) {}
}
