//! The contract, kept by plugins in every language: a handler and a filter of the same behaviour in each (`plugins/*-counter`,
//! `plugins/*-tagged`), and what `busway plugin new` writes, built with `busway plugin build` and called as the hub calls them.

pub mod built;

use built::{BUSWAY, built, busway, copy, root};
use busway::{
    event::{Event, NewEvent},
    kv::{Namespace, Quota, Store},
    plugin::{
        CallError, Compiler, Effects, Engine, EngineConfig, Failure, FailureKind, Manifest, Source, Stats, Transcript,
        Version,
    },
};
use serde_json::{Value, json, value::to_raw_value};
use std::{fs, path::Path, sync::Arc};

/// Its plugins as they are called, and the memory that outlives their versions.
struct Guest {
    engine: Arc<Engine>,
    name: String,
    bytes: Arc<[u8]>,
    namespace: Arc<Namespace>,
}

/// Time is not the point here, and the host is not optimised.
const LIMITS: &str = "[limits]\ndeadline = \"20s\"\nfuel = 1000000000\n";

impl Guest {
    fn new(name: &str, bytes: Vec<u8>) -> Self {
        let config = EngineConfig {
            compiler: Compiler::Child(BUSWAY.into()),
            cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
            max_instances: 20,
            ..EngineConfig::default()
        };
        let namespace = Store::new(Quota::default()).namespace(name);
        Self { engine: Engine::new(config).unwrap(), name: name.into(), bytes: bytes.into(), namespace }
    }

    async fn load(&self, generation: u64, manifest: &str) -> Arc<Version> {
        let source = Source {
            name: self.name.parse().unwrap(),
            bytes: self.bytes.clone(),
            manifest: Manifest::parse(&format!("{manifest}\n{LIMITS}")).unwrap(),
            generation,
            namespace: self.namespace.clone(),
            stats: Arc::new(Stats::default()),
        };
        Version::load(&self.engine, source).await.unwrap()
    }
}

/// Calls a handler, and commits what it did.
async fn handle(version: &Version, event: &Event) -> Result<(Effects, Transcript), CallError> {
    let mut said = Transcript::default();
    let mut effects = version.handle_with(event, 1, Some(&mut said)).await?;
    if let Some(writes) = effects.writes.take() {
        writes.commit().unwrap();
    }
    Ok((effects, said))
}

fn event(event_type: &str, data: Value) -> NewEvent {
    NewEvent::new(event_type).data(data).unwrap()
}

fn as_json(event: &Event) -> Value {
    serde_json::from_str(&event.to_json()).unwrap()
}

fn failure(result: Result<(Effects, Transcript), CallError>) -> Failure {
    match result {
        Err(CallError::Failure(failure)) => failure,
        other => panic!("a failure was expected, not {:?}", other.map(|(_, said)| said)),
    }
}

const GRANTS: &str = "[grants]\npublish = [\"counter.counted\"]\nkv = true\n";

async fn a_handler_keeps_the_contract(name: &str, bytes: Vec<u8>) {
    let guest = Guest::new(name, bytes);
    let fresh = guest.load(1, &format!("isolation = \"fresh\"\n{GRANTS}")).await;
    let about = fresh.description();
    assert_eq!((about.version.as_str(), about.summary.as_str()), ("0.1.0", "Counts task events"));
    assert_eq!(fresh.subscriptions().len(), 1);
    let count = everything_that_is_said_and_given_arrives(&fresh).await;
    failures_have_their_kind_and_leave_no_trace(&fresh).await;
    // The same file under another word of the operator's, as after a reload.
    let kept = guest.load(2, &format!("isolation = \"reuse\"\n{GRANTS}")).await;
    for expected in count + 1..=count + 300 {
        let (effects, _) = handle(&kept, &event("task.created", json!([expected])).admit().unwrap()).await.unwrap();
        assert_eq!(as_json(&effects.outbox[0])["data"]["count"], expected, "{name}: memory outlives reloads and calls");
    }
    failures_have_their_kind_and_leave_no_trace(&kept).await;
    let denied = guest.load(3, "[grants]\npublish = []\nkv = true\n").await;
    let refused = failure(handle(&denied, &event("task.created", json!(null)).admit().unwrap()).await);
    assert_eq!(refused.kind, FailureKind::Reject, "{name}: a publish that is denied is told so: {}", refused.message);
    let denied = guest.load(4, "[grants]\npublish = [\"*\"]\nkv = false\n").await;
    let refused = failure(handle(&denied, &event("task.created", json!(null)).admit().unwrap()).await);
    assert_eq!(refused.kind, FailureKind::Retry, "{name}: a kv that is denied is told so: {}", refused.message);
}

/// Returns how many it has counted.
async fn everything_that_is_said_and_given_arrives(version: &Version) -> u64 {
    let name = version.name().as_str();
    let many: Vec<String> = (0..63).map(|n| format!("tag-{n}-ü")).collect();
    let full = event("task.created", json!({"t": "ü 😀 \u{1} \" \\ \u{2028}", "n": [1, -2.5, null, true], "": {}}));
    let full = many.iter().fold(full, NewEvent::tag).correlation_id("c-ü").source("s").event_id("cause");
    let full =
        full.extension("traceparent", to_raw_value("00-ab").unwrap()).extension("n", to_raw_value(&[1]).unwrap());
    let large = event("task.created", json!("ü".repeat(100_000)));
    let events = [full, event("task.updated", json!(null)), large];
    for (count, given) in (1..).zip(events) {
        let given = given.admit().unwrap();
        let (effects, said) = handle(version, &given).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (given, counted) = (as_json(&given), as_json(&effects.outbox[0]));
        assert_eq!(effects.outbox.len(), 1);
        assert_eq!(counted["type"], "counter.counted");
        assert_eq!(counted["data"], json!({"from": 0, "count": count, "data": given["data"]}), "{name}");
        let (was, is) = (&given["metadata"], &counted["metadata"]);
        let mut tags = was["tags"].as_array().unwrap().clone();
        tags.push(json!("derived"));
        assert_eq!(sorted(is["tags"].as_array().unwrap()), sorted(&tags), "{name}");
        assert_eq!(is["extensions"], was["extensions"], "{name}");
        let host = [&is["source"], &is["hops"], &is["causation_id"], &is["correlation_id"]];
        let own = json!(format!("plugin/{name}"));
        assert_eq!(host, [&own, &json!(1), &was["event_id"], &was["correlation_id"]], "{name}: written by the host");
        let line = format!("handling {} attempt 1", was["event_id"].as_str().unwrap());
        assert_eq!(said.lines.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), [line], "{name}");
    }
    3
}

fn sorted(tags: &[Value]) -> Vec<String> {
    let mut tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    tags.sort();
    tags
}

async fn failures_have_their_kind_and_leave_no_trace(version: &Version) {
    let name = version.name().as_str();
    let call = async |event_type: &str, data: Value| handle(version, &event(event_type, data).admit().unwrap()).await;
    let before = call("task.created", json!(1)).await.unwrap().0.outbox;
    let boom = failure(call("task.boom", json!(null)).await);
    assert_eq!((boom.kind, boom.message.as_str()), (FailureKind::Retry, "boom"), "{name}");
    let never = failure(call("task.never", json!(null)).await);
    assert_eq!((never.kind, never.message.as_str()), (FailureKind::Reject, "never"), "{name}");
    // As much as there can be: the plugin reads all of it, and is told that what it makes of it is too much.
    let large = failure(call("task.created", json!("x".repeat((1 << 20) - 2))).await);
    assert!(large.kind == FailureKind::Reject && large.message.contains("1048576 bytes"), "{name}: {}", large.message);
    let Err(CallError::Fault(fault)) = call("task.trap", json!(null)).await else { panic!("{name}: no trap") };
    // QuickJS cannot be made to trap: its plugins run in circles.
    assert!(["trap", "fuel"].contains(&fault.code.as_str()), "{name}: {}", fault.message);
    let after = call("task.created", json!(1)).await.unwrap_or_else(|error| panic!("{name}: after a trap: {error}"));
    let count = |events: &[Event]| as_json(&events[0])["data"]["count"].as_u64().unwrap();
    assert_eq!(count(&after.0.outbox), count(&before) + 1, "{name}: what failed has counted nothing");
    call("task.never", json!(null)).await.err().unwrap();
    // As if it had never been, for the next round.
    let mut writes = version.namespace().begin();
    writes.increment("count", -2).unwrap();
    writes.commit().unwrap();
}

async fn a_filter_keeps_the_contract(name: &str, bytes: Vec<u8>) {
    let guest = Guest::new(name, bytes);
    for (generation, isolation) in [(1, "fresh"), (2, "reuse")] {
        let version = guest.load(generation, &format!("isolation = {isolation:?}")).await;
        let plain = event("task.created", json!("ü 😀")).admit().unwrap();
        let tagged = event("a", json!({})).tag("ü \"x\"").tag("urgent").admit().unwrap();
        let large = event("a", json!("x".repeat((1 << 20) - 2))).tag("urgent").admit().unwrap();
        for _ in 0..if isolation == "reuse" { 30 } else { 1 } {
            for (event, params, expected) in [
                (&plain, None, Ok(false)),
                (&tagged, None, Ok(true)),
                (&large, None, Ok(true)),
                (&tagged, Some(json!({})), Ok(true)),
                (&tagged, Some(json!({"tag": "ü \"x\""})), Ok(true)),
                (&tagged, Some(json!({"tag": "calm"})), Ok(false)),
                (&tagged, Some(json!({"tag": null})), Err("params: ")),
                (&tagged, Some(json!({"tag": ["urgent"]})), Err("params: ")),
            ] {
                let checked = version.check_params(params.clone()).unwrap();
                match (version.matches(event, &checked).await, expected) {
                    (Ok(verdict), Ok(expected)) => assert_eq!(verdict, expected, "{name}: {params:?}"),
                    (Err(CallError::Failure(why)), Err(begins)) => {
                        assert!(why.message.starts_with(begins), "{name}: {params:?}: {}", why.message);
                    }
                    (found, _) => panic!("{name}: {params:?}: {found:?}"),
                }
            }
        }
    }
}

async fn keeps_the_contract(language: &str, target: Option<&str>) {
    let make = |what: &str, dir: &Path| {
        copy(what, dir);
        if let Some(target) = target {
            let file = dir.join("busway.toml");
            fs::write(&file, format!("{}target = {target:?}\n", fs::read_to_string(&file).unwrap())).unwrap();
        }
    };
    let (counter, tagged) = (format!("{language}-counter"), format!("{language}-tagged"));
    let named = |what: &str| target.map_or(what.to_owned(), |target| format!("{what}-{target}"));
    if let Some(bytes) = built(&named(&counter), language, |dir| make(&counter, dir)) {
        a_handler_keeps_the_contract(&counter, bytes).await;
    }
    if let Some(bytes) = built(&named(&tagged), language, |dir| make(&tagged, dir)) {
        a_filter_keeps_the_contract(&tagged, bytes).await;
    }
}

/// What `plugin new` writes is built, and does what its own tests say.
async fn what_new_writes_works(language: &str) {
    for kind in ["handler", "filter"] {
        let name = format!("new-{language}-{kind}");
        let make = |dir: &Path| {
            let args = ["plugin", "new", &name, "--lang", language, "--kind", kind, "--dir", "."];
            let output = busway(dir).args(args).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let Some(bytes) = built(&name, language, make) else { continue };
        let project = Path::new(env!("TARGET_DIR")).join("conformance/projects").join(&name);
        let manifest = fs::read_to_string(project.join(format!("{name}.toml"))).unwrap();
        let mut tests = 0;
        for test in fs::read_dir(project.join("tests")).unwrap().map(|entry| entry.unwrap().path()) {
            let test: Value = serde_json::from_str(&fs::read_to_string(test).unwrap()).unwrap();
            let version = Guest::new(&name, bytes.clone()).load(1, &manifest).await;
            does_what_its_test_says(&version, &test).await;
            tests += 1;
        }
        assert_eq!(tests, 2);
    }
}

async fn does_what_its_test_says(version: &Version, test: &Value) {
    let (given, expected) = (test["events"].as_array().unwrap(), test["expect"].as_array().unwrap());
    assert_eq!(given.len(), expected.len());
    for (given, expected) in given.iter().zip(expected) {
        let event = NewEvent::from_json(&given.to_string()).unwrap().admit().unwrap();
        let found = if expected.get("verdict").is_some() {
            let params = version.check_params(test.get("params").cloned()).unwrap();
            json!({"verdict": version.matches(&event, &params).await.unwrap()})
        } else {
            match handle(version, &event).await {
                Ok((effects, _)) => {
                    json!({"emitted": effects.outbox.iter().map(as_json).collect::<Vec<_>>(), "kv": kv(version)})
                }
                Err(CallError::Failure(why)) if why.kind == FailureKind::Reject => {
                    json!({"emitted": [], "failure": {"kind": "reject", "message": why.message}})
                }
                Err(error) => panic!("{}: {error}", version.name()),
            }
        };
        assert!(is_within(expected, &found), "{}: {given}: expected {expected}, found {found}", version.name());
    }
}

fn kv(version: &Version) -> Value {
    let mut all = version.namespace().begin();
    let keys = all.keys("", None);
    keys.into_iter()
        .map(|key| (key.clone(), json!(String::from_utf8_lossy(&all.get(&key).unwrap().unwrap()))))
        .collect()
}

/// Objects hold at least what is expected, everything else is equal.
fn is_within(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.iter().all(|(key, value)| found.get(key).is_some_and(|found| is_within(value, found)))
        }
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| is_within(expected, found))
        }
        _ => expected == found,
    }
}

macro_rules! languages {
    ($($contract:ident, $new:ident, $language:literal;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $contract() {
                keeps_the_contract($language, None).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn $new() {
                what_new_writes_works($language).await;
            }
        )+
    };
}

languages! {
    rust_keeps_the_contract, a_new_plugin_in_rust_builds_and_passes_its_tests, "rust";
    c_keeps_the_contract, a_new_plugin_in_c_builds_and_passes_its_tests, "c";
    cpp_keeps_the_contract, a_new_plugin_in_cpp_builds_and_passes_its_tests, "cpp";
    zig_keeps_the_contract, a_new_plugin_in_zig_builds_and_passes_its_tests, "zig";
    python_keeps_the_contract, a_new_plugin_in_python_builds_and_passes_its_tests, "python";
    js_keeps_the_contract, a_new_plugin_in_js_builds_and_passes_its_tests, "js";
    ts_keeps_the_contract, a_new_plugin_in_ts_builds_and_passes_its_tests, "ts";
    assemblyscript_keeps_the_contract, a_new_plugin_in_assemblyscript_builds_and_passes_its_tests, "assemblyscript";
    go_keeps_the_contract, a_new_plugin_in_go_builds_and_passes_its_tests, "go";
}

/// A core module without WASI, which `plugin build` makes a component.
#[tokio::test(flavor = "multi_thread")]
async fn rust_without_wasi_keeps_the_contract() {
    keeps_the_contract("rust", Some("wasm32-unknown-unknown")).await;
}

#[test]
fn new_refuses_what_it_would_write_over_and_names_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let new = |args: &[&str]| {
        let output = busway(dir.path()).args(["plugin", "new", "--lang", "c", "--kind", "filter"]).args(args).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(new(&["a"]).0 && dir.path().join("a/plugin.c").exists());
    let (ok, said) = new(&["a"]);
    assert!(!ok && said.contains("an empty directory or none") && said.contains("--dir"), "{said}");
    assert!(new(&["a", "--dir", "b"]).0);
    for name in ["A", "../x", "", "a b"] {
        let (ok, said) = new(&[name]);
        assert!(!ok && said.contains("[a-z0-9_-]"), "{name}: {said}");
    }
}

#[test]
fn build_says_what_is_missing_and_how_to_install_it() {
    let dir = tempfile::tempdir().unwrap();
    let new = busway(dir.path()).args(["plugin", "new", "a", "--lang", "zig", "--kind", "filter"]).output().unwrap();
    assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));
    let build = |dir: &Path| {
        let mut command = busway(dir);
        let output =
            command.env("BUSWAY_TOOLCHAINS", "").env("PATH", "/nowhere").args(["plugin", "build"]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (ok, said) = build(&dir.path().join("a"));
    assert!(!ok && said.contains("`zig`") && said.contains("pip install ziglang=="), "{said}");
    let (ok, said) = build(dir.path());
    assert!(!ok && said.contains("busway.toml") && said.contains("plugin new"), "{said}");
}

/// The versions that the templates, the tests and `plugin build` name are the same.
#[test]
fn one_version_of_each_tool_is_spoken_of() {
    let text = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let advice = text("host/src/cli/plugin/build/toolchain.rs");
    for line in text("tests/toolchains/requirements.txt").lines() {
        assert!(advice.contains(line), "{line}");
    }
    let installed: Value = serde_json::from_str(&text("tests/toolchains/package.json")).unwrap();
    for language in ["js", "ts", "assemblyscript"] {
        let own: Value =
            serde_json::from_str(&text(&format!("plugins/templates/{language}/both/package.json"))).unwrap();
        for (tool, version) in own["devDependencies"].as_object().unwrap() {
            assert_eq!(&installed["devDependencies"][tool], version, "{language}: {tool}");
        }
        assert!(own.get("overrides").is_none_or(|overrides| *overrides == installed["overrides"]));
    }
    assert_eq!(
        text("plugins/templates/python/both/requirements.txt").trim(),
        text("tests/toolchains/requirements.txt").lines().next().unwrap()
    );
}
