//! From what a client, an operator or a sidecar writes (criteria, a filter plugin's name, its parameters) to a question that
//! a view can ask. The one place where the log's views and the plugins meet.

use crate::{
    event::{EventFilter, filter::FilterError},
    log::view::Question,
    plugin::Registry,
};
use serde_json::Value;

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
}

impl QuestionError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Filter(_) => "filter.entries",
            Self::ParamsAlone => "filter.params",
        }
    }

    /// The field, what was expected, what was found.
    pub fn parts(&self) -> (String, String, String) {
        match self {
            Self::Filter(error) => (error.field.into(), "at most 256".into(), error.found.to_string()),
            Self::ParamsAlone => ("params".into(), "a filter plugin that they are for".into(), "none".into()),
        }
    }
}

/// Turns what is wanted into questions.
#[derive(Clone)]
pub struct Questions {
    #[expect(dead_code)]
    plugins: Registry,
}

impl Questions {
    /// With these plugins.
    pub fn new(plugins: Registry, _metrics: std::sync::Arc<crate::metrics::Metrics>) -> Self {
        Self { plugins }
    }
    pub fn resolve_later(&self, wanted: Wanted) -> Result<Question, QuestionError> {
        self.resolve(wanted)
    }

    /// The question, normalised.
    ///
    /// # Errors
    /// See [`QuestionError`].
    pub fn resolve(&self, wanted: Wanted) -> Result<Question, QuestionError> {
        if wanted.plugin.is_none() && wanted.params.is_some() {
            return Err(QuestionError::ParamsAlone);
        }
        Ok(Question { filter: wanted.filter.normalised()?, predicate: None })
    }
}
