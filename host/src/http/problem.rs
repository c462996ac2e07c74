//! Errors as answers: problem+json (RFC 9457) with a stable `code`. The one place that knows which error has which status.

use crate::{
    bus::{MAX_TIMEOUT_MS, PublishError, RequestError},
    event::EventError,
    journal::WriteError,
    log::{AppendError, CommitError, ResumeError},
    metrics::{Metrics, Reason},
    plugin::{LimitError, registry::CommandError},
    question::QuestionError,
};
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// An error as the client gets it.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
    /// Which of the events of an array.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// The epoch in which events are numbered now.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// The first seq at which the log may hold other events than those that the client has.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs_from: Option<u64>,
    #[serde(skip)]
    retry_after: Option<&'static str>,
    #[serde(skip)]
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    /// A problem without a field of its own.
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
        Self {
            kind: format!("urn:busway:problem:{code}"),
            title,
            status,
            code,
            detail: detail.into(),
            field: None,
            expected: None,
            found: None,
            index: None,
            epoch: None,
            differs_from: None,
            retry_after: None,
            header: None,
        }
    }

    /// What is wrong with one field of what came in.
    pub fn field(
        code: &'static str,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (field, expected, found) = (field.into(), expected.into(), found.into());
        let mut problem = Self::new(400, code, format!("{field}: expected {expected}, found {found}"));
        (problem.field, problem.expected, problem.found) = (Some(field), Some(expected), Some(found));
        problem
    }

    /// With another status than 400.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        (self.status, self.title) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
        self
    }

    /// With the number of the event that it is about.
    pub fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    /// With a number of seconds after which to try again.
    pub fn retry_after(mut self, seconds: &'static str) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// With one header field of its own.
    pub fn with_header(mut self, header: (HeaderName, HeaderValue)) -> Self {
        self.header = Some(Box::new(header));
        self
    }

    /// Returns the seconds for the header `Retry-After`, if [`Problem::retry_after`] set them.
    pub fn seconds_to_retry(&self) -> Option<&'static str> {
        self.retry_after
    }

    /// The label `reason` of events that were refused with it before they reached the bus.
    pub fn reason(&self) -> Reason {
        match self.status {
            408 => Reason::Timeout,
            413 => Reason::TooLarge,
            415 => Reason::Unsupported,
            429 | 503 => Reason::Full,
            _ => Reason::Invalid,
        }
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status(), [(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(Code(self.code));
        response
    }
}

/// The code of a response that is a problem.
#[derive(Clone, Copy)]
struct Code(&'static str);

/// Counts `response` by its code if it is a problem, whoever made it.
pub(super) fn count(metrics: &Metrics, response: &Response) {
    if let Some(Code(code)) = response.extensions().get() {
        metrics.problems.inc(code);
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        Self::field(error.code, error.field, error.expected, error.found)
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            PublishError::Empty => Self::field(code, "events", "at least one event", "none"),
            PublishError::Invalid { index, error } => Self::from(error).at(index),
            PublishError::Rejected { index, .. } => Self::new(422, code, detail).at(index),
            PublishError::Unanswered { index, .. } => Self::new(503, code, detail).at(index).retry_after("1"),
            PublishError::Append(AppendError::Full) => Self::new(429, code, detail).retry_after("1"),
            PublishError::Append(AppendError::TooLarge { .. }) => Self::new(413, code, detail),
            PublishError::Append(AppendError::Stopped) => Self::new(503, code, detail).retry_after("5"),
            PublishError::Append(AppendError::Journal(error)) => error.into(),
            // The routes always wait.
            PublishError::MustWait => Self::new(500, code, detail),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let (code, detail) = (error.code(), error.to_string());
        match error {
            WriteError::Full => Self::new(507, code, detail).retry_after("5"),
            WriteError::Unavailable(_) => Self::new(503, code, detail).retry_after("1"),
            // No time after which it would work: somebody has to look.
            WriteError::ReadOnly(_) => Self::new(503, code, detail),
        }
    }
}

impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Journal(error) => error.into(),
            CommitError::Stopped => Self::new(503, "publish.stopped", error.to_string()).retry_after("5"),
            // What the routes record does not depend on what was read before, and is due to no event.
            CommitError::Aborted | CommitError::Loop { .. } => Self::new(500, "journal.conflict", error.to_string()),
        }
    }
}

impl From<ResumeError> for Problem {
    fn from(error: ResumeError) -> Self {
        let mut problem = Self::new(409, error.code(), error.to_string());
        (problem.epoch, problem.differs_from) = (Some(error.current().to_string()), error.differs_from());
        problem
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Publish(error) => error.into(),
            RequestError::TimeoutMs(found) => {
                let expected = format!("1 to {MAX_TIMEOUT_MS} milliseconds");
                Self::field(error.code(), "timeout_ms", expected, found.to_string())
            }
            RequestError::Timeout { .. } => Self::new(504, error.code(), error.to_string()),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::Unknown(_) => Self::new(404, "plugin.unknown", detail),
            CommandError::State { .. } => Self::new(409, "plugin.state", detail),
            CommandError::Directory { .. } => Self::new(409, "plugin.directory", detail),
            CommandError::Load(error) => Self::new(422, error.code(), detail),
            CommandError::Limit(error) => error.into(),
            CommandError::Stopped => Self::new(503, "publish.stopped", detail).retry_after("5"),
        }
    }
}

impl From<LimitError> for Problem {
    fn from(error: LimitError) -> Self {
        Self::field("limits.invalid", error.field, error.expected, error.found)
    }
}

impl From<QuestionError> for Problem {
    fn from(error: QuestionError) -> Self {
        let (field, expected, found) = error.parts();
        Self::field(error.code(), field, expected, found)
    }
}
