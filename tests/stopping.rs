//! The ways out: what a hub that stops does with whoever is connected, and what signals do to the
//! program.

use crate::{
    cli::{Serving, busway},
    client::Client,
    guests::probe,
    hub::{TestHub, until, within},
    streams::Stream,
};
use serde_json::{Value, json};
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    process::Command,
};

/// None of them waits for the drain timeout, which is longer here than any test waits.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_that_goes_on_ends_in_order_when_the_hub_stops() {
    let hub = TestHub::with(|config| config.shutdown.drain_timeout_s = 3_600.try_into().unwrap()).await;
    hub.install("probe", probe(1), "").await;
    hub.publish("a", json!(1)).await;
    let mut streams = Vec::new();
    for path in [
        "/v1/events/stream",
        "/v1/events/stream?from=1",
        "/v1/events/stream?types=none",
        "/v1/events/stream?lastEventId=nonsense",
        "/v1/plugins/probe/calls",
    ] {
        streams.push((path, Stream::open(&hub, path, None).await));
    }
    let client = Client::connect(&hub, "?types=none").await;
    let mut unsubscribed = Client::connect(&hub, "").await;
    unsubscribed.ask(json!({"op": "unsubscribe"}), "subscribed").await;
    let mut asking = Client::connect(&hub, "?types=none").await;
    let ask = json!({"event": {"type": "ask"}, "reply_type": "never", "timeout_ms": 300_000});
    asking.say(json!({"op": "request", "event": {"type": "ask"}, "reply_type": "never", "timeout_ms": 300_000})).await;
    let request = hub.http.post(hub.url("/v1/request")).json(&ask).send();
    let request = tokio::spawn(async move { request.await.unwrap() });
    let clients = [client, unsubscribed, asking].map(|client| tokio::spawn(client.closed()));
    let _idle = TcpStream::connect(hub.addr()).await.unwrap();
    hub.events_of("ask", 2).await;
    // A call that has ended before is still told.
    hub.publish("probe.count", json!(null)).await;
    let counted = hub.events_of("probed.count", 1).await;

    assert!(hub.stop().await);
    let mut told = Vec::new();
    for (path, mut stream) in streams {
        while let Some(record) = stream.next().await {
            told.push((path, record));
        }
    }
    let of = |path: &str, event: &str| told.iter().any(|(other, record)| *other == path && record.event == event);
    assert!(of("/v1/plugins/probe/calls", "call"), "{told:?}");
    assert!(of("/v1/events/stream", "position"), "{told:?}");
    let last = told.iter().rfind(|(path, _)| *path == "/v1/events/stream?from=1").unwrap();
    let last: Value = serde_json::from_str(&last.1.data).unwrap();
    assert!(last["seq"].as_u64() >= counted[0]["seq"].as_u64(), "what was published before is told: {last}");
    for client in clients {
        assert_eq!(u16::from(client.await.unwrap().unwrap().code), 1001);
    }
    let refused = within(request).await.unwrap();
    assert_eq!(refused.status(), 503);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "publish.stopped");
}

async fn serving(dir: &Path) -> Serving {
    let args = ["serve", "--memory", "--listen", "127.0.0.1:0", "--plugins"];
    Serving::of(busway().args(args).arg(dir)).await
}

/// Reads what a hub says up to where it listens.
async fn listening(said: &mut tokio::io::Lines<BufReader<impl AsyncRead + Unpin>>) -> String {
    loop {
        let line = said.next_line().await.unwrap().expect("it listens");
        if let Some((_, rest)) = line.split_once("listening on http://") {
            return rest.split(',').next().unwrap().to_owned();
        }
    }
}

async fn is_well(address: &str) -> bool {
    let answer = within(reqwest::get(format!("http://{address}/healthz"))).await;
    answer.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_end_a_server_by_habit_end_it_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT", "QUIT"] {
        let mut serving = serving(dir.path()).await;
        serving.signal(signal).await;
        serving.until_said("finishing what is under way").await;
        assert!(within(serving.child.wait()).await.unwrap().success(), "SIG{signal} ends it with 0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_reload_a_server_by_habit_end_nothing_and_are_answered_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut serving = serving(dir.path()).await;
    for signal in ["HUP", "USR1", "USR2"] {
        serving.signal(signal).await;
        serving.until_said(&format!("SIG{signal} changes nothing")).await;
        assert!(is_well(&serving.address).await, "SIG{signal}");
    }
    serving.signal("PIPE").await;
    // Heard after it, so that has been heard as well.
    serving.signal("USR1").await;
    serving.until_said("SIGUSR1 changes nothing").await;
    assert!(is_well(&serving.address).await, "SIGPIPE");
    serving.signal("TERM").await;
    assert!(within(serving.child.wait()).await.unwrap().success());
}

/// As in `busway serve 2>&1 | head -1`.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_outlives_whoever_read_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["serve", "--memory", "--listen", "127.0.0.1:0", "--plugins"];
    let mut child = busway().args(args).arg(dir.path()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = within(listening(&mut said)).await;
    drop((said, child.stdout.take()));
    // What is no plugin is told in the log.
    std::fs::write(dir.path().join("bad.wasm"), "no component").unwrap();
    let http = reqwest::Client::new();
    let refused = async {
        loop {
            let list = http.get(format!("http://{address}/v1/plugins")).send().await.unwrap();
            if list.text().await.unwrap().contains("bad") {
                return;
            }
        }
    };
    within(refused).await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap().success());
    assert!(within(child.wait()).await.unwrap().success(), "it ends in order");
}

/// The terminal is Python's: when it ends, the system tells whoever runs on it with SIGHUP.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_on_a_terminal_that_is_closed_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let program = busway();
    let mut terminal = Command::new("python3");
    terminal
        .args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"])
        .arg(program.as_std().get_program())
        .args(["serve", "--listen", "127.0.0.1:0", "--plugins", "plugins", "--data", "data"])
        .current_dir(dir.path())
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let Ok(mut terminal) = terminal.spawn() else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI has python3");
        return println!("left out: python3 is not installed");
    };
    let mut said = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let address = within(listening(&mut said)).await;
    assert!(is_well(&address).await);
    terminal.kill().await.unwrap();
    within(async { while TcpStream::connect(&address).await.is_ok() {} }).await;
    let journal = || {
        let info = ["journal", "info", "--json", "--data"];
        let output =
            std::process::Command::new(program.as_std().get_program()).args(info).arg(dir.path().join("data")).output();
        serde_json::from_slice(&output.unwrap().stdout).unwrap_or(Value::Null)
    };
    until(|| journal()["closed_cleanly"] == true).await;
}

/// What holds up the first one is a stream that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once_and_the_exit_code_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let large = json!({"type": "a", "data": "x".repeat(900_000)});
    for (signal, code) in [("TERM", 143), ("INT", 130), ("QUIT", 131)] {
        let mut serving = serving(dir.path()).await;
        let http = reqwest::Client::new();
        for _ in 0..30 {
            let published =
                http.post(format!("http://{}/v1/events", serving.address)).json(&large).send().await.unwrap();
            assert_eq!(published.status(), 200);
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut stuck = socket.connect(serving.address.parse().unwrap()).await.unwrap();
        stuck.write_all(b"GET /v1/events/stream?from=1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.unwrap();
        let open = async {
            let stats = http.get(format!("http://{}/metrics", serving.address)).send().await.unwrap();
            stats.text().await.unwrap().contains("busway_sse_connections 1")
        };
        assert!(stuck.peek(&mut [0; 16]).await.unwrap() > 0 && within(open).await);
        serving.signal("TERM").await;
        serving.until_said("finishing what is under way").await;
        serving.signal(signal).await;
        assert_eq!(within(serving.child.wait()).await.unwrap().code(), Some(code), "SIG{signal}");
    }
}
