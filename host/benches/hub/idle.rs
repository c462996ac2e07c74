//! What an idle WebSocket connection holds: memory of the server with thousands of them, less that without, divided.

use crate::{
    clients::{Http, Swarm},
    process::Process,
    process::Server,
    report::Report,
};
use std::{net::SocketAddr, time::Duration};

pub(crate) const CONNECTIONS: usize = 5_000;
/// For what the server does once: its first connections, caches, pools.
const WARM: usize = 50;

pub(crate) fn run(report: &mut Report) {
    let server = Server::start(|_| ());
    // They want no events: else each would be told of each other one's arrival.
    let (bytes, swarm) = per_connection(&server.process, server.addr, "/ws/events?types=none", &[]);
    // None of them was dropped meanwhile.
    assert_eq!(Http::connect(server.addr).get("/v1/stats")["websocket_connections"], CONNECTIONS as u64);
    drop(swarm);
    report.row("memory of an idle WebSocket connection, of 5,000", "≤ 12 KB", bytes / 1e3, "KB");
}

pub(crate) fn per_connection(process: &Process, addr: SocketAddr, path: &str, hello: &[u8]) -> (f64, Swarm) {
    let mut warm = Swarm::connect(addr, path, WARM, hello);
    warm.read_for(Duration::from_millis(200));
    drop(warm);
    std::thread::sleep(Duration::from_millis(500));
    let before = process.memory();
    let mut swarm = Swarm::connect(addr, path, CONNECTIONS, hello);
    swarm.read_for(Duration::from_secs(1));
    let after = process.memory();
    ((after - before) as f64 / CONNECTIONS as f64, swarm)
}
