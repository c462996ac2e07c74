//! Fills an empty journal with events as they were exported: seqs, ids, times, hops, chains and causes stay what they were. Ends as a
//! whole or leaves nothing; an import that was cut off is known by a mark, and the next one begins anew.

use super::{
    OpenError, Span, Sync, WriteError,
    change::now_ms,
    dead_letter::KeptMetadata,
    lineage::Lineage,
    lock::Lock,
    mark,
    open::{make_dir, prepare},
    row,
    schema::FILE,
    write::classify,
};
use crate::event::{Event, EventError, NewEvent};
use rusqlite::Connection;
use serde::Deserialize;
use std::{path::Path, path::PathBuf, sync::Arc};

/// Most events of one transaction.
const EVENTS: usize = 10_000;
/// Most bytes of events of one transaction, but for one event.
const BYTES: usize = 16 << 20;
/// There while an import is under way, or was cut off.
pub(super) const MARK: &str = "importing";

/// Why an import does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// See [`OpenError`].
    #[error("import.open: {0}")]
    Open(#[from] OpenError),
    /// There are events already.
    #[error(
        "import.not-empty: {}: expected a data directory without events, found {from} to {to}: import into another one",
        .dir.display()
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A line is no event.
    #[error("{code}: {0}", code = .0.code)]
    Event(#[from] EventError),
    /// A line's seq is not greater than that of the line before.
    #[error("import.seq: seq: expected a whole number greater than {last}, found {found}")]
    Seq {
        /// That of the line before.
        last: u64,
        /// The line's.
        found: u64,
    },
    /// The journal cannot be written.
    #[error("{code}: {0}", code = .0.code())]
    Write(WriteError),
}

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Write(classify(&error))
    }
}

/// An import under way. Dropped before [`Importer::finish`], it leaves the directory without events.
#[derive(Debug)]
pub struct Importer {
    connection: Connection,
    first: Option<u64>,
    last: u64,
    events: usize,
    bytes: usize,
    finished: bool,
    _lock: Lock,
}

/// What only the hub writes, and an import keeps.
#[derive(Deserialize)]
struct Kept {
    seq: u64,
    #[serde(default)]
    metadata: KeptMetadata,
}

impl Importer {
    /// Begins an import into a data directory, which is made if it is missing, and which has a new epoch from now on. Blocks.
    ///
    /// # Errors
    /// [`ImportError::Open`] and [`ImportError::NotEmpty`].
    pub fn begin(dir: &Path) -> Result<Self, ImportError> {
        make_dir(dir)?;
        let lock = Lock::take(dir)?;
        // Synced once, at the end.
        let connection = prepare(&dir.join(FILE), Sync::Normal)?;
        if mark::get(&connection, MARK)?.is_none() {
            let sql = "SELECT min(seq), max(seq) FROM events";
            let span: (Option<i64>, Option<i64>) =
                connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if let (Some(from), Some(to)) = span {
                return Err(ImportError::NotEmpty { dir: dir.to_owned(), from: from as u64, to: to as u64 });
            }
        }
        let importer = Self { connection, first: None, last: 0, events: 0, bytes: 0, finished: false, _lock: lock };
        importer.connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM events")?;
        mark::set(&importer.connection, MARK, "yes")?;
        Lineage::new(1).write(&importer.connection)?;
        importer.connection.execute_batch("COMMIT")?;
        Ok(importer)
    }

    /// Takes one event as JSON. Gives the seqs that are missing before it, if any are. Blocks.
    ///
    /// # Errors
    /// If it is no event, comes out of order, or cannot be written; see [`ImportError`].
    pub fn add(&mut self, line: &str) -> Result<Option<Span>, ImportError> {
        let event = Arc::new(parse(line)?);
        let seq = event.seq;
        if seq <= self.last || i64::try_from(seq).is_err() {
            return Err(ImportError::Seq { last: self.last, found: seq });
        }
        if self.connection.is_autocommit() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        row::insert(&self.connection, std::slice::from_ref(&event), now_ms())?;
        (self.events, self.bytes) = (self.events + 1, self.bytes + event.weight());
        if self.events >= EVENTS || self.bytes >= BYTES {
            self.commit()?;
        }
        let gap = (self.first.is_some() && seq > self.last + 1).then_some(Span { from: self.last + 1, to: seq - 1 });
        (self.first, self.last) = (self.first.or(Some(seq)), seq);
        Ok(gap)
    }

    fn commit(&mut self) -> rusqlite::Result<()> {
        (self.events, self.bytes) = (0, 0);
        self.connection.execute_batch("COMMIT")?;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Makes it durable. Blocks.
    ///
    /// # Errors
    /// [`ImportError::Write`].
    pub fn finish(mut self) -> Result<(), ImportError> {
        if self.connection.is_autocommit() {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        if let Some(first) = self.first {
            mark::set(&self.connection, "oldest", first as i64)?;
        }
        self.connection.execute("DELETE FROM meta WHERE key = ?1", [MARK])?;
        self.commit()?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let undo = || {
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            self.connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM events")?;
            self.connection.execute("DELETE FROM meta WHERE key = ?1", [MARK])?;
            self.connection.execute_batch("COMMIT")
        };
        // Should it fail, the mark stays: no hub takes it for whole, and the next import begins anew.
        if let Err(error) = undo() {
            tracing::warn!(%error, "cannot take back what was imported");
        }
    }
}

fn parse(line: &str) -> Result<Event, EventError> {
    let mut event = NewEvent::from_json(line)?.admit()?;
    let kept: Kept = serde_json::from_str(line).map_err(|error| EventError {
        code: "event.json",
        field: "event".into(),
        expected: "an event with `seq`, as `journal export` writes it".into(),
        found: error.to_string(),
    })?;
    event.seq = kept.seq;
    kept.metadata.give_to(&mut event).map_err(|found| EventError {
        code: "event.chain",
        field: "metadata.chain".into(),
        expected: "growing seqs before the event's own, at most as many as `metadata.hops`".into(),
        found,
    })?;
    Ok(event)
}
