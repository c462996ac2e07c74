//! Files that nobody would write: random code behind every door of the contract, random components, and good files with bytes
//! that turned. Whatever comes of one is an answer or an error with a code, in time, and leaves nothing behind.

mod contract;
mod files;
mod process;

use crate::faults::random::Random;
use busway::{
    event::{Event, NewEvent},
    kv::{Quota, Store},
    plugin::{
        CallError, Compiler, Engine, EngineConfig, FailureKind, FaultCode, Kind, LoadError, Manifest, Params, Source,
        Stats, Version,
    },
};
use futures_util::{StreamExt, stream};
use process::Process;
use std::{
    collections::BTreeMap,
    fmt::Write,
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// `BUSWAY_RANDOM_FILES` says otherwise, for a long run.
const FILES: u64 = 2_000;
/// After so many, everything that is made once has been made.
const WARM: u64 = 200;
/// Every so many goes to a compiler of its own, as in a hub.
const CHILD: u64 = 25;
/// What a busy machine may add to a deadline.
const PATIENCE: Duration = Duration::from_secs(5);
const LOAD_CODES: [&str; 6] =
    ["load.not-wasm", "load.size", "load.compile", "load.imports", "load.exports", "load.describe"];

/// What is the same for all files.
struct Lab {
    here: Arc<Engine>,
    child: Arc<Engine>,
    events: Vec<Event>,
    files: files::Shapes,
    outcomes: Mutex<BTreeMap<String, usize>>,
    longest: Mutex<Duration>,
}

impl Lab {
    fn new() -> Self {
        let engine = |compiler| {
            let config = EngineConfig { compiler, max_instances: 64, ..EngineConfig::default() };
            Engine::new(config).expect("the machine has address space")
        };
        let event = |size: usize| {
            let event = NewEvent::new("task.created").correlation_id("c").source("s").tag("a").tag("b");
            event.data("x".repeat(size)).unwrap().admit().unwrap()
        };
        Self {
            here: engine(Compiler::Here),
            child: engine(Compiler::Child(env!("CARGO_BIN_EXE_busway-under-test").into())),
            events: [0, 7, 50_000].map(event).into(),
            files: files::Shapes::new(),
            outcomes: Mutex::default(),
            longest: Mutex::default(),
        }
    }

    async fn run(&self, seeds: Range<u64>) {
        stream::iter(seeds).for_each_concurrent(3, |seed| self.file(seed)).await;
    }

    async fn file(&self, seed: u64) {
        let mut random = Random::new(seed);
        let file = self.files.make(&mut random);
        let engine = if seed.is_multiple_of(CHILD) { &self.child } else { &self.here };
        let version = match load(engine, file.bytes, random.below(2) == 0).await {
            Ok(version) => version,
            Err(error) => {
                assert!(LOAD_CODES.contains(&error.code()), "file {seed} ({}): {}: {error}", file.what, error.code());
                no_panic(seed, &error.to_string());
                return self.count(format!("{} {}", file.what, error.code()));
            }
        };
        for event in &self.events {
            let (began, bytes) = (Instant::now(), event.weight());
            let outcome = call(&version, event).await;
            let (took, allowed) = (began.elapsed(), version.limits().deadline_for(bytes) + PATIENCE);
            assert!(took < allowed, "file {seed} ({}): {took:?} for {outcome:?}", file.what);
            let code = match outcome {
                Ok(()) => "ok",
                Err(CallError::Failure(failure)) if failure.kind == FailureKind::Retry => "failure retry",
                Err(CallError::Failure(_)) => "failure reject",
                Err(CallError::Fault(fault)) => {
                    no_panic(seed, &fault.message);
                    assert!(FaultCode::ALL.contains(&fault.code));
                    fault.code.as_str()
                }
            };
            self.count(format!("{} call {code}", file.what));
            let mut longest = self.longest.lock().unwrap();
            *longest = longest.max(took);
        }
    }

    fn count(&self, outcome: String) {
        *self.outcomes.lock().unwrap().entry(outcome).or_default() += 1;
    }

    fn report(&self) -> String {
        self.outcomes.lock().unwrap().iter().fold(String::new(), |mut text, (outcome, count)| {
            let _ = writeln!(text, "{count:6} {outcome}");
            text
        })
    }
}

async fn load(engine: &Arc<Engine>, bytes: Vec<u8>, reuse: bool) -> Result<Arc<Version>, LoadError> {
    let isolation = if reuse { "reuse" } else { "fresh" };
    let manifest = format!(
        "isolation = \"{isolation}\"\ngrants = {{ publish = [\"*\"], kv = true, config = [\"*\"] }}\n\
         [limits]\ndeadline = \"50ms\"\nfuel = 20_000_000\n"
    );
    let source = Source {
        name: "random".parse().unwrap(),
        bytes: bytes.into(),
        manifest: Manifest::parse(&manifest).unwrap(),
        generation: 1,
        namespace: Store::new(Quota::default()).namespace("random"),
        stats: Arc::new(Stats::default()),
    };
    Version::load(engine, source).await
}

async fn call(version: &Version, event: &Event) -> Result<(), CallError> {
    match version.kind() {
        Kind::Handler => version.handle(event, 1).await.map(drop),
        Kind::Filter => version.matches(event, &Params::default()).await.map(drop),
    }
}

/// Panics of the hub's own code and of the compiler are caught, and would look like an ordinary refusal.
#[track_caller]
fn no_panic(seed: u64, message: &str) {
    for word in ["panicked", "gave up", "crashed", "stopped after"] {
        assert!(!message.contains(word), "file {seed}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_file_is_it_ends_with_an_answer_or_a_code_and_leaves_nothing() {
    let wanted = std::env::var("BUSWAY_RANDOM_FILES").ok().and_then(|number| number.parse().ok());
    let (lab, files) = (Lab::new(), wanted.unwrap_or(FILES));
    let began = Instant::now();
    lab.run(0..WARM).await;
    let before = Process::now();
    lab.run(WARM..files).await;
    let after = Process::now();
    println!("{}", lab.report());
    println!("{files} files in {:?}, the longest call {:?}", began.elapsed(), lab.longest.lock().unwrap());
    println!("after {WARM}: {before:?}\nafter {files}: {after:?}");
    let codes = lab.report();
    // Else it is the files that are wrong, and the test shows nothing.
    for outcome in ["call ok", "call trap", "call fuel", "call lift", "load.describe", "load.compile"] {
        assert!(codes.contains(outcome), "nothing came to {outcome}:\n{codes}");
    }
    after.assert_near(&before);
}
