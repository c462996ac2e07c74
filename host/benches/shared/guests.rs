//! Builds the plugins that a benchmark loads, as an author's release: the `guest` profile, a target directory of its own.

use std::{env, fs, path::PathBuf, process::Command};

/// The bytes of the plugin of the package `name`, built if need be.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("target/guests");
    let mut cargo = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo
        .current_dir(&root)
        .args(["build", "--quiet", "--locked", "--profile", "guest", "--target", "wasm32-wasip2", "--package", name])
        .arg("--target-dir")
        .arg(&target);
    // What the cargo that runs us says to its own compiler is not meant for the guests' one.
    for (key, _) in env::vars().filter(|(key, _)| key.starts_with("CARGO") && key != "CARGO_HOME") {
        cargo.env_remove(key);
    }
    let built = cargo.env_remove("RUSTFLAGS").status().expect("cargo runs");
    assert!(built.success(), "{name} does not build: is the target there? `rustup target add wasm32-wasip2`");
    let file = target.join("wasm32-wasip2/guest").join(format!("{}.wasm", name.replace('-', "_")));
    fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
