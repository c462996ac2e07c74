//! The program as an operator runs it: a real process, real pipes, real signals.

use crate::{
    client::Client,
    guests::{guest, probe},
    hub::{TestHub, within},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

pub fn busway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busway-under-test"));
    command
        .kill_on_drop(true)
        .env_remove("RUST_LOG")
        // Not that of whoever runs the tests.
        .env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("caches"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command against a hub to its end.
pub async fn run(hub: &TestHub, args: &[&str], input: &str) -> Output {
    let mut child = busway().args(["--url", &hub.url("")]).args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async {
        // A program that ends early does not read everything.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let (output, ()) = within(async { tokio::join!(child.wait_with_output(), write) }).await;
    output.unwrap()
}

pub fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub struct Serving {
    pub child: Child,
    pub address: String,
    said: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

impl Serving {
    async fn start(dir: &Path, args: &[&str]) -> Self {
        let args = [&["serve", "--memory", "--listen", "127.0.0.1:0"], args].concat();
        Self::of(busway().args(args).arg("--plugins").arg(dir)).await
    }

    /// Waits until it listens.
    pub async fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut serving = Self { child, address: String::new(), said };
        let line = serving.until_said("listening on http://").await;
        serving.address = line.split("http://").nth(1).unwrap().split(',').next().unwrap().to_owned();
        serving
    }

    pub async fn until_said(&mut self, text: &str) -> String {
        self.all_until_said(text).await.pop().unwrap()
    }

    /// The lines up to the one with `text` in it.
    pub async fn all_until_said(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        within(async {
            while lines.last().is_none_or(|line: &String| !line.contains(text)) {
                lines.push(self.said.next_line().await.unwrap().expect("it has not ended"));
            }
        })
        .await;
        lines
    }

    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_needs_no_configuration_and_drains_when_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let mut serving = Serving::start(&dir.path().join("made/if/missing"), &[]).await;
        let (mut socket, _) =
            within(tokio_tungstenite::connect_async(format!("ws://{}/ws/events?types=a", serving.address)))
                .await
                .unwrap();
        let http = crate::hub::http_client();
        let url = format!("http://{}/v1/events", serving.address);
        let response = http.post(url).json(&json!({"type": "a"})).send().await.unwrap();
        assert_eq!(response.status(), 200);
        serving.signal(signal).await;
        assert!(within(serving.child.wait()).await.unwrap().success(), "it ends with 0");
        let mut client_saw = Vec::new();
        while let Some(Ok(message)) = within(futures_util::StreamExt::next(&mut socket)).await {
            client_saw.push(message.to_string());
        }
        assert!(client_saw.iter().any(|text| text.contains(r#""type":"a""#)), "{client_saw:?}");
        assert!(client_saw.last().unwrap().contains("going-away"), "{client_saw:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_of_json_lines_is_published_in_order_and_tail_gives_it_back_unchanged() {
    let hub = TestHub::start().await;
    let input: String = (0..5_000)
        .map(|index| format!("{{\"type\":\"line\",\"data\":{{\"n\":{index},\"t\":\"ü 1.10\"}}}}\n"))
        .collect();
    let output = run(&hub, &["publish", "-"], &input).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let output = run(&hub, &["tail", "--types", "line", "--from", "earliest", "--limit", "5000", "--json"], "").await;
    let data: Vec<Value> = lines(&output).into_iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, (0..5_000).map(|index| json!({"n": index, "t": "ü 1.10"})).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn any_json_becomes_the_data_of_an_event_of_a_given_type() {
    let hub = TestHub::start().await;
    let output = run(&hub, &["publish", "--type", "cargo.message", "-"], "{\"reason\":\"a\"}\n[1]\n\"text\"\n").await;
    assert!(output.status.success(), "{}", stderr(&output));
    let data: Vec<Value> = hub.events_of("cargo.message", 3).await.iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, [json!({"reason": "a"}), json!([1]), json!("text")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_is_named_and_the_good_ones_before_it_are_published() {
    let hub = TestHub::start().await;
    let output = run(&hub, &["publish", "-"], "{\"type\":\"a\"}\n{\"type\":\"\"}\n{\"type\":\"c\"}\n").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("line 2") && stderr(&output).contains("event.type"), "{}", stderr(&output));
    let output = run(&hub, &["publish", "--skip-invalid", "-"], "nonsense\n{\"type\":\"d\"}\n").await;
    assert!(output.status.success(), "{}", stderr(&output));
    let types: Vec<Value> = hub.events().await.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["a", "d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_prints_its_reply_and_a_timeout_has_its_own_exit_code() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let output = run(&hub, &["request", "--type", "probe.echo", "--data", "7", "--reply-type", "probed.*"], "").await;
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("probed.echo"), "{output:?}");
    let output = run(&hub, &["request", "--type", "x", "--reply-type", "y", "--timeout", "50ms"], "").await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_are_shown_and_steered() {
    let hub = TestHub::start().await;
    hub.install("probe", probe(1), "").await;
    let show = async |args: &[&str]| serde_json::from_slice::<Value>(&run(&hub, args, "").await.stdout).unwrap();
    assert_eq!(show(&["plugin", "list"]).await["plugins"][0]["name"], "probe");
    assert_eq!(show(&["plugin", "disable", "probe"]).await["state"], "disabled");
    assert_eq!(show(&["plugin", "enable", "probe"]).await["state"], "active");
    assert_eq!(show(&["plugin", "reload", "probe"]).await["state"], "active");
    assert_eq!(show(&["stats"]).await["running"], true);
    let output = run(&hub, &["plugin", "show", "nobody"], "").await;
    assert!(!output.status.success() && stderr(&output).contains("plugin.unknown"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_file_is_checked_and_called_without_a_hub() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let timer = file("task-timer.wasm", &guest("task-timer"));
    let output = within(busway().args(["plugin", "check", &timer]).output()).await.unwrap();
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&checked["kind"], &checked["name"]), (&json!("handler"), &json!("task-timer")), "{checked}");
    assert_eq!(checked["emits"], json!(["task.timed"]), "{checked}");

    let event = file("event.json", br#"{"type":"task.started","data":{"task_id":"t"}}"#);
    let output = within(busway().args(["plugin", "call", &timer, "--event", &event]).output()).await.unwrap();
    let called: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(called["kv"]["started/t"].is_string() && called["used"]["fuel"].as_f64().unwrap() > 0.0, "{called}");

    let filter = file("urgent-only.wasm", &guest("urgent-only"));
    let ask = |params: &'static str| {
        let (filter, event) = (filter.clone(), event.clone());
        async move {
            within(busway().args(["plugin", "call", &filter, "--event", &event, "--params", params]).output())
                .await
                .unwrap()
        }
    };
    let verdict: Value = serde_json::from_slice(&ask("{}").await.stdout).unwrap();
    assert_eq!(verdict["verdict"], false);
    assert!(!ask(r#"{"tag":""}"#).await.status.success(), "params that the schema does not allow");

    let broken = file("broken.wasm", b"\0asm");
    let output = within(busway().args(["plugin", "check", &broken]).output()).await.unwrap();
    assert!(!output.status.success() && stderr(&output).contains("load."), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_of_a_configuration_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("busway.toml");
    fs::write(&file, "[http]\nlisten = 7\n[log]\nbuffer_size = 0\n").unwrap();
    let output = within(busway().args(["config", "check"]).arg(&file).output()).await.unwrap();
    let said = stderr(&output);
    assert!(
        !output.status.success() && said.contains("line 2: http.listen") && said.contains("line 4: log.buffer_size"),
        "{said}"
    );
    let output = within(busway().args(["config", "show"]).output()).await.unwrap();
    fs::write(&file, &output.stdout).unwrap();
    let output = within(busway().args(["config", "check"]).arg(&file).output()).await.unwrap();
    assert!(output.status.success(), "what is shown can be read back: {}", stderr(&output));
}

/// `generate > busway.toml` empties the file first, and the defaults have no admission filters.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_configuration_is_refused_and_a_comment_alone_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("busway.toml");
    for command in [&["config", "check"][..], &["serve", "--memory", "--listen", "127.0.0.1:0", "--config"]] {
        fs::write(&file, " \n").unwrap();
        let output = within(busway().args(command).arg(&file).output()).await.unwrap();
        assert!(!output.status.success() && stderr(&output).contains("the file is empty"), "{command:?}: {output:?}");
    }
    fs::write(&file, "# The defaults.\n").unwrap();
    let output = within(busway().args(["config", "check"]).arg(&file).output()).await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_plays_the_same_events_for_the_same_seed() {
    let play = async || {
        let hub = TestHub::start().await;
        let output = run(&hub, &["demo", "--seed", "7", "--count", "200", "--rate", "10000"], "").await;
        assert!(output.status.success(), "{}", stderr(&output));
        let of =
            |event: &Value| (event["type"].clone(), event["data"].clone(), event["metadata"]["correlation_id"].clone());
        hub.events().await.iter().map(of).collect::<Vec<_>>()
    };
    let (first, second) = (play().await, play().await);
    assert_eq!(first.len(), 200);
    assert_eq!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_follows_live_and_ends_when_nobody_reads() {
    let hub = TestHub::start().await;
    let mut child = busway().args(["--url", &hub.url(""), "tail", "--types", "a"]).spawn().unwrap();
    crate::hub::until(|| hub.bus().metrics().sse_connections.get() == 1).await;
    let client = Client::connect(&hub, "?types=none").await;
    hub.publish("a", json!(1)).await;
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = within(out.next_line()).await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["data"], json!(1));
    drop((out, client));
    // The next lines find the pipe closed.
    let ended = async {
        let mut look = tokio::time::interval(std::time::Duration::from_millis(10));
        loop {
            look.tick().await;
            hub.publish("a", json!(2)).await;
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
        }
    };
    assert!(within(ended).await.success());
}

/// What environments have a proxy under.
const PROXY_VARIABLES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_on_loopback_is_reached_whatever_proxy_the_environment_names() {
    let hub = TestHub::start().await;
    hub.publish("a", json!(1)).await;
    let port = hub.addr().port();
    for variable in PROXY_VARIABLES {
        for url in [hub.url(""), format!("localhost:{port}")] {
            for command in
                [&["stats"][..], &["tail", "--from", "earliest", "--limit", "1"], &["publish", "--type", "b"]]
            {
                let mut busway = busway();
                // Nobody listens there.
                busway.env(variable, "http://127.0.0.1:9").args(["--url", &url]).args(command);
                let output = within(busway.output()).await.unwrap();
                assert!(output.status.success(), "{variable} {url} {command:?}: {}", stderr(&output));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_elsewhere_is_reached_through_the_proxy_and_a_failure_names_it() {
    let stats = async |proxy: &str, exception: &str| {
        let mut busway = busway();
        busway.env("http_proxy", proxy).env("NO_PROXY", exception).args(["--url", "http://hub.invalid:8787", "stats"]);
        let output = within(busway.output()).await.unwrap();
        assert!(!output.status.success());
        stderr(&output)
    };
    let said = stats("http://ann:secret@127.0.0.1:9", "").await;
    assert!(said.contains("through the proxy http://127.0.0.1:9") && said.contains("NO_PROXY"), "{said}");
    assert!(!said.contains("secret") && !said.contains("busway serve"), "{said}");
    // One that answers for itself.
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut request = BufReader::new(&mut stream).lines();
        let first = request.next_line().await.unwrap().unwrap();
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        first
    });
    let said = stats(&address, "").await;
    assert!(said.contains(&format!("through the proxy {address}")) && said.contains("502"), "{said}");
    assert!(answering.await.unwrap().starts_with("GET http://hub.invalid:8787/v1/stats"), "it was asked");
    let said = stats("http://127.0.0.1:9", "hub.invalid").await;
    assert!(!said.contains("proxy"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn localhost_is_an_address_to_listen_on_and_anything_else_is_refused_with_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = dir.path().join("plugins");
    let args = ["serve", "--memory", "--listen", "localhost:0"];
    let mut serving = Serving::of(busway().args(args).arg("--plugins").arg(&plugins)).await;
    assert!(serving.address.starts_with("127.0.0.1:"), "{}", serving.address);
    serving.signal("TERM").await;
    within(serving.child.wait()).await.unwrap();
    let file = dir.path().join("busway.toml");
    fs::write(&file, "[http]\nlisten = \"localhost:8787\"\n").unwrap();
    let checked = within(busway().arg("config").arg("check").arg(&file).output()).await.unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));
    for address in ["hub.example:0", "localhost", "8787"] {
        let output = within(busway().args(["serve", "--listen", address]).output()).await.unwrap();
        let said = stderr(&output);
        assert!(
            !output.status.success() && said.contains("such as 127.0.0.1:8787") && said.contains(address),
            "{said}"
        );
        fs::write(&file, format!("[http]\nlisten = {address:?}\n")).unwrap();
        let output = within(busway().arg("config").arg("check").arg(&file).output()).await.unwrap();
        let said = stderr(&output);
        assert!(
            !output.status.success() && said.contains("line 2: http.listen") && said.contains("such as 127.0.0.1:8787"),
            "{said}"
        );
    }
}
