//! From what a client, an operator or a sidecar writes (criteria, a filter plugin's name, its parameters) to a question that
//! a view can ask. The one place where the log's views and the plugins meet.

mod named;

pub use named::STARVED;

use crate::{
    event::{Event, EventFilter, filter::FilterError},
    log::{
        selection::Selection,
        view::{Predicate, Question},
    },
    metrics::Metrics,
    plugin::{
        Kind, Name, SchemaError,
        registry::{Plugin, Registry},
    },
};
use named::Named;
use serde_json::Value;
use std::sync::Arc;

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

/// Who chose a filter and its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Client,
    Operator,
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
        self.question(wanted, Asker::Client)
    }

    /// As [`Questions::resolve`], for what an operator wants: the plugin may come later, and until
    /// then nothing matches. The selection ends with the first event that is held back because the
    /// filter was [`STARVED`]: whoever asks can ask about that event again.
    ///
    /// # Errors
    /// See [`QuestionError`].
    pub fn resolve_later(&self, wanted: Wanted) -> Result<Question, QuestionError> {
        self.question(wanted, Asker::Operator)
    }

    fn question(&self, wanted: Wanted, asker: Asker) -> Result<Question, QuestionError> {
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
        let named = Arc::new(Named::new(self.plugins.clone(), self.metrics.clone(), name.clone(), params, asker));
        let select = Arc::new(move |events: Vec<Arc<Event>>| {
            Box::pin(named.clone().select(events)) as futures_util::future::BoxFuture<'static, Selection>
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
