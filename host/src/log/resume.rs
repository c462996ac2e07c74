//! Where a reader that was here before goes on: it names the epoch and the seq that it wants next,
//! and the lineage of epochs tells whether what it has read is what this log holds.

use super::Log;
use serde::Serialize;
use uuid::Uuid;

/// Why a reader cannot go on where it wants to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// The reader's position is no text that the hub gave it.
    #[error("the last event id is <epoch>:<seq> or a seq, found {id:?}")]
    Unreadable {
        /// What the reader sent.
        id: String,
        /// The epoch in which events are numbered now.
        current: Uuid,
    },
    /// The log has had no such epoch, so nothing is known of what the reader has.
    #[error("epoch {epoch} is unknown here: events are numbered in epoch {current}")]
    UnknownEpoch {
        /// The epoch that the reader named.
        epoch: Uuid,
        /// The epoch in which events are numbered now.
        current: Uuid,
    },
    /// The epoch has ended before that seq, so the reader has events that this log has not.
    #[error("epoch {epoch} has ended: from seq {differs_from} on, events are those of epoch {current}")]
    Diverged {
        /// The epoch that the reader named.
        epoch: Uuid,
        /// The first seq at which the log may differ from what
        /// the reader has. To go on from there misses nothing.
        differs_from: u64,
        /// The epoch in which events are numbered now.
        current: Uuid,
    },
    /// The log has not got to that seq.
    #[error("seq {from} is ahead of the log, whose next is {next}: it is of another epoch than {current}")]
    Ahead {
        /// The seq that the reader wants next.
        from: u64,
        /// The next seq that the log will give.
        next: u64,
        /// The epoch in which events are numbered now.
        current: Uuid,
    },
}

impl ResumeError {
    /// The error's stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "query.last-event-id",
            Self::UnknownEpoch { .. } | Self::Diverged { .. } => "epoch.mismatch",
            Self::Ahead { .. } => "from.ahead",
        }
    }

    /// The seq to go on from in the current epoch, where it is known.
    pub fn differs_from(&self) -> Option<u64> {
        match self {
            Self::Diverged { differs_from, .. } => Some(*differs_from),
            Self::Unreadable { .. } | Self::UnknownEpoch { .. } | Self::Ahead { .. } => None,
        }
    }

    /// The epoch in which events are numbered now.
    pub fn current(&self) -> Uuid {
        match self {
            Self::Unreadable { current, .. }
            | Self::UnknownEpoch { current, .. }
            | Self::Diverged { current, .. }
            | Self::Ahead { current, .. } => *current,
        }
    }

    /// What a stream tells its reader, which goes on with the seq `from`.
    pub fn notice(&self, from: u64) -> EpochNotice {
        EpochNotice {
            code: self.code(),
            epoch: self.current(),
            from,
            differs_from: self.differs_from(),
            detail: self.to_string(),
        }
    }
}

/// Says in a stream that it cannot go on where its reader asked, and where it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EpochNotice {
    /// The stable code of the [`ResumeError`].
    pub code: &'static str,
    /// The epoch in which events are numbered now.
    pub epoch: Uuid,
    /// The first seq that the stream looks at.
    pub from: u64,
    /// The first seq at which the log may differ from what the reader has, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differs_from: Option<u64>,
    /// The error as a text for people.
    pub detail: String,
}

impl Log {
    /// Whether a reader that has read everything before `from` in `epoch` may go on with `from`;
    /// without an epoch, the seq is taken to be of the current one. `from` is given back. Without
    /// `from`, only the epoch is looked at: it must be in the lineage.
    ///
    /// # Errors
    /// See [`ResumeError`].
    pub fn resume(&self, epoch: Option<Uuid>, from: Option<u64>) -> Result<Option<u64>, ResumeError> {
        let (current, next) = (self.epoch(), self.head() + 1);
        if let Some(epoch) = epoch {
            match (self.lineage().differs_from(epoch), from) {
                (None, _) => return Err(ResumeError::UnknownEpoch { epoch, current }),
                (Some(differs_from), Some(from)) if from > differs_from => {
                    return Err(ResumeError::Diverged { epoch, differs_from, current });
                }
                _ => {}
            }
        }
        match from {
            Some(from) if from > next => Err(ResumeError::Ahead { from, next, current }),
            from => Ok(from),
        }
    }

    /// Where a stream begins whose reader wants `from` in `epoch`: the first seq, none for what is
    /// published from now on; and the refusal that the reader is told of in the stream, for
    /// browsers cannot read one that comes instead of a stream.
    ///
    /// After a refusal, a stream whose reader wanted something of the past begins where the log may
    /// differ from what the reader has, or with the oldest event if nobody knows where that is.
    pub fn begin_stream(&self, epoch: Option<Uuid>, from: Option<u64>) -> (Option<u64>, Option<ResumeError>) {
        match self.resume(epoch, from) {
            Ok(from) => (from, None),
            Err(error) => {
                let begin = || error.differs_from().unwrap_or_else(|| self.oldest());
                (from.map(|_| begin()), Some(error))
            }
        }
    }
}
