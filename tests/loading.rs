//! Loads that take long or end the hub: the start does not wait for
//! them, nor does the end, and a file that ended the hub twice is left
//! out. On the real program, with its compiler and its markers on disk.

use crate::{
    cli::{Serving, busway},
    guests::probe,
    hostile::guest::{Guest, OK},
    hub::{TestHub, until, within},
};
use busway::plugin::{Compiler, registry::CommandError};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Stdio};
use tempfile::TempDir;

/// Its start takes all the time that a load may have: a second.
const SPINNING: &str = "(loop $ever (br $ever))";

fn component(guest: &Guest) -> Vec<u8> {
    wat::parse_str(guest.wat()).unwrap()
}

/// A process that stands still, until this is dropped.
pub struct Stopped(String);

impl Stopped {
    /// The process in which a hub does a part of a load, by its sub-command.
    pub async fn child_of(hub: u32, sub_command: &str) -> Self {
        let is_its = |pid: &str| {
            let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            of("status").contains(&format!("\nPPid:\t{hub}\n")) && of("cmdline").contains(sub_command)
        };
        let find = || {
            fs::read_dir("/proc")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .find(|pid| is_its(pid))
        };
        let mut found = None;
        // One that has ended before it heard the signal is not held: then the next is looked for.
        until(|| {
            found = found
                .take()
                .or_else(|| find().map(Self))
                .filter(|child: &Self| child.signal("STOP") && child.state().is_some());
            found.as_ref().is_some_and(|child| child.state() == Some('T'))
        })
        .await;
        found.unwrap()
    }

    fn signal(&self, name: &str) -> bool {
        let mut kill = std::process::Command::new("kill");
        kill.args(["-s", name, &self.0]).stderr(Stdio::null()).status().unwrap().success()
    }

    async fn has_ended(&self) {
        has_ended(&self.0).await;
    }

    fn state(&self) -> Option<char> {
        state(&self.0)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended.
        self.signal("CONT");
    }
}

/// Waits until a process does nothing any more.
async fn has_ended(pid: &str) {
    until(|| state(pid).is_none()).await;
}

/// The state of a process (proc(5)); `None` for one that has ended.
fn state(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.chars().next().filter(|state| !matches!(state, 'Z' | 'X'))
}

/// The directories of a hub that is started again and again.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("plugins")).unwrap();
        Self(dir)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let (dir, file) = (self.0.path().join("plugins"), format!("{name}.wasm"));
        fs::write(dir.join(".new"), bytes).unwrap();
        fs::rename(dir.join(".new"), dir.join(file)).unwrap();
    }

    async fn start(&self) -> Serving {
        let (plugins, data) = (self.0.path().join("plugins"), self.0.path().join("data"));
        let mut command = busway();
        command.args(["serve", "--listen", "127.0.0.1:0", "--plugins"]).arg(plugins).arg("--data").arg(data);
        Serving::of(&mut command).await
    }

    /// How many loads in a row the markers say that the hub did not live to end.
    fn ends(&self) -> u32 {
        let attempts = |path: &PathBuf| fs::read_to_string(path).ok()?.lines().nth(1)?.parse().ok();
        self.markers().iter().filter_map(attempts).max().unwrap_or(0)
    }

    fn markers(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.0.path().join("data/loading")).into_iter().flatten();
        let files = files.map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "loading")).collect()
    }
}

async fn get(hub: &Serving, path: &str) -> (u16, Value) {
    answer(crate::hub::http_client().get(format!("http://{}{path}", hub.address))).await
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = within(request.send()).await.unwrap();
    let status = response.status().as_u16();
    let text = within(response.text()).await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
}

async fn plugin_until(hub: &Serving, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let (_, status) = get(hub, &format!("/v1/plugins/{name}")).await;
            if condition(&status) {
                return status;
            }
        }
    })
    .await
}

async fn ends_with_0(mut hub: Serving) {
    hub.signal("TERM").await;
    assert!(within(hub.child.wait()).await.unwrap().success(), "it ends with 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ended_the_hub_twice_while_it_was_loaded_is_skipped_until_it_changes() {
    let place = Place::new();
    place.put("bad", component(&Guest { start: SPINNING, ..Guest::handler(OK) }));
    // A load that was over before the kill reached the hub takes
    // back what was counted: so once more, until two count.
    within(async {
        while place.ends() < 2 {
            let mut hub = place.start().await;
            until(|| !place.markers().is_empty()).await;
            hub.child.kill().await.unwrap();
        }
    })
    .await;

    place.put("good", component(&Guest::handler(OK)));
    let hub = place.start().await;
    let bad = plugin_until(&hub, "bad", |status| status["state"] == "failed").await;
    assert_eq!(bad["last_error"]["code"], "load.crashed", "{bad}");
    plugin_until(&hub, "good", |status| status["state"] == "active").await;
    within(async { while get(&hub, "/readyz").await.0 != 200 {} }).await;
    let http = crate::hub::http_client();
    let publish = http.post(format!("http://{}/v1/events", hub.address)).json(&json!({"type": "a"}));
    assert_eq!(answer(publish).await.0, 200);
    let reload = http.post(format!("http://{}/v1/plugins/bad/reload", hub.address));
    let (_, refused) = answer(reload).await;
    assert_eq!(refused["code"], "load.describe", "an operator's reload tries it again: {refused}");
    place.put("bad", component(&Guest { version: "1.0.1", ..Guest::handler(OK) }));
    plugin_until(&hub, "bad", |status| status["state"] == "active").await;
    ends_with_0(hub).await;
    assert_eq!(place.markers(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_before_plugins_are_loaded() {
    let place = Place::new();
    place.put("held", probe(1));
    let hub = place.start().await;
    let compiler = Stopped::child_of(hub.child.id().unwrap(), "compile-component").await;
    assert_eq!(get(&hub, "/healthz").await.0, 200);
    let (status, answer) = get(&hub, "/readyz").await;
    assert_eq!((status, &answer["code"]), (503, &json!("hub.loading")));
    assert_eq!(get(&hub, "/v1/events").await.0, 200);
    assert_eq!(place.markers(), Vec::<PathBuf>::new(), "who ends the hub now does not end it because of the file");
    drop(compiler);
    within(async { while get(&hub, "/readyz").await.0 != 200 {} }).await;
    assert_eq!(get(&hub, "/v1/plugins/held").await.1["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_compiling_ends_when_it_is_told_to_and_the_compiler_with_it() {
    let place = Place::new();
    place.put("held", probe(1));
    let hub = place.start().await;
    let compiler = Stopped::child_of(hub.child.id().unwrap(), "compile-component").await;
    ends_with_0(hub).await;
    compiler.has_ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_checking_a_schema_ends_when_it_is_told_to_and_the_check_with_it() {
    let patterns: Vec<Value> = (0..60).map(|n| json!({"pattern": format!("^(\\p{{L}}{{1,{}}})$", 20 + n)})).collect();
    let schema = json!({ "allOf": patterns }).to_string();
    let place = Place::new();
    let filter = component(&Guest { params_schema: Some(schema.leak()), ..Guest::filter("(i32.const 80)") });
    // One check is short: of so many, one is found.
    (0..40).for_each(|n| place.put(&format!("held-{n}"), &filter));
    let hub = place.start().await;
    let check = Stopped::child_of(hub.child.id().unwrap(), "check-schema").await;
    ends_with_0(hub).await;
    check.has_ended().await;
}

/// Enough of them that one is always under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_plugins_spin_at_the_start_ends_when_it_is_told_to() {
    for (start, describe) in [(SPINNING, ""), ("", SPINNING)] {
        let place = Place::new();
        let bytes = component(&Guest { start, describe, ..Guest::handler(OK) });
        (0..40).for_each(|n| place.put(&format!("spinning-{n}"), &bytes));
        let hub = place.start().await;
        until(|| !place.markers().is_empty()).await;
        assert_eq!(get(&hub, "/healthz").await.0, 200);
        ends_with_0(hub).await;
        assert_eq!(place.markers(), Vec::<PathBuf>::new(), "that is no end for which the file is to blame");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_load_is_told_when_the_hub_stops() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("plugins")).unwrap();
    fs::write(dir.path().join("plugins/held.wasm"), component(&Guest { version: "9.0.0", ..Guest::handler(OK) }))
        .unwrap();
    let compiler = dir.path().join("compiler");
    let pid = dir.path().join("pid");
    fs::write(&compiler, format!("#!/bin/sh\necho $$ > {0}.new; mv {0}.new {0}; exec sleep 1000\n", pid.display()))
        .unwrap();
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o700)).unwrap();
    let hub = TestHub::starting(dir, |config| {
        config.plugins.compiler = Compiler::Child(compiler);
        config.plugins.cache = PathBuf::new();
        // Longer than any test waits.
        config.shutdown.drain_timeout_s = 3_600.try_into().unwrap();
    })
    .await;
    until(|| pid.exists()).await;
    let compiling = fs::read_to_string(&pid).unwrap().trim().to_owned();
    let plugins = hub.plugins().clone();
    let mut reload = Box::pin(plugins.reload("held"));
    assert!(futures_util::poll!(&mut reload).is_pending());
    let dir = hub.end().await;
    assert!(matches!(within(reload).await, Err(CommandError::Stopped)));
    has_ended(&compiling).await;
    drop(dir);
}
