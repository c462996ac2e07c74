//! What a call of a plugin costs in the hub, beside the same call on wasmtime alone, in the same run.
//!
//! criterion keeps each figure and compares it with the run before. The table at the end takes both sides in turns, a few
//! milliseconds each, so that whatever else the machine does hits both; its ratios are what the targets are about.
//! `-- languages` compares the languages that plugins are written in instead, `-- languages rust-tagged` one of their plugins.

#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]

mod bare;
#[path = "../shared/guests.rs"]
mod guests;
mod languages;
#[path = "../shared/sample.rs"]
mod sample;

use bare::Bare;
use busway::{
    event::Event,
    kv::{Quota, Store},
    plugin::{Engine, EngineConfig, Isolation, Kind, Manifest, Params, Source, Version},
};
use criterion::Criterion;
use sample::median;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns of each side in the table.
const TURNS: usize = 80;
/// Whatever else the machine does, no call is to be ended.
const LIMITS: &str = "[limits]\ndeadline = \"10s\"\n[grants]\npublish = [\"*\"]\nkv = true\n";

/// One side of a comparison.
#[derive(Clone)]
struct Side {
    callee: Callee,
    event: Arc<Event>,
}

#[derive(Clone)]
enum Callee {
    /// Wasmtime alone; whether the instance is used again.
    Bare(Arc<Bare>, Isolation),
    Hub(Arc<Version>),
    /// A filter, as a view asks it about the events of a batch.
    InARow(Arc<Version>),
}

struct Comparison {
    name: &'static str,
    bare: Side,
    hub: Side,
    calls: u64,
    target: f64,
}

impl Side {
    /// How long `calls` calls take, one after the other, in a task as in the hub.
    async fn run(self, calls: u64) -> Duration {
        let event = &*self.event;
        let none = Params::default();
        let mut kept = match &self.callee {
            Callee::Bare(bare, Isolation::Reuse) => Some(bare.instance().await),
            _ => None,
        };
        if let Callee::InARow(version) = &self.callee {
            return in_a_row(version, event, calls).await;
        }
        let began = Instant::now();
        for _ in 0..calls {
            match (&self.callee, &mut kept) {
                (Callee::Bare(..), Some(live)) => live.call(event).await,
                (Callee::Bare(bare, _), None) => bare.instance().await.call(event).await,
                (Callee::Hub(version), _) if version.kind() == Kind::Filter => {
                    assert_eq!(version.matches(event, &none).await, Ok(true));
                }
                (Callee::Hub(version) | Callee::InARow(version), _) => {
                    drop(version.handle(event, 1).await.expect("handled"))
                }
            }
        }
        began.elapsed()
    }
}

async fn in_a_row(version: &Version, event: &Event, calls: u64) -> Duration {
    let (none, mut left) = (Params::default(), calls);
    let began = Instant::now();
    while left > 0 {
        let mut asking = version.ask(&none).await;
        while left > 0 {
            left -= 1;
            assert_eq!(asking.matches(event).await, Ok(true));
            if !asking.may_go_on() {
                break;
            }
        }
    }
    began.elapsed()
}

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let [first, named @ ..] = &args[..]
        && first == "languages"
    {
        return languages::table(&runtime, named);
    }
    let comparisons = comparisons(&runtime);
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for Comparison { name, bare, hub, .. } in &comparisons {
        let mut group = criterion.benchmark_group(*name);
        for (side, label) in [(bare, "wasmtime"), (hub, "busway")] {
            group.bench_function(label, |bencher| bencher.iter_custom(|calls| run(&runtime, side, calls)));
        }
        group.finish();
    }
    criterion.final_summary();
    // Some were asked for by name: it is one of those that matters, with a profiler as a rule.
    if !args.is_empty() {
        return;
    }
    println!(
        "\n| call, event with 256 B of data | wasmtime alone | in the hub | ratio | target |\n|---|---|---|---|---|"
    );
    for comparison in &comparisons {
        in_turns(&runtime, comparison);
    }
}

fn run(runtime: &Runtime, side: &Side, calls: u64) -> Duration {
    runtime.block_on(runtime.spawn(side.clone().run(calls))).expect("no panic")
}

fn in_turns(runtime: &Runtime, comparison: &Comparison) {
    let Comparison { name, bare, hub, calls, target } = comparison;
    let (mut alone, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let [bare, hub] = [bare, hub].map(|side| run(runtime, side, *calls).as_secs_f64() * 1e6 / *calls as f64);
        alone.push(bare);
        ours.push(hub);
        ratios.push(hub / bare);
    }
    let (alone, ours, ratio) = (median(&mut alone), median(&mut ours), median(&mut ratios));
    println!("| {name} | {alone:.2} µs | {ours:.2} µs | {ratio:.2} | ≤ {target} |");
}

fn comparisons(runtime: &Runtime) -> Vec<Comparison> {
    let engine = Engine::new(EngineConfig::default()).expect("the machine has address space");
    let [filter, handler] = ["urgent-only", "probe"].map(|plugin| {
        let bytes: Arc<[u8]> = guests::guest(plugin).into();
        let load = |isolation| {
            let source = Source {
                name: plugin.parse().expect("a name"),
                bytes: bytes.clone(),
                manifest: Manifest { isolation: Some(isolation), ..Manifest::parse(LIMITS).expect("a manifest") },
                generation: 1,
                namespace: Store::new(Quota::default()).namespace(plugin),
                stats: Arc::default(),
            };
            runtime.block_on(Version::load(&engine, source)).expect("it loads")
        };
        (Arc::new(Bare::new(&bytes, plugin == "probe")), load(Isolation::Reuse), load(Isolation::Fresh))
    });
    let data = sample::data();
    let compare = |name, bare: &Arc<Bare>, isolation, hub, event| {
        let event = Arc::new(sample::event(event, &data).admit().expect("a good event"));
        let side = |callee| Side { callee, event: event.clone() };
        let (calls, target) = if isolation == Isolation::Reuse { (4_000, 1.15) } else { (400, 1.25) };
        Comparison { name, bare: side(Callee::Bare(bare.clone(), isolation)), hub: side(hub), calls, target }
    };
    let reused = |name, bare, hub, event| compare(name, bare, Isolation::Reuse, hub, event);
    let fresh = |name, bare, hub, event| compare(name, bare, Isolation::Fresh, Callee::Hub(hub), event);
    let (filter, filter_reused, filter_fresh) = filter;
    let (handler, handler_reused, handler_fresh) = handler;
    let (in_a_row, counting) = (Callee::InARow(filter_reused.clone()), Callee::Hub(handler_reused.clone()));
    // The probe does nothing with events of a type that it does not know.
    vec![
        reused("filter, reused instance, in a row", &filter, in_a_row, "task.created"),
        reused("filter, reused instance", &filter, Callee::Hub(filter_reused), "task.created"),
        fresh("filter, fresh instance", &filter, filter_fresh, "task.created"),
        reused("handler, reused instance", &handler, Callee::Hub(handler_reused), "probe.nothing"),
        fresh("handler, fresh instance", &handler, handler_fresh, "probe.nothing"),
        reused("handler that counts in kv and publishes, reused instance", &handler, counting, "probe.count"),
    ]
}
