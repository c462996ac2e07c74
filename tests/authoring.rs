//! `busway plugin call`, `bench`, `test` and `check`: a plugin's files tried out without a hub, as their author does.

mod builds;

use crate::{
    cli::{busway, lines, stderr},
    guests::guest,
    hub::within,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tempfile::{TempDir, tempdir};
use tokio::io::AsyncWriteExt;

/// Runs `busway plugin` with something on its stdin.
async fn plugin(args: &[&str], input: &str) -> Output {
    let mut child = busway().arg("plugin").args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async {
        // A program that ends early does not read everything.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    within(async { tokio::join!(child.wait_with_output(), write) }).await.0.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

/// An example, built, with its sidecar and its tests, as `make plugins` lays them out.
fn example(name: &str) -> TempDir {
    let (dir, source) = (tempdir().unwrap(), root().join("plugins").join(name));
    let tests = dir.path().join(name).join("tests");
    fs::create_dir_all(&tests).unwrap();
    fs::write(dir.path().join(format!("{name}.wasm")), guest(name)).unwrap();
    copy(&source.join("plugin.toml"), &dir.path().join(format!("{name}.toml")));
    for entry in fs::read_dir(source.join("tests")).unwrap().map(Result::unwrap) {
        copy(&entry.path(), &tests.join(entry.file_name()));
    }
    dir
}

/// A project with the handler that uses all of the contract, and one test.
fn project(test: &Value) -> TempDir {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("tests")).unwrap();
    copy(&root().join("tests/fixtures/contract-0.1/handler.wasm"), &dir.path().join("handler.wasm"));
    fs::write(dir.path().join("tests/one.json"), serde_json::to_string_pretty(test).unwrap()).unwrap();
    dir
}

fn path(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_pass_their_golden_tests() {
    for name in ["redact", "urgent-only", "task-timer"] {
        let dir = example(name);
        let before: Vec<String> = tests_of(&dir, name);
        let at = |place: &str| dir.path().join(place).to_string_lossy().into_owned();
        for place in [at(name), at(&format!("{name}.wasm"))] {
            let output = plugin(&["test", &place], "").await;
            assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        }
        // What they expect is what `--update` would write.
        assert!(plugin(&["test", &at(name), "--update"], "").await.status.success());
        assert_eq!(tests_of(&dir, name), before);
    }
}

fn tests_of(dir: &TempDir, name: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.path().join(name).join("tests")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_says_where_and_updated_it_passes() {
    let dir = project(&json!({
        "description": "counts <twice>",
        "kv": {"count": 40},
        "events": [{"type": "fixture.a", "data": {"n": 1.50}}, {"type": "fixture.retry"}, {"type": "fixture.a", "data": 2}],
        "expect": [
            {"emitted": [{"type": "seen.all", "data": {"count": 42, "last": {"n": 1.5}}}, {"tags": ["seen"]}],
             "logs": ["seen", {"level": "debug"}, "seen", "seen", {"level": "error", "message": "seen"}],
             "kv": {"count": "42", "last": {"n": 1.5}, "gone": null}},
            {"failure": {"kind": "retry", "retry_after_ms": 7}, "kv": {"count": 42}},
            {"emitted": [{"data": {"count": 45}}, {}]},
        ],
    }));
    let junit = dir.path().join("junit.xml");
    let output = plugin(&["test", path(&dir), "--junit", junit.to_str().unwrap()], "").await;
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
    assert!(text.contains("/expect/2/emitted/0/data/count: event 3 (fixture.a): expected 45, found 44"), "{text}");
    let lines_of_diff = ["-         \"count\": 45", "+         \"count\": 44", "1 tests: 0 passed, 1 failed in"];
    assert!(lines_of_diff.iter().all(|line| text.contains(line)) && !text.contains('\u{1b}'), "{text}");
    let xml = fs::read_to_string(junit).unwrap();
    assert!(xml.contains("failures=\"1\"") && xml.contains("one.json: counts &lt;twice&gt;"), "{xml}");

    let file = dir.path().join("tests/one.json");
    let old: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let output = plugin(&["test", path(&dir), "--update"], "").await;
    assert!(output.status.success() && stdout(&output).starts_with("updated"), "{}", stdout(&output));
    let new: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((&new["events"], &new["expect"][1]), (&old["events"], &old["expect"][1]));
    assert_eq!(
        new["expect"][2],
        json!({"emitted": [{"data": {"count": 44}}, {}]}),
        "what is listed stays what is listed"
    );
    let output = plugin(&["test", path(&dir), "--json"], "").await;
    let told = lines(&output);
    assert_eq!((&told[0]["result"], &told[0]["events"]), (&json!("passed"), &json!(3)));
    assert_eq!((&told[1]["tests"], &told[1]["passed"]), (&json!(1), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_nobody_expects_and_a_limit_that_is_passed_fail_a_test() {
    for (test, problem) in [
        (json!({"events": [{"type": "fixture.retry"}], "expect": [{"emitted": []}]}), "/expect/0/failure: event 1"),
        (json!({"events": [{"type": "fixture.a"}], "expect": [{"fault": "fuel"}]}), "/expect/0/fault: event 1"),
        (json!({"events": [{"type": "fixture.a"}], "max_fuel": 1000}), "/max_fuel: event 1: expected at most 1000"),
        (json!({"events": [{"type": "fixture.a"}], "max_memory": 1}), "/max_memory: event 1: expected at most 1,"),
    ] {
        let output = plugin(&["test", path(&project(&test))], "").await;
        assert!(
            output.status.code() == Some(1) && stdout(&output).contains(problem),
            "{problem} in {}",
            stdout(&output)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_as_a_test_is_named_with_its_line() {
    let test = json!({"events": [{"type": "fixture.a"}], "max_fule": 1});
    let output = plugin(&["test", path(&project(&test))], "").await;
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("one.json: line 7: unknown field `max_fule`, expected one of"), "{text}");
    let dir = project(&json!({"description": "this one", "events": [{"type": "fixture.a"}]}));
    for (args, code) in [(vec![], 0), (vec!["--filter", "this"], 0), (vec!["--filter", "none"], 2)] {
        let args = [vec!["test", path(&dir)], args].concat();
        assert_eq!(plugin(&args, "").await.status.code(), Some(code), "{args:?}");
    }
    let nothing = tempdir().unwrap();
    let output = plugin(&["test", path(&nothing)], "").await;
    assert!(output.status.code() == Some(2) && stderr(&output).contains("build it first"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_load_is_no_failed_test_but_an_error_also_in_junit() {
    let dir = project(&json!({"events": [{"type": "fixture.a"}]}));
    fs::write(dir.path().join("handler.wasm"), wat::parse_str("(module)").unwrap()).unwrap();
    let junit = dir.path().join("junit.xml");
    for (place, problem) in [(path(&dir), "load.core-module"), ("nowhere", "found nothing at nowhere")] {
        let output = plugin(&["test", place, "--junit", junit.to_str().unwrap()], "").await;
        assert!(output.status.code() == Some(2) && stderr(&output).contains(problem), "{}", stderr(&output));
        let xml = fs::read_to_string(&junit).unwrap();
        assert!(xml.contains("errors=\"1\"") && xml.contains("<error message=") && xml.contains(problem), "{xml}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_hub_would_not_hand_over_is_told() {
    let dir = project(&json!({"events": [{"type": "task.a"}, {"type": "fixture.a"}]}));
    let test = async |expect: Value, code| {
        let test =
            json!({"events": [{"type": "task.a"}, {"type": "fixture.a"}], "expect": expect, "max_fuel": 90_000_000});
        fs::write(dir.path().join("tests/one.json"), test.to_string()).unwrap();
        let output = plugin(&["test", path(&dir)], "").await;
        assert_eq!(output.status.code(), Some(code), "{}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    let said = test(json!([{"emitted": []}, {}]), 1).await;
    let subscribed = "not asked: it subscribes to {\"event_types\":[\"fixture.*\"]";
    assert!(said.contains("/expect/0/not_asked: event 1 (task.a): ") && said.contains(subscribed), "{said}");
    test(json!([{"not_asked": true, "emitted": [], "kv": {"count": null}}, {"kv": {"count": 2}}]), 0).await;
    let said = test(json!([{"not_asked": true}, {"not_asked": true}]), 1).await;
    assert!(said.contains("/expect/1/not_asked: event 2 (fixture.a): expected true, found false"), "{said}");
    assert!(plugin(&["test", path(&dir), "--update"], "").await.status.success());
    let new: Value = serde_json::from_str(&tests_of(&dir, "")[0]).unwrap();
    assert_eq!(new["expect"][0], json!({"not_asked": true}), "{new}");
    // The operator's word goes before the plugin's.
    fs::write(dir.path().join("handler.toml"), "[[subscriptions]]\nevent_types = [\"task.*\"]\n").unwrap();
    test(json!([{"kv": {"count": 2}}, {"not_asked": true}]), 0).await;
    let file = dir.path().join("handler.wasm");
    let args = ["call", file.to_str().unwrap(), "--event", "-"];
    for (event, is_told) in [("{\"type\": \"fixture.a\"}", true), ("{\"type\": \"task.a\"}", false)] {
        let output = plugin(&args, event).await;
        let told = stderr(&output).contains("warning: the hub would not call it with this event: it subscribes to {");
        assert!(output.status.success() && told == is_told, "{event}: {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compiled_is_kept_for_the_next_time_where_there_is_a_place_for_it() {
    let (dir, file) = (tempdir().unwrap(), root().join("tests/fixtures/contract-0.1/handler.wasm"));
    let check = async |xdg: &str, home: &str| {
        let mut command = busway();
        command.args(["plugin", "check"]).arg(&file).env("XDG_CACHE_HOME", xdg).env("HOME", home);
        let output = within(command.output()).await.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let kept = |cache: &Path| fs::read_dir(cache).map_or(0, Iterator::count);
    let (xdg, home) = (dir.path().join("xdg"), dir.path().join("home"));
    assert_eq!(check(xdg.to_str().unwrap(), "").await, "");
    assert_eq!(kept(&xdg.join("busway")), 1);
    assert_eq!(check("not/absolute", home.to_str().unwrap()).await, "");
    assert_eq!(kept(&home.join(".cache/busway")), 1);
    assert_eq!(check("", "").await, "");
    fs::set_permissions(xdg.join("busway"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = check(xdg.to_str().unwrap(), "").await;
    assert!(said.contains("going on without what was compiled before") && said.contains("of mode 700"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_shows_each_host_call_in_the_order_of_time_and_those_that_were_denied() {
    let file = root().join("tests/fixtures/contract-0.1/handler.wasm");
    let file = file.to_str().unwrap();
    let event = r#"{"type":"fixture.a","data":[1]}"#;
    let args =
        ["call", file, "--event", "-", "--config", "greeting=hi", "--kv", "count=40", "--attempt", "3", "--trace"];
    let output = plugin(&args, event).await;
    let called: Value = serde_json::from_slice(&output.stdout).unwrap();
    let trace = called["said"]["trace"].as_array().unwrap();
    let about = |call: &Value| format!("{} {}", call["call"].as_str().unwrap(), call["about"].as_str().unwrap());
    let calls: Vec<String> = trace.iter().map(about).collect();
    let expected = [
        "log trace",
        "log debug",
        "log info",
        "log warn",
        "log error",
        "kv.set last",
        "kv.set gone",
        "kv.delete gone",
        "kv.increment count",
        "kv.get last",
        "kv.keys ",
        "config.get greeting",
        "publish seen.all",
        "publish other",
        "publish seen.bad",
        "publish seen.big",
        "publish seen.codes",
    ];
    assert_eq!(calls, expected);
    assert!(trace.is_sorted_by_key(|call| call["at_us"].as_u64().unwrap()), "{trace:?}");
    let denied: Vec<_> = trace.iter().filter(|call| call["denied"] == true).map(|call| &call["about"]).collect();
    assert_eq!(denied, ["other"]);
    assert_eq!((&trace[8]["answer"], &trace[11]["answer"]), (&json!("+2 = 42"), &json!("hi")));
    assert_eq!(called["kv_changes"]["count"], json!({"before": "40", "after": "42"}));
    assert_eq!(called["emitted"][0]["data"]["attempt"], 3);
    let (used, limits) = (&called["used"], &called["limits"]);
    assert!(used["fuel"].as_u64().unwrap() > 0 && used["fuel"].as_u64() < limits["fuel"].as_u64(), "{called}");

    let output = plugin(&args[..4], event).await;
    let called: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        called["said"].get("trace").is_none() && called["said"]["lines"].as_array().unwrap().len() == 5,
        "{called}"
    );
    let output = plugin(&args[..4], r#"{"type":"fixture.retry"}"#).await;
    let called: Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = json!({"code": "failure", "kind": "retry", "message": "later", "retry_after_ms": 7});
    assert_eq!((output.status.code(), &called["error"]), (Some(1), &error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_measures_fresh_and_reused_instances_in_one_run_and_counts_what_failed() {
    let file = root().join("tests/fixtures/contract-0.1/handler.wasm");
    let events = "{\"type\":\"fixture.a\"}\n{\"type\":\"fixture.retry\"}\n{\"type\":\"fixture.reject\"}\n{\"type\":\"fixture.b\"}\n";
    let args = ["bench", file.to_str().unwrap(), "--events", "-", "--calls", "40", "--concurrency", "2"];
    let output = plugin(&args, events).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let told = lines(&output).remove(0);
    for way in ["fresh", "reuse"] {
        let figures = &told[way];
        assert_eq!(
            (&figures["calls"], &figures["failures"]),
            (&json!(40), &json!({"reject": 10, "retry": 10})),
            "{told}"
        );
        assert_eq!(figures["ok"].as_u64().unwrap() + figures["conflicts"].as_u64().unwrap(), 20);
        assert_eq!(figures["emitted"].as_u64().unwrap(), 2 * figures["ok"].as_u64().unwrap());
        for spread in ["time_us", "fuel"].map(|name| &figures[name]) {
            let values = ["min", "p50", "p90", "p99", "max"].map(|place| spread[place].as_f64().unwrap());
            assert!(values.is_sorted() && values[0] > 0.0, "{spread}");
        }
        assert!(figures["memory"].as_u64().unwrap() >= 64 << 10 && figures["calls_per_second"].as_f64().unwrap() > 0.0);
    }
    let output = plugin(&args, "{\"type\":\"a\"}\n{}\n").await;
    assert!(output.status.code() == Some(1) && stderr(&output).contains("event 2"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_a_file_is_made_for_and_what_is_wrong_with_another() {
    let output = plugin(&["check", root().join("tests/fixtures/contract-0.1/filter.wasm").to_str().unwrap()], "").await;
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&checked["kind"], &checked["exports"]), (&json!("filter"), &json!("busway:plugin/filter@0.1.0")));
    assert!(checked["imports"].as_array().unwrap().contains(&json!("busway:plugin/logging@0.1.0")), "{checked}");
    let (needs, limits) = (&checked["needs"], &checked["limits"]);
    for what in ["fuel", "memory"] {
        let (needs, limit) = (needs[what].as_u64().unwrap(), limits[what].as_u64().unwrap());
        assert!(0 < needs && needs < limit, "{checked}");
    }
    let dir = tempdir().unwrap();
    let instance = |export: &str| format!("(component (instance $i) (export \"{export}\" (instance $i)))");
    let asks = "(component (import \"wasi:http/outgoing-handler@0.2.0\" (instance (export \"a\" (func)))) (instance $i) \
                (export \"busway:plugin/handler@0.1.0\" (instance $i)))";
    for (name, wat, problem) in [
        ("module", "(module)".to_owned(), "load.core-module: expected a component, found a core module: build for"),
        ("newer", instance("busway:plugin/filter@0.2.0"), "load.exports: built for contract 0.2.0, this hub knows 0.1"),
        ("empty", instance("busway:plugin/handler@0.1.0"), "expected describe: func() -> description, found nothing"),
        ("http", asks.to_owned(), "found wasi:http/outgoing-handler@0.2.0 (HTTP: a plugin has no network)"),
    ] {
        let file = dir.path().join(format!("{name}.wasm"));
        fs::write(&file, wat::parse_str(&wat).unwrap()).unwrap();
        let output = plugin(&["check", file.to_str().unwrap()], "").await;
        assert!(output.status.code() == Some(1) && stderr(&output).contains(problem), "{name}: {}", stderr(&output));
    }
}
