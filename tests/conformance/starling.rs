//! The plugins in JavaScript once more, in StarlingMonkey in place of QuickJS: see `make starling`.

use super::{
    built::{built, copy, project, toolchains},
    filter::a_filter_keeps_the_contract,
    handler::a_handler_keeps_the_contract,
};
use std::{fs, path::Path, process::Command};

#[tokio::test(flavor = "multi_thread")]
async fn js_in_starlingmonkey_keeps_the_contract() {
    a_handler_keeps_the_contract("js-counter", componentized("js-counter", "handler-plugin")).await;
    a_filter_keeps_the_contract("js-tagged", componentized("js-tagged", "filter-plugin")).await;
}

/// `busway plugin build` writes what stands between plugin and contract; then the other engine takes the same sources.
fn componentized(plugin: &str, world: &str) -> Vec<u8> {
    let what = format!("{plugin}-starling");
    // Where the component is known already, the sources are not written again.
    let make = |dir: &Path| {
        copy(plugin, dir);
        let built = super::busway(dir).args(["plugin", "build"]).output().unwrap();
        assert!(built.status.success(), "`make toolchains` comes first: {}", String::from_utf8_lossy(&built.stderr));
    };
    built(&what, "js", make).expect("`make toolchains` comes first");
    let sdk = project(&what).join(".busway/sdk");
    let out = sdk.join("starling.wasm");
    let mut jco = Command::new(toolchains().join("npm/node_modules/.bin/jco"));
    jco.current_dir(&sdk).args(["componentize", "main.ts", "--wit", "../wit", "--world-name", world]);
    let output = jco.args(["--disable", "all", "-o"]).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(out).unwrap()
}
