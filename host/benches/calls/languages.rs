//! The same two plugins in each language, `plugins/<language>-counter` and `-tagged`, as `tests/conformance.rs` has built them: size,
//! time to compile and to load what was compiled, calls, fuel and memory. Each call is also made on wasmtime alone.

use super::{Callee, Side, bare::Bare, run, sample};
use busway::{
    event::Event,
    kv::{Quota, Store},
    plugin::{Engine, EngineConfig, Isolation, Kind, Manifest, Source, Version},
};
use sample::median;
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::runtime::Runtime;

const LANGUAGES: [&str; 9] = ["rust", "c", "cpp", "zig", "assemblyscript", "go", "js", "ts", "python"];
/// Turns of each side.
const TURNS: usize = 30;
/// About so long each.
const TURN: Duration = Duration::from_millis(20);
/// The largest events are not among those that are measured, and no call is to be ended.
const LIMITS: &str = "[limits]\ndeadline = \"10s\"\nfuel = 1000000000\n[grants]\npublish = [\"*\"]\nkv = true\n";

/// Of all, or of those that are named.
pub(crate) fn table(runtime: &Runtime, named: &[String]) {
    println!(
        "| plugin | KB | compiled | from the cache | fresh call | reused call | wasmtime alone, fresh / reused | fuel | memory |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for language in LANGUAGES {
        for what in ["counter", "tagged"] {
            let name = format!("{language}-{what}");
            if !named.is_empty() && !named.contains(&name) {
                continue;
            }
            match component(&name) {
                Some(bytes) => row(runtime, &name, &bytes.into()),
                None => println!("| {name} | not built: `make toolchains`, then the tests of `conformance` |"),
            }
        }
    }
}

/// What the tests built last.
fn component(name: &str) -> Option<Vec<u8>> {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let files = fs::read_dir(target.join("conformance")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |file: &PathBuf| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let key = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".wasm"));
        key.is_some_and(|key| key.len() == 16)
    };
    let changed =
        |file: &PathBuf| fs::metadata(file).and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    fs::read(files.filter(is_it).max_by_key(changed)?).ok()
}

fn row(runtime: &Runtime, name: &str, bytes: &Arc<[u8]>) {
    let cache = tempfile::tempdir().expect("a directory");
    let config = || EngineConfig { cache: Some(cache.path().join("cache")), ..EngineConfig::default() };
    let load = |isolation| {
        let engine = Engine::new(config()).expect("the machine has address space");
        let manifest = Manifest { isolation: Some(isolation), ..Manifest::parse(LIMITS).expect("a manifest") };
        let source = Source {
            name: name.parse().expect("a name"),
            bytes: bytes.clone(),
            manifest,
            generation: 1,
            namespace: Store::new(Quota::default()).namespace(name),
            stats: Arc::default(),
        };
        let began = Instant::now();
        let version = runtime.block_on(Version::load(&engine, source)).expect("it loads");
        (version, began.elapsed().as_secs_f64() * 1e3)
    };
    let (fresh, compiled) = load(Isolation::Fresh);
    let (reused, cached) = load(Isolation::Reuse);
    let event = Arc::new(sample::event("task.created", &sample::data()).admit().expect("a good event"));
    let bare = Arc::new(Bare::new(bytes, fresh.kind() == Kind::Handler));
    // A filter is asked as a view does that has a batch before it.
    let again = if fresh.kind() == Kind::Filter { Callee::InARow(reused.clone()) } else { Callee::Hub(reused.clone()) };
    let [(fresh_us, fresh_ratio), (reused_us, reused_ratio)] =
        [(Callee::Hub(fresh), Isolation::Fresh), (again, Isolation::Reuse)]
            .map(|(hub, isolation)| in_turns(runtime, &event, hub, Callee::Bare(bare.clone(), isolation)));
    let counts = reused.stats().counts();
    println!(
        "| {name} | {} | {compiled:.0} ms | {cached:.1} ms | {fresh_us:.1} µs | {reused_us:.2} µs | {fresh_ratio:.2} × / {reused_ratio:.2} × | {:.0} | {} KiB |",
        bytes.len() / 1_000,
        counts.fuel.p50,
        counts.memory_peak >> 10
    );
}

/// Microseconds of a call, and how many times as long that is as alone.
fn in_turns(runtime: &Runtime, event: &Arc<Event>, hub: Callee, alone: Callee) -> (f64, f64) {
    let [hub, alone] = [hub, alone].map(|callee| Side { callee, event: event.clone() });
    // Not the first: that one makes the instances.
    let once = (0..2).map(|_| run(runtime, &hub, 20) / 20).last().unwrap_or_default();
    let many = (TURN.as_secs_f64() / once.as_secs_f64()).clamp(3.0, 20_000.0) as u64;
    let time = |side| run(runtime, side, many).as_secs_f64() * 1e6 / many as f64;
    let (mut ours, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let alone = time(&alone);
        let hub = time(&hub);
        ours.push(hub);
        ratios.push(hub / alone);
    }
    (median(&mut ours), median(&mut ratios))
}
