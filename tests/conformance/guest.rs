//! A plugin's bytes, loaded and called as the hub does it.

use super::BUSWAY;
use busway::{
    event::{Event, NewEvent},
    kv::{Namespace, Quota, Store},
    plugin::{
        CallError, Compiler, Effects, Engine, EngineConfig, Failure, Manifest, Params, Source, Stats, Transcript,
        Version,
    },
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// A plugin as it is called, and the memory that outlives its versions.
pub struct Guest {
    engine: Arc<Engine>,
    pub name: String,
    bytes: Arc<[u8]>,
    pub namespace: Arc<Namespace>,
}

/// StarlingMonkey takes some 15,000 for each byte that it hands over.
const FUEL: u64 = if cfg!(feature = "starling") { 20_000_000_000 } else { 1_000_000_000 };
/// Time is not the point here, and the host is not optimised. The largest event has to fit.
const LIMITS: &str = "[limits]\ndeadline = \"20s\"\nlog_lines = 10000\noutbox_bytes = \"2MiB\"\n";

impl Guest {
    pub fn new(name: &str, bytes: Vec<u8>) -> Self {
        let config = EngineConfig {
            compiler: Compiler::Child(BUSWAY.into()),
            cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
            max_instances: 20,
            ..EngineConfig::default()
        };
        let namespace = Store::new(Quota::default()).namespace(name);
        Self { engine: Engine::new(config).unwrap(), name: name.into(), bytes: bytes.into(), namespace }
    }

    pub async fn load(&self, generation: u64, manifest: &str) -> Arc<Version> {
        let source = Source {
            name: self.name.parse().unwrap(),
            bytes: self.bytes.clone(),
            manifest: Manifest::parse(&format!("{manifest}\n{LIMITS}fuel = {FUEL}\n")).unwrap(),
            generation,
            namespace: self.namespace.clone(),
            stats: Arc::new(Stats::default()),
        };
        Version::load(&self.engine, source).await.unwrap()
    }

    /// What it says to an event that it does not handle, or answer.
    pub async fn failure_of(&self, is_handler: bool) -> Failure {
        let (version, event) = (self.load(1, "").await, event("task.created", json!(null)).admit().unwrap());
        if is_handler { failure(handle(&version, &event, 1).await) } else { failure(ask(&version, &event, None).await) }
    }
}

/// Calls a handler, and commits what it did.
pub async fn handle(version: &Version, event: &Event, attempt: u32) -> Result<(Effects, Transcript), CallError> {
    let mut said = Transcript::default();
    let mut effects = version.handle_with(event, attempt, Some(&mut said)).await?;
    if let Some(writes) = effects.writes.take() {
        writes.commit().unwrap();
    }
    Ok((effects, said))
}

/// Asks a filter, with parameters or without.
pub async fn ask(version: &Version, event: &Event, params: Option<Value>) -> Result<(bool, Transcript), CallError> {
    let (mut said, params): (_, Params) = (Transcript::default(), version.check_params(params).await.unwrap());
    let verdict = version.matches_with(event, &params, Some(&mut said)).await?;
    Ok((verdict, said))
}

pub fn event(event_type: &str, data: Value) -> NewEvent {
    NewEvent::new(event_type).data(data).unwrap()
}

pub fn as_json(event: &Event) -> Value {
    serde_json::from_str(&event.to_json()).unwrap()
}

pub fn lines(said: &Transcript) -> Vec<&str> {
    said.lines.iter().map(|line| line.message.as_str()).collect()
}

#[track_caller]
pub fn failure<T>(result: Result<T, CallError>) -> Failure {
    match result {
        Err(CallError::Failure(failure)) => failure,
        Err(other) => panic!("a failure was expected, not {other}"),
        Ok(_) => panic!("a failure was expected"),
    }
}
