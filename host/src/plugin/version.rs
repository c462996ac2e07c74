//! One version of one plugin: what becomes of a file's bytes, and what a call of it is.
//!
//! A version is made once and never changes: found → hash → gate → compile or cache → link → describe → self-check →
//! ready. Whoever holds it may go on calling it, whatever the registry does meanwhile. Knows nothing of directories, of
//! other versions or of what happens with the effects of a call.

mod ask;
mod link;
mod signature;
mod terms;
mod wanted;

pub use ask::{Asking, Params};

use super::convert::{self, Lists};
use super::description::Description;
use super::engine::{self, Engine, Hash};
use super::fault::{CallError, Failure, FailureKind, Fault, LoadError};
use super::grants::Grants;
use super::host::{Context, Transcript};
use super::instance::{Answer, Budget, Ended, Instances, Linked, Question, Usage};
use super::limits::Limits;
use super::load_marker::MarkedLoad;
use super::manifest::{Isolation, Manifest, OnError, OrderBy};
use super::stats::{Outcome, Stats};
use super::{Kind, Name};
use crate::event::{Event, EventFilter};
use crate::kv::{Namespace, Transaction};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// What a version is made of.
#[derive(Debug, Clone)]
pub struct Source {
    /// The plugin's name.
    pub name: Name,
    /// The file, read once.
    pub bytes: Arc<[u8]>,
    /// The operator's word.
    pub manifest: Manifest,
    /// Counts the versions of a name, from 1.
    pub generation: u64,
    /// The plugin's own memory.
    pub namespace: Arc<Namespace>,
    /// The plugin's statistics.
    pub stats: Arc<Stats>,
}

/// A version that is ready.
pub struct Version {
    name: Name,
    hash: Hash,
    sha256: String,
    size: usize,
    generation: u64,
    description: Arc<Description>,
    described: Usage,
    manifest: Manifest,
    grants: Grants,
    limits: Limits,
    isolation: Isolation,
    /// Most that the hub allows, whatever a sidecar says.
    max_memory: usize,
    instances: Instances,
    /// Of a filter: of those who ask, so many at once. A handler's lane counts its own.
    turns: Semaphore,
    stats: Arc<Stats>,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Version");
        shown.field("name", &self.name).field("generation", &self.generation).field("sha256", &self.sha256);
        shown.finish_non_exhaustive()
    }
}

/// What a handler did, not done yet: its caller commits all of it or nothing (I8).
#[derive(Debug)]
pub struct Effects {
    /// Events to publish, in order; their `seq` is 0.
    pub outbox: Vec<Event>,
    /// What it read and would write; none if it did not use its memory. Boxed: most do not, and it is moved about.
    pub writes: Option<Box<Transaction>>,
    /// What the call used up.
    pub usage: Usage,
}

impl Version {
    /// Makes a version ready. Nothing of it is seen by anybody before this returns.
    ///
    /// # Errors
    /// The first step that fails, with a stable code and a text that says what was expected.
    pub async fn load(engine: &Arc<Engine>, source: Source) -> Result<Arc<Self>, LoadError> {
        Self::load_marked(engine, source, &MarkedLoad::UNMARKED).await
    }

    /// As [`Version::load`]; what is done in this process is a step of `load`.
    ///
    /// # Errors
    /// As [`Version::load`].
    pub(super) async fn load_marked(
        engine: &Arc<Engine>,
        source: Source,
        load: &MarkedLoad,
    ) -> Result<Arc<Self>, LoadError> {
        let Source { name, bytes, manifest, generation, namespace, stats } = source;
        let whole = bytes.clone();
        // 64 MiB take a while.
        let hash = engine::blocking(move || Hash::of(&whole)).await?;
        let component = engine.compile(&bytes, hash, load).await?;
        let linked = load.step(async { link::link(engine, &component) }).await?;
        let max_memory = engine.config().max_memory;
        let limits = terms::limits(&linked, &manifest, max_memory)?;
        let context = Context {
            source: name.as_source(),
            name: name.clone(),
            grants: Grants::while_loading(manifest.grants.clone()),
            config: BTreeMap::new(),
            limits: limits.of_load(),
            namespace,
            stats: Arc::clone(&stats),
            throttle: Arc::default(),
            engine: Arc::clone(engine),
            tempo: Arc::default(),
        };
        let (mut description, described) = describe(&name, linked.clone(), context.clone(), load).await?;
        description.asked.capabilities.extend(link::imported(engine, &component));
        load.step(terms::check_config(engine, &description, &manifest)).await?;
        let (context, keep, isolation) = terms::apply(&description, &manifest, &limits, &context)?;
        Ok(Arc::new(Self {
            grants: context.grants.clone(),
            instances: Instances::new(linked, Arc::new(context), keep),
            turns: Semaphore::new(manifest.concurrency),
            sha256: hash.to_hex(),
            size: bytes.len(),
            name,
            hash,
            generation,
            description: Arc::new(description),
            described,
            manifest,
            limits,
            isolation,
            max_memory,
            stats,
        }))
    }

    /// Calls the handler. Nothing that it did has happened when this returns: see [`Effects`].
    ///
    /// `attempt` is 1 for the first time. Dropping the future ends the call.
    ///
    /// # Errors
    /// What the handler says, or why the sandbox ended it.
    pub fn handle(&self, event: &Event, attempt: u32) -> impl Future<Output = Result<Effects, CallError>> + Send {
        self.handle_with(event, attempt, None)
    }

    /// As [`Version::handle`], and shows what the handler said meanwhile.
    ///
    /// # Errors
    /// As [`Version::handle`].
    pub async fn handle_with(
        &self,
        event: &Event,
        attempt: u32,
        transcript: Option<&mut Transcript>,
    ) -> Result<Effects, CallError> {
        let lists = Lists::of(event);
        let budget = self.budget(event);
        let mut calls = self.instances.calls();
        let Ended { answer, usage } = calls.call(Question::Handle(&lists, attempt), &budget, transcript).await;
        let result = match answer {
            Ok(Answer::Handled(Ok(()))) => {
                let (outbox, writes) = calls.effects(event);
                Ok(Effects { outbox, writes, usage })
            }
            Ok(Answer::Handled(Err(failure))) => Err(convert::failure(failure).into()),
            Ok(_) => Err(self.wrong_kind().into()),
            Err(fault) => Err(fault.into()),
        };
        let outcome = match &result {
            Ok(effects) => Outcome::Handled { emitted: effects.outbox.len() },
            Err(error) => Outcome::Error(error),
        };
        self.stats.record(&outcome, &usage, &self.sha256);
        result
    }

    /// Counts a call whose effects were refused as part of a loop, after it had returned ok.
    pub(super) fn looped(&self, message: &str) {
        self.stats.looped(message, &self.sha256);
    }

    #[inline]
    fn budget(&self, event: &Event) -> Budget {
        let bytes = event.weight();
        Budget { fuel: self.limits.fuel_for(bytes), deadline: self.limits.deadline_for(bytes) }
    }

    fn wrong_kind(&self) -> Failure {
        let message = format!("plugin {} is a {}", self.name, self.kind().as_str());
        Failure { kind: FailureKind::Reject, message, retry_after_ms: None }
    }
}

/// What can be read off a version.
impl Version {
    /// The plugin's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.description.kind
    }

    /// Of its file.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Of its file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Bytes of its file.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Counts the versions of a name, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What that took, start code included.
    pub fn described(&self) -> Usage {
        self.described
    }

    /// The operator's word.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it may do.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What a call may use up.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether instances are kept from call to call.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Which events are handled one after another; none: as they come.
    pub fn order_by(&self) -> Option<OrderBy> {
        self.manifest.order_by.or(self.description.order_by)
    }

    /// For a version that is called, and not for one that is not any more: whether its instances may wait for a call.
    pub(super) fn keep_instances(&self, keep: bool) {
        self.instances.set_retired(!keep);
    }

    /// The threads that its next call belongs on, where that is not the caller's own: its calls have been long, or are not known yet.
    #[inline]
    pub fn threads(&self) -> Option<&Handle> {
        let context = self.instances.context();
        context.tempo.is_slow().then(|| context.engine.slow().handle())
    }

    /// Calls at once.
    pub fn concurrency(&self) -> usize {
        if self.order_by() == Some(OrderBy::Seq) { 1 } else { self.manifest.concurrency }
    }

    /// Any of these matches: the operator's, else the plugin's.
    pub fn subscriptions(&self) -> &[EventFilter] {
        self.manifest.subscriptions.as_deref().unwrap_or(&self.description.subscriptions)
    }

    /// What it means that this filter gives no answer.
    pub fn on_error(&self) -> OnError {
        self.manifest.on_error
    }

    /// What calls of it are counted in.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The plugin's memory.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.instances.context().namespace
    }
}

async fn describe(
    name: &Name,
    linked: Linked,
    context: Context,
    load: &MarkedLoad,
) -> Result<(Description, Usage), LoadError> {
    let budget = Budget { fuel: context.limits.fuel, deadline: context.limits.deadline };
    let engine = Arc::clone(&context.engine);
    let slow = engine.slow().handle().clone();
    // Whatever its start code does, those who are at work do not notice.
    let ask = async move {
        Instances::new(linked, Arc::new(context), 0).calls().call(Question::Describe, &budget, None).await
    };
    let ended = load.step(async { slow.spawn(ask).await }).await.map_err(engine::panicked)?;
    let (name, usage) = (name.clone(), ended.usage);
    let schema = match &ended.answer {
        Ok(Answer::Handler(said)) => Description::config_schema_of(&said.hints),
        Ok(Answer::Filter(said)) => said.params_schema.as_deref(),
        _ => None,
    };
    if let Some(schema) = schema {
        engine.config().compiler.try_schema(schema).await?;
    }
    // A schema of many patterns takes a while to compile, and nothing on the way would give the thread back.
    let check = move || match ended.answer {
        Ok(Answer::Handler(said)) => Ok(Description::of_handler(&name, *said)),
        Ok(Answer::Filter(said)) => Ok(Description::of_filter(&name, *said)),
        Ok(_) => Ok(Err("it answered another question".into())),
        Err(Fault { code, message, .. }) => {
            Err(LoadError::Describe(format!("its start or `describe` faulted: {code}: {message}")))
        }
    };
    let checked = load.step(async { slow.spawn_blocking(check).await }).await;
    let checked = checked.unwrap_or_else(|error| Ok(Err(error.to_string())))?;
    let unsound = |problem| LoadError::Describe(format!("what it says of itself does not hold: {problem}"));
    Ok((checked.map_err(unsound)?, usage))
}

#[cfg(test)]
mod tests;
