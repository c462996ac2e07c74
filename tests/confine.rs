//! The second wall: what a confined hub can still do, and what it can no longer. Every process here is a real one, on this kernel; the
//! one without Landlock is played by `fixtures/without-landlock.c`.

use crate::{
    cli::{Serving, busway, stderr},
    guests::probe,
    hub::within,
    loading::Stopped,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

/// A directory for the hub's own, and one beside it that is none of its business.
fn place() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (dir.path().join("own"), dir.path().join("other"));
    for dir in [&own, &other] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(other.join("secret"), "secret").unwrap();
    (dir, own, other)
}

fn serve<'a>(command: &'a mut Command, own: &Path) -> &'a mut Command {
    let (plugins, data) = (own.join("plugins"), own.join("data"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--plugins"]).arg(plugins).arg("--data").arg(data)
}

/// The program on a kernel without Landlock.
fn without_landlock() -> Command {
    let mut command = Command::new(env!("WITHOUT_LANDLOCK"));
    command
        .arg(env!("CARGO_BIN_EXE_busway-under-test"))
        .kill_on_drop(true)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

async fn get(hub: &Serving, path: &str) -> Value {
    let response = within(crate::hub::http_client().get(format!("http://{}{path}", hub.address)).send()).await.unwrap();
    within(response.json()).await.unwrap()
}

/// Waits until the plugin is active and of another generation than `before`, and gives that.
async fn activated(hub: &Serving, before: &Value) -> Value {
    within(async {
        loop {
            let plugin = get(hub, "/v1/plugins/probe").await;
            if plugin["state"] == "active" && plugin["generation"] != *before {
                return plugin["generation"].clone();
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_hub_serves_reloads_plugins_and_keeps_its_journal() {
    let (_dir, own, _) = place();
    let plugins = own.join("plugins");
    let mut hub = Serving::of(serve(&mut busway(), &own)).await;
    let status = fs::read_to_string(format!("/proc/{}/status", hub.child.id().unwrap())).unwrap();
    assert!(status.lines().any(|line| line == "NoNewPrivs:\t1"), "{status}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", hub.child.id().unwrap())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");

    fs::write(plugins.join("probe.wasm"), probe(1)).unwrap();
    let first = activated(&hub, &Value::Null).await;
    fs::write(plugins.join("probe.wasm"), probe(2)).unwrap();
    let second = activated(&hub, &first).await;
    // Another directory under the same name.
    fs::rename(&plugins, own.join("before")).unwrap();
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join("probe.wasm"), probe(3)).unwrap();
    activated(&hub, &second).await;

    let http = crate::hub::http_client();
    let event = json!({"type": "kept", "data": 7});
    let published = http.post(format!("http://{}/v1/events", hub.address)).json(&event).send();
    assert_eq!(within(published).await.unwrap().status(), 200);
    hub.signal("TERM").await;
    assert!(within(hub.child.wait()).await.unwrap().success());
    let hub = Serving::of(serve(&mut busway(), &own)).await;
    assert_eq!(get(&hub, "/v1/events?types=kept").await["events"][0]["data"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn required_starts_where_there_is_landlock_and_refuses_where_there_is_none() {
    let (_dir, own, _) = place();
    let config = own.join("busway.toml");
    fs::write(&config, "[confine]\nlandlock = \"required\"\n").unwrap();

    let mut command = without_landlock();
    let refused = within(serve(&mut command, &own).arg("--config").arg(&config).output()).await.unwrap();
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("confine.landlock is \"required\": expected a kernel with Landlock"), "{said}");

    if Confined::start(&own, &own, 0).await.has_landlock(4) {
        Serving::of(serve(&mut busway(), &own).arg("--config").arg(&config)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_landlock_the_hub_starts_and_says_that_it_is_less_confined() {
    let (_dir, own, _) = place();
    let mut child = serve(&mut without_landlock(), &own).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = within(said.next_line()).await.unwrap().unwrap();
    assert!(first.contains("WARN") && first.contains("no new privileges") && first.contains("no landlock"), "{first}");
    let next = within(said.next_line()).await.unwrap().unwrap();
    assert!(next.contains("listening on"), "{next}");
}

/// `confined.rs`, as a child.
struct Confined {
    child: Child,
    answers: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    holds: String,
}

impl Confined {
    async fn start(read: &Path, write: &Path, port: u16) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_confined"))
            .args([read, write])
            .arg(port.to_string())
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let holds = within(answers.next_line()).await.unwrap().expect("it is confined");
        Self { child, answers, holds }
    }

    /// Whether the kernel has this version of it or a newer one.
    fn has_landlock(&self, version: u32) -> bool {
        let found = self.holds.split("landlock ABI ").nth(1).and_then(|rest| rest.split(':').next());
        found.is_some_and(|found| found.parse::<u32>().unwrap() >= version)
    }

    async fn told(&mut self, words: &[&str]) -> String {
        let line = format!("{}\n", words.join(" "));
        within(self.child.stdin.as_mut().unwrap().write_all(line.as_bytes())).await.unwrap();
        within(self.answers.next_line()).await.unwrap().expect("it answers")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_process_writes_only_where_it_may_and_reads_no_secrets() {
    let (_dir, own, other) = place();
    let data = own.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(own.join("plugin"), "").unwrap();
    let mut confined = Confined::start(&own, &data, 0).await;
    if !confined.has_landlock(3) {
        return;
    }
    let path = |dir: &Path, name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (mine, theirs) = (path(&data, "file"), path(&other, "secret"));
    for words in [
        &["write", &mine][..],
        &["rename", &mine, &path(&data, "renamed")],
        &["truncate", &path(&data, "renamed")],
        &["remove", &path(&data, "renamed")],
        &["mkdir", &path(&data, "cache")],
        &["list", &path(&own, "")],
        &["read", &path(&own, "plugin")],
        &["write", "/dev/null"],
        &["again"],
    ] {
        assert_eq!(confined.told(words).await, "ok", "{words:?}");
    }
    fs::write(data.join("file"), "").unwrap();
    for words in [
        &["read", &theirs][..],
        &["list", &path(&other, "")],
        &["write", &theirs],
        &["truncate", &theirs],
        &["remove", &theirs],
        &["write", &path(&other, "new")],
        &["mkdir", &path(&other, "new")],
        &["write", &path(&own, "plugin")],
        &["write", &path(&std::env::temp_dir(), "busway-confined-must-not-be-there")],
        &["link", &theirs, &path(&data, "link")],
        &["read", "/etc/passwd"],
        &["start", "/bin/sh"],
    ] {
        assert_eq!(confined.told(words).await, "PermissionDenied", "{words:?}");
    }
    // Moving is closed to it too; the kernel says that the two places have nothing to do with each other.
    let moved = confined.told(&["rename", &mine, &path(&other, "moved")]).await;
    assert!(["PermissionDenied", "CrossesDevices"].contains(&moved.as_str()), "{moved}");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_process_connects_nowhere_and_listens_only_where_it_may() {
    let (_dir, own, _) = place();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    // Nobody has these two, as they were given to somebody a moment ago.
    let free = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (mine, other) = (free().await, free().await);
    let mut confined = Confined::start(&own, &own, mine.port()).await;
    if !confined.has_landlock(4) {
        return;
    }
    assert_eq!(confined.told(&["connect", &there.to_string()]).await, "PermissionDenied");
    assert_eq!(confined.told(&["listen", &other.to_string()]).await, "PermissionDenied");
    assert_eq!(confined.told(&["listen", "127.0.0.1:0"]).await, "PermissionDenied");
    assert_eq!(confined.told(&["listen", &mine.to_string()]).await, "ok");

    let mut any = Confined::start(&own, &own, 0).await;
    assert_eq!(any.told(&["listen", "127.0.0.1:0"]).await, "ok", "the system chooses");
    assert_eq!(any.told(&["connect", &there.to_string()]).await, "PermissionDenied");
}

/// What systemd would be, as far as the hub speaks to it.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

/// Asks for a minute more.
const EXTEND: &str = "EXTEND_TIMEOUT_USEC=60000000";

impl Supervisor {
    fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(crate::hub::PATIENCE)).unwrap();
        Self { socket, path }
    }

    fn heard(&self) -> String {
        let mut bytes = [0; 64];
        let length = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// What is said besides that it takes longer.
    fn heard_at_last(&self) -> String {
        std::iter::repeat_with(|| self.heard()).find(|said| said != EXTEND).unwrap()
    }

    async fn start(&self, own: &Path) -> Serving {
        Serving::of(serve(&mut busway(), own).env("NOTIFY_SOCKET", &self.path)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_is_told_when_the_hub_is_ready_and_when_it_stops() {
    let (dir, own, _) = place();
    let supervisor = Supervisor::new(dir.path());
    let mut hub = supervisor.start(&own).await;
    assert_eq!(supervisor.heard_at_last(), "READY=1");
    hub.signal("TERM").await;
    assert_eq!(supervisor.heard(), "STOPPING=1");
    assert!(within(hub.child.wait()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_is_asked_for_more_time_for_as_long_as_plugins_are_compiled() {
    let (dir, own, _) = place();
    fs::create_dir(own.join("plugins")).unwrap();
    fs::write(own.join("plugins/probe.wasm"), probe(1)).unwrap();
    let supervisor = Supervisor::new(dir.path());
    let hub = supervisor.start(&own).await;
    let stopped = Stopped::child_of(hub.child.id().unwrap(), "compile-component").await;
    for _ in 0..2 {
        assert_eq!(supervisor.heard(), EXTEND);
    }
    drop(stopped);
    assert_eq!(supervisor.heard_at_last(), "READY=1");
    assert_eq!(get(&hub, "/v1/plugins/probe").await["state"], "active");
}
