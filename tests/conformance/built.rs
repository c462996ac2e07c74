//! Projects built with `busway plugin build`, kept under target/conformance by what they were built from.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

pub const BUSWAY: &str = env!("CARGO_BIN_EXE_busway-under-test");

/// What besides a project decides what comes of it.
const AROUND: [&str; 10] = [
    "wit",
    "plugins/sdk",
    "plugins/templates",
    "host/src/cli/plugin",
    "host/build.rs",
    "host/Cargo.toml",
    // The versions of what makes bindings and components, and of what the SDK for Rust is built with.
    "Cargo.toml",
    "Cargo.lock",
    "tests/toolchains",
    "rust-toolchain.toml",
];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Where the toolchains are if `make toolchains` has installed them.
pub fn toolchains() -> PathBuf {
    Path::new(env!("TARGET_DIR")).join("toolchains")
}

/// `busway`, which finds the toolchains.
pub fn busway(dir: &Path) -> Command {
    let mut command = Command::new(BUSWAY);
    command.current_dir(dir).env("BUSWAY_TOOLCHAINS", toolchains()).env_remove("RUST_LOG");
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("caches"));
    // One directory for all Rust projects: the SDK is built once.
    command.env("CARGO_TARGET_DIR", Path::new(env!("TARGET_DIR")).join("conformance/cargo"));
    command
}

fn all() -> PathBuf {
    Path::new(env!("TARGET_DIR")).join("conformance")
}

/// Where a project is made.
pub fn project(what: &str) -> PathBuf {
    all().join("projects").join(what)
}

/// The component of a project that `make` puts into a directory; none where the toolchain is not installed.
pub fn built(what: &str, language: &str, make: impl FnOnce(&Path)) -> Option<Vec<u8>> {
    let (all, project) = (all(), project(what));
    let _ = fs::remove_dir_all(&project);
    fs::create_dir_all(&project).unwrap();
    make(&project);
    let kept = all.join(format!("{what}-{:016x}.wasm", key(&project, language)));
    if let Ok(bytes) = fs::read(&kept) {
        return Some(bytes);
    }
    // The versions that everything else here is built with; without it, cargo would ask the registry.
    if project.join("Cargo.toml").exists() {
        fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    }
    let out = all.join(format!(".{what}")).join("built.wasm");
    fs::create_dir_all(out.parent().unwrap()).unwrap();
    let output = busway(&project).args(["plugin", "build", "--out"]).arg(&out).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && ["install it with", "target may not be installed"].iter().any(|no| said.contains(no))
    {
        assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "`make toolchains` comes first: {said}");
        println!("{what} is left out: its toolchain is not installed; `make toolchains` does it");
        return None;
    }
    assert!(output.status.success(), "{what}: {said}");
    forget_older(&all, what);
    fs::rename(out, &kept).unwrap();
    Some(fs::read(kept).unwrap())
}

/// What the same project was before.
fn forget_older(all: &Path, what: &str) {
    for file in fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_string_lossy();
        let key = name.strip_prefix(what).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".wasm"));
        if key.is_some_and(|key| key.len() == 16) {
            fs::remove_file(&file).unwrap();
        }
    }
}

/// A project of this repository, as it is.
pub fn copy(project: &str, to: &Path) {
    for (path, bytes) in files(&root().join("plugins").join(project)) {
        fs::create_dir_all(to.join(&path).parent().unwrap()).unwrap();
        fs::write(to.join(path), bytes).unwrap();
    }
}

/// Everything below a directory but what tools leave there, in the order of the names.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        if !next.is_dir() {
            found.push((next.strip_prefix(dir).unwrap().to_owned(), fs::read(&next).unwrap()));
            continue;
        }
        let entries = fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path());
        let tools = ["target", "node_modules", ".busway", "__pycache__", ".venv"];
        left.extend(entries.filter(|path| !tools.iter().any(|name| path.ends_with(name))));
    }
    found.sort();
    found
}

fn key(project: &Path, language: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (language, files(project)).hash(&mut hasher);
    for around in AROUND {
        let (parent, prefix) = around.rsplit_once('/').unwrap_or((".", around));
        let entries = fs::read_dir(root().join(parent)).unwrap().map(|entry| entry.unwrap());
        // `plugins/sdk` stands for every SDK, `host/src/cli/plugin` also for the file of that name.
        let mut paths: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() { files(&path).hash(&mut hasher) } else { fs::read(path).unwrap().hash(&mut hasher) }
        }
    }
    hasher.finish()
}
