//! What a plugin says when it cannot do its work, and how other errors become that, so that `?` does the right thing.

use crate::{DataError, PublishError, kv};
use std::fmt::Display;
use std::time::Duration;

pub use crate::bindings::handler::busway::plugin::types::{Failure, FailureKind};

/// What [`Handler::handle`](crate::Handler::handle) returns.
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// It may work later: the host tries again with growing pauses, then dead-letters the event.
    pub fn retry(message: impl Display) -> Self {
        Self { kind: FailureKind::Retry, message: message.to_string(), retry_after_ms: None }
    }

    /// It will never work: the host dead-letters the event at once.
    pub fn reject(message: impl Display) -> Self {
        Self { kind: FailureKind::Reject, message: message.to_string(), retry_after_ms: None }
    }

    /// Not before this pause. The host may wait longer.
    ///
    /// ```
    /// # use busway_plugin::Failure;
    /// # use std::time::Duration;
    /// let failure = Failure::retry("no rates yet").after(Duration::from_secs(30));
    /// assert_eq!(failure.retry_after_ms, Some(30_000));
    /// ```
    pub fn after(mut self, pause: Duration) -> Self {
        self.retry_after_ms = Some(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
        self
    }
}

/// Rejects: the same event has the same data the next time.
impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::reject(error)
    }
}

/// Rejects: the same event has the same data the next time.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::reject(error)
    }
}

/// Rejects: what is denied, too much or invalid stays so.
impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self::reject(format_args!("publish: {}", error.message))
    }
}

/// Retries what the host refused (a quota can be raised, a grant given); rejects a value that is not what the plugin takes it for.
impl From<kv::Error> for Failure {
    fn from(error: kv::Error) -> Self {
        match error {
            kv::Error::Refused(_) => Self::retry(error),
            kv::Error::Json { .. } => Self::reject(error),
        }
    }
}

/// Why a filter has no answer. Anything that can be displayed becomes one, so `?` works with every error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError(pub(crate) String);

// Not `Display` itself: that would make `From<FilterError>` overlap with the identity.
impl<E: Display> From<E> for FilterError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, PublishCode};
    use serde_json::json;

    fn check(failure: impl Into<Failure>, kind: FailureKind, message: &str) {
        let failure = failure.into();
        assert_eq!((failure.kind, failure.message.as_str()), (kind, message));
    }

    #[test]
    fn a_question_mark_retries_what_may_pass_and_rejects_what_stays() {
        let data = Event::new("a", json!(true)).data::<()>().expect_err("not null");
        check(data, FailureKind::Reject, "data: invalid type: boolean `true`, expected unit at line 1 column 4");
        let publish = PublishError { code: PublishCode::Denied, message: "not granted".into() };
        check(publish, FailureKind::Reject, "publish: not granted");
        check(kv::Error::Refused("over the quota".into()), FailureKind::Retry, "kv: over the quota");
    }

    #[test]
    fn a_pause_that_does_not_fit_is_the_longest() {
        assert_eq!(Failure::retry("").after(Duration::MAX).retry_after_ms, Some(u32::MAX));
    }
}
