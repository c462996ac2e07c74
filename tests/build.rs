//! Builds the guests that the tests load, with a target directory of their own, so that this build of cargo does not wait for
//! the one that runs it; the disk that fails when it is told to; and the kernel that has no Landlock.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const GUESTS: [&str; 5] = ["probe", "urgent-only", "task-timer", "redact", "github-digest"];

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("..");
    for guest in GUESTS.into_iter().chain(["sdk"]) {
        let folder = if guest == "probe" { "tests/fixtures" } else { "plugins" };
        println!("cargo:rerun-if-changed={}", root.join(folder).join(guest).display());
    }
    for path in ["wit", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    // The directory of the build that runs this one lies above its `OUT_DIR`: <target>/<profile>/build/<package>/out.
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    let shared = out.ancestors().nth(4).expect("cargo's own layout").to_owned();
    let target = shared.join("guests");
    let mut cargo = Command::new(env::var("CARGO").expect("set by cargo"));
    cargo
        .current_dir(&root)
        .args(["build", "--locked", "--profile", "guest", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target);
    for guest in GUESTS {
        cargo.args(["--package", guest]);
    }
    // What this build of cargo says to its own compiler is not meant for the guests' one.
    for (name, _) in env::vars() {
        if name.starts_with("CARGO") && name != "CARGO_HOME" || name == "RUSTC_WRAPPER" || name == "RUSTFLAGS" {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the guests do not build: is the target there? `rustup target add wasm32-wasip2`");
    let built = target.join("wasm32-wasip2/guest");
    let fixtures = root.join("tests/fixtures");
    // A library to be loaded into the program.
    let faulty_disk = ["-shared", "-fPIC", "-ldl"];
    compile(&fixtures.join("faultfs.c"), &out.join("faultfs.so"), "FAULTFS", &faulty_disk);
    compile(&fixtures.join("without-landlock.c"), &out.join("without-landlock"), "WITHOUT_LANDLOCK", &[]);
    println!("cargo:rustc-env=TARGET_DIR={}", shared.display());
    println!("cargo:rustc-env=GUESTS={}", built.canonicalize().expect("it was just made").display());
}

/// There is a C compiler: SQLite was built with it. The tests find what it made under `name`.
fn compile(source: &Path, made: &Path, name: &str, options: &[&str]) {
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed=CC");
    // It may be more than a name: `ccache cc`.
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut words = compiler.split_whitespace();
    let mut cc = Command::new(words.next().unwrap_or("cc"));
    cc.args(words).args(["-O1", "-Wall", "-o"]).arg(made).arg(source).args(options);
    assert!(cc.status().expect("there is a C compiler").success(), "{cc:?}");
    println!("cargo:rustc-env={name}={}", made.display());
}
