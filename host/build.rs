//! Packs the plugin contract, the SDKs and the templates into the program, for `busway plugin new` and `busway plugin build`.

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// What of the repository is packed. `sdk` stands for every SDK: `sdk`, `sdk-c`, `sdk-go` …
const PACKED: [&str; 3] = ["wit", "plugins/sdk", "plugins/templates"];
/// What tools leave behind.
const LEFT: [&str; 6] = ["target", "node_modules", ".busway", "__pycache__", ".venv", "Cargo.lock"];

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("..");
    let root = root.canonicalize().expect("it is there");
    let mut files = Vec::new();
    for place in PACKED {
        let (parent, prefix) = place.rsplit_once('/').unwrap_or((".", place));
        let folders =
            fs::read_dir(root.join(parent)).expect("part of the repository").map(|entry| entry.expect("read"));
        for folder in folders.filter(|folder| folder.file_name().to_string_lossy().starts_with(prefix)) {
            println!("cargo:rerun-if-changed={}", folder.path().display());
            collect(&folder.path(), &mut files);
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
    files.sort();
    let mut table = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&root).expect("below it").to_string_lossy().replace('\\', "/");
        let name = name.strip_prefix("./").unwrap_or(&name);
        writeln!(table, "    ({name:?}, include_str!({:?})),", file.display().to_string()).expect("into memory");
    }
    table.push(']');
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo")).join("packed.rs");
    fs::write(out, table).expect("cargo's own directory");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("read")) {
        let path = entry.path();
        if LEFT.contains(&entry.file_name().to_string_lossy().as_ref()) {
            continue;
        }
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}
