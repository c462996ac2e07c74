//! What publishers are told: where their events are, or why nothing was published.

use crate::{
    event::EventError,
    log::{AppendError, Seqs, Submitted},
    metrics::Reason,
};
use serde::Serialize;
use std::sync::Arc;

/// An admission filter's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The filter that said no.
    pub filter: String,
    /// Its reason.
    pub reason: String,
}

/// Why admission does not let an event in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// An admission filter said no.
    Rejected(Rejection),
    /// The named admission filter gave no verdict because others had the cores.
    Unanswered(String),
}

/// An event's place in the log, as its publisher is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Its seq.
    pub seq: u64,
    /// Its id: the publisher's own or the one it was given.
    pub event_id: Arc<str>,
    /// It had been published before: this is the place of the first, and nothing was stored again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// Events that are in line for the log.
#[derive(Debug)]
pub struct Publishing {
    pub(super) submitted: Submitted,
    pub(super) ids: Vec<Arc<str>>,
}

impl Publishing {
    /// Where they are, once they are there.
    ///
    /// # Errors
    /// [`PublishError::Append`] if the journal could not be written, or the hub ends meanwhile. The log has counted it.
    pub async fn receipts(self) -> Result<Vec<Receipt>, PublishError> {
        Ok(match self.submitted.seqs().await? {
            Seqs::From(first) => {
                let receipt = |(seq, event_id)| Receipt { seq, event_id, duplicate: false };
                (first..).zip(self.ids).map(receipt).collect()
            }
            Seqs::Each(seqs) => {
                let receipt = |((seq, duplicate), event_id)| Receipt { seq, event_id, duplicate };
                seqs.into_iter().zip(self.ids).map(receipt).collect()
            }
        })
    }
}

/// Why nothing was published. Of several events handed in together, none was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No events were handed in.
    #[error("expected at least one event, found none")]
    Empty,
    /// A field is out of bounds.
    #[error("event {index}: {error}")]
    Invalid {
        /// Which of the events handed in together.
        index: usize,
        /// What is wrong with it.
        error: EventError,
    },
    /// An admission filter said no.
    #[error("event {index}: refused by filter {}: {}", .rejection.filter, .rejection.reason)]
    Rejected {
        /// Which of the events handed in together.
        index: usize,
        /// Who said no, and why.
        rejection: Rejection,
    },
    /// An admission filter gave no verdict because others had the cores. A retry may succeed.
    #[error("event {index}: filter {filter} gave no verdict because others had the cores: try again")]
    Unanswered {
        /// Which of the events handed in together.
        index: usize,
        /// The name of the filter plugin.
        filter: String,
    },
    /// See [`AppendError`].
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Admission filters take time to ask, and `try_publish` does not wait.
    #[error("admission filters are configured, so publishing has to wait for them: use publish")]
    MustWait,
}

impl PublishError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "publish.empty",
            Self::Invalid { error, .. } => error.code,
            Self::Rejected { .. } => "publish.rejected",
            Self::Unanswered { .. } => "publish.unanswered",
            Self::Append(AppendError::Full) => "publish.full",
            Self::Append(AppendError::TooLarge { .. }) => "publish.too-large",
            Self::Append(AppendError::Stopped) => "publish.stopped",
            Self::Append(AppendError::Journal(error)) => error.code(),
            Self::MustWait => "publish.must-wait",
        }
    }

    /// The label `reason` of the events that were refused with it. [`PublishError::Empty`] refuses
    /// none.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Empty | Self::Invalid { .. } => Reason::Invalid,
            // Nobody could be asked.
            Self::Rejected { .. } | Self::MustWait => Reason::Admission,
            Self::Unanswered { .. } => Reason::Unanswered,
            Self::Append(AppendError::Full) => Reason::Full,
            Self::Append(AppendError::TooLarge { .. }) => Reason::TooLarge,
            Self::Append(AppendError::Stopped) => Reason::Stopped,
            Self::Append(AppendError::Journal(_)) => Reason::Journal,
        }
    }
}

impl PublishError {
    pub(super) fn refused(index: usize, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => Self::Rejected { index, rejection },
            Refusal::Unanswered(filter) => Self::Unanswered { index, filter },
        }
    }
}

impl From<EventError> for PublishError {
    fn from(error: EventError) -> Self {
        Self::Invalid { index: 0, error }
    }
}
