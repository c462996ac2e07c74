//! Asking a filter: one question, or one right after the other.

use super::Version;
use crate::event::Event;
use crate::plugin::convert::Lists;
use crate::plugin::fault::{CallError, Failure, FailureKind};
use crate::plugin::host::{Transcript, printable};
use crate::plugin::instance::{Answer, Calls, Ended, Question};
use crate::plugin::limits::MAX_SCHEMA_BYTES;
use crate::plugin::schema::{Schema, SchemaError};
use crate::plugin::stats::Outcome;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// After so many nanoseconds, others have a turn: a few hundred short questions, or a single one that is not.
const TURN: u64 = Duration::from_millis(1).as_nanos() as u64;

/// Parameters of a filter that its schema allows, in one form: equal parameters are equal, and ask the same question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Params(Option<Arc<str>>);

impl Params {
    /// As JSON text with the members of objects in order; none if none were given.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// A filter that is asked about one event right after the other. They share what a question costs besides the answer: the turn among those
/// who ask, the instance (where instances are reused), and the end of one on the clock is the beginning of the next.
pub struct Asking<'a> {
    version: &'a Version,
    params: &'a Params,
    /// Before the turn: with that, another may ask, and is to find the instance.
    calls: Calls<'a>,
    _turn: Option<SemaphorePermit<'a>>,
    /// In nanoseconds.
    spent: u64,
    was_slow: bool,
}

impl Version {
    /// Begins to ask. Waits for its turn: of those who ask, so many may at once (`concurrency`).
    #[inline]
    pub async fn ask<'a>(&'a self, params: &'a Params) -> Asking<'a> {
        // Before its time begins; it is never closed.
        let turn = self.turns.try_acquire().ok();
        let turn = if turn.is_some() { turn } else { self.turns.acquire().await.ok() };
        let was_slow = self.threads().is_some();
        Asking { version: self, params, calls: self.instances.calls(), _turn: turn, spent: 0, was_slow }
    }

    /// Asks the filter. An error is no answer: [`Version::on_error`] says what that means. Dropping the future ends the call.
    ///
    /// # Errors
    /// What the filter says, or why the sandbox ended it.
    pub fn matches(&self, event: &Event, params: &Params) -> impl Future<Output = Result<bool, CallError>> + Send {
        self.matches_with(event, params, None)
    }

    /// As [`Version::matches`], and shows what the filter said meanwhile.
    ///
    /// # Errors
    /// As [`Version::matches`].
    pub async fn matches_with(
        &self,
        event: &Event,
        params: &Params,
        transcript: Option<&mut Transcript>,
    ) -> Result<bool, CallError> {
        self.ask(params).await.matches_with(event, transcript).await
    }

    /// Checks parameters for this filter, once for all events, on slow threads.
    ///
    /// # Errors
    /// Where they do not meet the filter's schema.
    pub async fn check_params(&self, params: Option<Value>) -> Result<Params, SchemaError> {
        let Some(schema) = self.description.params_schema.clone() else {
            return params.map_or_else(|| Ok(Params::default()), |params| Err(SchemaError::no_schema(&params)));
        };
        let checking = move || match params {
            Some(params) => Params::checked(params, &schema),
            None => Params::none_checked(&schema),
        };
        // Parameters are a client's and the schema a stranger's: whoever works for others does not
        // wait for the two.
        let checking = self.instances.context().engine.slow().handle().spawn_blocking(checking);
        checking.await.unwrap_or_else(|error| Err(SchemaError::failed(&error)))
    }
}

impl Params {
    fn checked(mut params: Value, schema: &Schema) -> Result<Self, SchemaError> {
        params.sort_all_objects();
        let text = params.to_string();
        if text.len() > MAX_SCHEMA_BYTES {
            let expected = format!("at most {MAX_SCHEMA_BYTES} bytes");
            return Err(SchemaError { pointer: String::new(), expected, found: format!("{} bytes", text.len()) });
        }
        schema.check(&params)?;
        Ok(Self(Some(text.into())))
    }

    /// None are fine where the schema allows an empty object, or null: it is how a schema says that nothing is required.
    fn none_checked(schema: &Schema) -> Result<Self, SchemaError> {
        schema.check(&Value::Null).or_else(|_| schema.check(&Value::Object(serde_json::Map::new())))?;
        Ok(Self::default())
    }
}

impl Asking<'_> {
    /// As [`Version::matches`].
    ///
    /// # Errors
    /// As [`Version::matches`].
    pub fn matches(&mut self, event: &Event) -> impl Future<Output = Result<bool, CallError>> + Send {
        self.matches_with(event, None)
    }

    /// As [`Version::matches_with`].
    ///
    /// # Errors
    /// As [`Version::matches`].
    pub async fn matches_with(
        &mut self,
        event: &Event,
        transcript: Option<&mut Transcript>,
    ) -> Result<bool, CallError> {
        let version = self.version;
        let lists = Lists::of(event);
        let question = Question::Matches(&lists, self.params.as_str());
        let budget = version.budget(event);
        let Ended { answer, usage } = self.calls.call(question, &budget, transcript).await;
        self.spent += usage.nanoseconds;
        let result = match answer {
            Ok(Answer::Matched(Ok(verdict))) => Ok(verdict),
            Ok(Answer::Matched(Err(message))) => {
                let message = printable(&message).into_owned();
                Err(Failure { kind: FailureKind::Reject, message, retry_after_ms: None }.into())
            }
            Ok(_) => Err(version.wrong_kind().into()),
            Err(fault) => Err(fault.into()),
        };
        let outcome = match &result {
            Ok(verdict) => Outcome::Verdict(*verdict),
            Err(CallError::Failure(failure)) => Outcome::FilterError(&failure.message),
            Err(error) => Outcome::Error(error),
        };
        version.stats.record(&outcome, &usage, &version.sha256);
        result
    }

    /// What the one who asks gave with the filter's name.
    pub fn params(&self) -> &Params {
        self.params
    }

    /// Whether the next question may be asked like this: not after a millisecond, when it is the turn of others, nor when the version has gone
    /// out of service or its calls belong on other threads by now.
    #[inline]
    pub fn may_go_on(&self) -> bool {
        self.spent < TURN && !self.version.instances.is_retired() && self.was_slow == self.version.threads().is_some()
    }
}
