//! The plugins in JavaScript once more, in StarlingMonkey in place of QuickJS: see `make starling`.

use super::{
    built::{busway, copy, project, toolchains},
    filter::a_filter_keeps_the_contract,
    handler::a_handler_keeps_the_contract,
};
use std::{fs, process::Command};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_in_starlingmonkey_keeps_the_contract() {
    a_handler_keeps_the_contract("js-counter", componentized("js-counter", "handler-plugin")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_in_starlingmonkey_keeps_the_contract() {
    a_filter_keeps_the_contract("js-tagged", componentized("js-tagged", "filter-plugin")).await;
}

/// `busway plugin build` puts the SDK and the contract beside the plugin; then the other engine takes the same sources.
fn componentized(plugin: &str, world: &str) -> Vec<u8> {
    let project = project(&format!("{plugin}-starling"));
    let _ = fs::remove_dir_all(&project);
    copy(plugin, &project);
    run(busway(&project).args(["plugin", "build"]));
    let sdk = project.join(".busway/sdk");
    let mut jco = Command::new(toolchains().join("npm/node_modules/.bin/jco"));
    jco.current_dir(&sdk).args(["componentize", "main.ts", "--wit", "../wit", "--world-name", world]);
    // Without WASI, as there is nothing behind it.
    run(jco.args(["--backend", "starlingmonkey", "--disable", "all", "-o", "starling.wasm"]));
    fs::read(sdk.join("starling.wasm")).unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().expect("`make toolchains` comes first");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
