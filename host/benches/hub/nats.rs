//! The same loads against nats-server's WebSocket (of the path, or of `NATS_SERVER`), if there is one: what a message bus without
//! plugins, schemas and resume takes. Its messages carry the bare 256 bytes; ours the whole event.

use crate::{
    clients::{PATIENCE, Swarm, masked},
    fanout::{self, BATCH, CLIENTS, EVENTS, Figures, ROUNDS, SINGLE, at_rate},
    idle,
    process::Process,
    report::Report,
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

struct Nats {
    process: Process,
    plain: SocketAddr,
    websocket: SocketAddr,
    _dir: TempDir,
}

pub(crate) fn run(report: &mut Report) {
    let Some(nats) = Nats::start() else {
        println!("no nats-server here (set NATS_SERVER to its path): its figures are left out");
        return;
    };
    let hello = hello();
    let mut swarm = Swarm::connect(nats.websocket, "/", CLIENTS, &hello);
    swarm.read_for(Duration::from_millis(500));
    let (addr, delivered) = (nats.plain, (CLIENTS * EVENTS * message_bytes()) as u64);
    let rounds: Vec<Figures> = (0..=ROUNDS)
        .map(|_| fanout::round(&nats.process, &mut swarm, (delivered, Swarm::payload), move || publish(addr)))
        .skip(1)
        .collect();
    let batches = fanout::together(&rounds);
    report.row("nats-server: fan-out to 200 clients, arrays of 50: deliveries", "", batches.per_second / 1e6, "M/s");
    report.row("nats-server: the same: server CPU a delivery", "", batches.cpu_us, "µs");
    let target = swarm.payload() + (CLIENTS * message_bytes()) as u64 * u64::from(SINGLE);
    let before = nats.process.cpu();
    let publisher = std::thread::spawn(move || {
        let mut plain = Plain::connect(addr);
        at_rate(|| plain.publish(1));
    });
    assert!(swarm.read_until(target, Swarm::payload), "all come within {PATIENCE:?}");
    publisher.join().expect("no panic");
    let single = (nats.process.cpu() - before).as_secs_f64() * 1e6 / (CLIENTS as f64 * f64::from(SINGLE));
    report.row("nats-server: 500 events/s one by one to 200 clients: server CPU a delivery", "", single, "µs");
    drop(swarm);
    let (bytes, _swarm) = idle::per_connection(&nats.process, nats.websocket, "/", &hello);
    report.row("nats-server: memory of an idle WebSocket connection, of 5,000", "", bytes / 1e3, "KB");
}

/// What a client says first: in one message, as browsers' clients do.
fn hello() -> Vec<u8> {
    masked(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB e 1\r\nPING\r\n")
}

/// What a client gets for each event: a line, the payload, a line end.
fn message_bytes() -> usize {
    "MSG e 1 256\r\n".len() + 256 + 2
}

fn publish(addr: SocketAddr) {
    let mut plain = Plain::connect(addr);
    for _ in 0..EVENTS / BATCH {
        plain.publish(BATCH);
    }
}

/// A publisher over plain TCP, the protocol's leanest way.
struct Plain(BufReader<TcpStream>);

impl Plain {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let mut plain = Self(BufReader::new(stream));
        plain.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
        plain
    }

    fn publish(&mut self, events: usize) {
        let event = format!("PUB e 256\r\n{}\r\n", "x".repeat(256));
        self.send(&[event.repeat(events).as_bytes(), b"PING\r\n"].concat());
    }

    /// Sends, and waits for the pong: then the server has taken it all.
    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("it reads");
        let mut line = String::new();
        while !line.starts_with("PONG") {
            line.clear();
            assert!(self.0.read_line(&mut line).expect("it answers") > 0, "it hung up");
        }
    }
}

impl Nats {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let [plain, websocket] = [free(), free()];
        let config = format!(
            "listen: \"{plain}\"\nmax_connections: 20000\nwebsocket {{ listen: \"{websocket}\", no_tls: true }}\n"
        );
        let file = dir.path().join("nats.conf");
        fs::write(&file, config).expect("a file");
        let server = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let mut command = Command::new(server);
        command.arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process::new(command.spawn().ok()?);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(websocket).is_err() {
            assert!(Instant::now() < deadline, "nats-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, plain, websocket, _dir: dir })
    }
}

/// An address that nobody listens on.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}
