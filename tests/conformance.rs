//! The contract, kept by plugins in every language: a handler and a filter of the same behaviour in each (`plugins/*-counter`,
//! `plugins/*-tagged`), and what `busway plugin new` writes, built with `busway plugin build` and called as the hub calls them.

pub mod built;
mod filter;
mod guest;
mod handler;
#[cfg(feature = "starling")]
mod starling;

use built::{BUSWAY, built, busway, copy, project, root};
use filter::a_filter_keeps_the_contract;
use guest::Guest;
use handler::a_handler_keeps_the_contract;
use serde_json::Value;
use std::{fs, path::Path};

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
        let project = project(&name);
        // Where a build leaves it: this one may be from an earlier run.
        let out = project.join(".busway/out");
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join(format!("{name}.wasm")), bytes).unwrap();
        // Time is not the point here.
        let sidecar = project.join(format!("{name}.toml"));
        let patient = format!("{}\n[limits]\ndeadline = \"20s\"\n", fs::read_to_string(&sidecar).unwrap());
        fs::write(sidecar, patient).unwrap();
        let output = busway(&project).args(["plugin", "test", "--json"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
        let all: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&all["tests"], &all["passed"]), (&Value::from(2), &Value::from(2)), "{name}: {said}");
    }
}

/// What would be done only later is never done.
async fn an_async_function_is_a_failure_that_says_so(language: &str, file: &str, function: &str) {
    for (kind, name) in [("counter", "handle"), ("tagged", "matches")] {
        let plugin = format!("{language}-{kind}");
        let make = |dir: &Path| {
            copy(&plugin, dir);
            let source = fs::read_to_string(dir.join(file)).unwrap();
            let plain = format!("{function} {name}(");
            assert!(source.contains(&plain));
            fs::write(dir.join(file), source.replace(&plain, &format!("async {plain}"))).unwrap();
        };
        let Some(bytes) = built(&format!("{plugin}-async"), language, make) else { continue };
        let guest = Guest::new(&plugin, bytes);
        let failure = guest.failure_of(name == "handle").await;
        assert!(failure.message.contains("expected a plain function, found an async one"), "{plugin}: {failure:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn an_async_function_in_javascript_is_a_failure_that_says_so() {
    an_async_function_is_a_failure_that_says_so("js", "plugin.js", "function").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_function_in_python_is_a_failure_that_says_so() {
    an_async_function_is_a_failure_that_says_so("python", "plugin.py", "def").await;
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
    // kosoku builds nothing.
    for line in text("tests/toolchains/requirements.txt").lines().filter(|line| !line.starts_with("kosoku==")) {
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
