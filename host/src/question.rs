//! From what a client, an operator or a sidecar writes (criteria, a filter plugin's name, its parameters) to a question that
//! a view can ask. The one place where the log's views and the plugins meet.

use crate::{
    event::{Event, EventFilter, filter::FilterError},
    log::view::{Predicate, Question},
    metrics::Metrics,
    plugin::{
        Asking, Kind, Name, OnError, Params, SchemaError, Version,
        feed::Observed,
        registry::{Plugin, Registry},
        shadow::Answer,
    },
};
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::task::AbortOnDropHandle;

/// How often a filter is asked about one event where others had the cores and its deadline passed;
/// after that it counts as a failure without an answer.
const STARVED_TRIES: usize = 5;

/// What somebody wants to see, as they wrote it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Native criteria.
    pub filter: EventFilter,
    /// A filter plugin.
    pub plugin: Option<String>,
    /// Its parameters.
    pub params: Option<Value>,
}

/// Why it is no question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Too many entries.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Parameters for no plugin.
    #[error("params without a filter plugin")]
    ParamsAlone,
    /// No plugin of that name.
    #[error("there is no plugin {0:?}")]
    Unknown(String),
    /// A plugin that is no filter, or none that works now.
    #[error("plugin {name} is {found}, not a filter that is active")]
    NoFilter {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
    },
    /// Parameters that the filter's schema does not allow.
    #[error("params{}: expected {}, found {}", .0.pointer, .0.expected, .0.found)]
    Params(SchemaError),
}

impl QuestionError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Filter(FilterError::Entries { .. }) => "filter.entries",
            Self::Filter(FilterError::Work { .. }) => "filter.work",
            Self::ParamsAlone | Self::Params(_) => "filter.params",
            Self::Unknown(_) => "filter.unknown",
            Self::NoFilter { .. } => "filter.inactive",
        }
    }

    /// The field, what was expected, what was found.
    pub fn parts(&self) -> (String, String, String) {
        let plugin = "an active filter plugin, see /v1/plugins";
        match self {
            Self::Filter(error) => {
                let (field, expected, found) = error.parts();
                (field.into(), expected, found.to_string())
            }
            Self::ParamsAlone => {
                ("params".into(), "the name of the filter plugin that they are for".into(), "none".into())
            }
            Self::Unknown(name) => ("filter".into(), plugin.into(), format!("{name:?}, which is not there")),
            Self::NoFilter { name, found } => ("filter".into(), plugin.into(), format!("{name}, which is {found}")),
            Self::Params(error) => (format!("params{}", error.pointer), error.expected.clone(), error.found.clone()),
        }
    }
}

/// Turns what is wanted into questions.
#[derive(Clone)]
pub struct Questions {
    plugins: Registry,
    metrics: Arc<Metrics>,
}

impl Questions {
    /// With these plugins.
    pub fn new(plugins: Registry, metrics: Arc<Metrics>) -> Self {
        Self { plugins, metrics }
    }

    /// The question, normalised; its plugin has to be there, and its parameters right.
    ///
    /// # Errors
    /// See [`QuestionError`].
    pub async fn resolve(&self, wanted: Wanted) -> Result<Question, QuestionError> {
        if let Some(name) = &wanted.plugin {
            let plugin = self.plugins.get(name).ok_or_else(|| QuestionError::Unknown(name.clone()))?;
            check(&plugin, wanted.params.clone()).await?;
        }
        // A client must not be able to have a filter put in quarantine for everybody by what it asks.
        let accountable = wanted.params.is_none();
        self.question(wanted, accountable)
    }

    /// As [`Questions::resolve`], for what an operator wants: the plugin may come later, and until then nothing matches.
    ///
    /// # Errors
    /// See [`QuestionError`].
    pub fn resolve_later(&self, wanted: Wanted) -> Result<Question, QuestionError> {
        self.question(wanted, true)
    }

    fn question(&self, wanted: Wanted, accountable: bool) -> Result<Question, QuestionError> {
        let filter = wanted.filter.normalised()?;
        let Some(name) = wanted.plugin else {
            return if wanted.params.is_some() {
                Err(QuestionError::ParamsAlone)
            } else {
                Ok(Question { filter, predicate: None })
            };
        };
        let name: Name = name.parse().map_err(|_| QuestionError::Unknown(name))?;
        let mut params = wanted.params;
        if let Some(params) = &mut params {
            params.sort_all_objects();
        }
        let text = params.as_ref().map_or_else(String::new, Value::to_string);
        let named = Arc::new(Named {
            plugins: self.plugins.clone(),
            metrics: self.metrics.clone(),
            name: name.clone(),
            params,
            accountable,
            checked: Mutex::default(),
        });
        let select = Arc::new(move |events: Vec<Arc<Event>>| {
            Box::pin(named.clone().select(events)) as futures_util::future::BoxFuture<'static, Vec<Arc<Event>>>
        });
        Ok(Question { filter, predicate: Some(Predicate { name: format!("{name} {text}"), select }) })
    }
}

async fn check(plugin: &Plugin, params: Option<Value>) -> Result<(), QuestionError> {
    let name = plugin.name().to_string();
    let Some(version) = plugin.active() else {
        return Err(QuestionError::NoFilter { name, found: plugin.state().as_str().into() });
    };
    if version.kind() != Kind::Filter {
        return Err(QuestionError::NoFilter { name, found: "a handler".into() });
    }
    version.check_params(params).await.map(|_| ()).map_err(QuestionError::Params)
}

/// A named filter with its parameters, whatever version of it is active when it is asked.
struct Named {
    plugins: Registry,
    metrics: Arc<Metrics>,
    name: Name,
    params: Option<Value>,
    /// Whether its faults are the filter's: not where a client chose the parameters.
    accountable: bool,
    /// As the version of this generation took them.
    checked: Mutex<Option<(u64, Option<Params>)>>,
}

impl Named {
    /// Those of `events` that match.
    async fn select(self: Arc<Self>, events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
        let events: Arc<[Arc<Event>]> = events.into();
        let mut verdicts = Vec::with_capacity(events.len());
        while verdicts.len() < events.len() {
            if !verdicts.is_empty() {
                // Others on this thread have a turn as well.
                tokio::task::yield_now().await;
            }
            verdicts.extend(self.ask_some(&events, verdicts.len()).await);
        }
        events.iter().zip(verdicts).filter(|(_, verdict)| *verdict).map(|(event, _)| event.clone()).collect()
    }

    /// Verdicts on at least one of `events`, from that at `first` on, by the version that is active now.
    async fn ask_some(self: &Arc<Self>, events: &Arc<[Arc<Event>]>, first: usize) -> Vec<bool> {
        let no_answers = |meaning| events.iter().skip(first).map(|_| self.no_answer(meaning)).collect();
        let Some(plugin) = self.plugins.get(self.name.as_str()) else { return no_answers(OnError::Closed) };
        let is_filter = |version: &Arc<Version>| version.kind() == Kind::Filter;
        let Some(version) = plugin.active().filter(is_filter) else {
            // The operator's word on what its absence means holds while it is disabled or in quarantine too.
            let meaning = plugin.current().filter(is_filter).map_or(OnError::Closed, |version| version.on_error());
            return no_answers(meaning);
        };
        let meaning = version.on_error();
        let Some(params) = self.params(&version).await else { return no_answers(meaning) };
        let Some(slow) = version.threads().cloned() else {
            return self.ask(&plugin, &version, &params, &events[first..]).await;
        };
        let (named, events) = (self.clone(), events.clone());
        let asking = async move { named.ask(&plugin, &version, &params, &events[first..]).await };
        // Ends with whoever asks.
        let asking = AbortOnDropHandle::new(slow.spawn(asking));
        asking.await.unwrap_or_else(|_| vec![self.no_answer(meaning)])
    }

    /// Verdicts on at least the first of `events`, of which there is one.
    async fn ask(&self, plugin: &Plugin, version: &Arc<Version>, params: &Params, events: &[Arc<Event>]) -> Vec<bool> {
        let mut asking = version.ask(params).await;
        let mut verdicts = Vec::with_capacity(events.len());
        for event in events {
            verdicts.push(self.verdict(plugin, version, &mut asking, event).await);
            if !asking.may_go_on() {
                break;
            }
        }
        verdicts
    }

    async fn verdict(
        &self,
        plugin: &Plugin,
        version: &Arc<Version>,
        asking: &mut Asking<'_>,
        event: &Arc<Event>,
    ) -> bool {
        let mut said = plugin.feed().transcript();
        let mut result = asking.matches_with(event, said.as_mut()).await;
        for _ in 1..STARVED_TRIES {
            if !result.as_ref().is_err_and(|error| version.is_starved(error)) {
                break;
            }
            // That says nothing of the event: others had the cores, and get them before the next
            // try.
            tokio::task::yield_now().await;
            said = plugin.feed().transcript();
            result = asking.matches_with(event, said.as_mut()).await;
        }
        if let Some(said) = said {
            let answer = result.as_ref().map_or_else(Answer::failed, |verdict| Answer::verdict(*verdict, said.usage));
            let mut observed = Observed::of(version.clone(), event.clone(), answer, said);
            observed.params = asking.params().clone();
            plugin.feed().tell(observed);
        }
        let starved = result.as_ref().is_err_and(|error| version.is_starved(error));
        plugin.report(version, event, result.as_ref().err(), self.accountable && !starved);
        result.unwrap_or_else(|_| self.no_answer(version.on_error()))
    }

    /// Each version has its own schema: parameters that were right for the last one may be wrong for this one.
    async fn params(&self, version: &Version) -> Option<Params> {
        let known = self.checked().as_ref().filter(|(generation, _)| *generation == version.generation()).cloned();
        if let Some((_, params)) = known {
            return params;
        }
        let params = version.check_params(self.params.clone()).await.ok();
        *self.checked() = Some((version.generation(), params.clone()));
        params
    }

    fn checked(&self) -> MutexGuard<'_, Option<(u64, Option<Params>)>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_answer(&self, meaning: OnError) -> bool {
        self.metrics.view_filter_errors.inc();
        meaning == OnError::Open
    }
}
