//! The only writer: one transaction for each round, and what its failure means.

use super::{
    Change, Journal, Sync, WriteError,
    change::now_ms as wall_ms,
    checkpoint::Checkpointer,
    clock::{JournalClock, Reading},
    letter_bytes::{LetterBytes, Removed},
    lock::Lock,
    mark,
    open::Start,
    retention::{self, Measured},
    row, schema,
};
use crate::event::Event;
use rusqlite::{Connection, Error, ErrorCode, ffi};
use std::{collections::BTreeSet, sync::Arc, sync::atomic::Ordering::Relaxed, time::Instant};

/// After so many bytes written ahead, as far as can be told, they are copied into the file. Little at a time: while the system
/// writes them out, the next sync waits.
const CHECKPOINT_BYTES: usize = 512 << 10;
/// What each round writes ahead besides its events: the pages that it shares with the round before and the one after.
const ROUND_BYTES: usize = 24 << 10;

/// See the module's head. Owned by the sequencer.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    journal: Journal,
    checkpointer: Checkpointer,
    clock: JournalClock,
    /// None: to be read anew.
    letter_bytes: Option<LetterBytes>,
    /// Plugins whose letters went for their size: that is logged once.
    over_budget: BTreeSet<Arc<str>>,
    /// Written since the last checkpoint was asked for.
    bytes: usize,
    /// The last seq that was written.
    head: u64,
    /// To be on disk before anything else is.
    unwritten: Option<Start>,
    closing: Closing,
    /// The directory is another hub's to take once nobody writes any more.
    _lock: Lock,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        journal: Journal,
        checkpointer: Checkpointer,
        lock: Lock,
        head: u64,
        unwritten: Option<Start>,
    ) -> Self {
        // A newest event that cannot be read is as good as none: the wall clock is believed then.
        let sql = "SELECT received_ms FROM events ORDER BY seq DESC LIMIT 1";
        let newest_ms = connection.query_row(sql, [], |row| row.get(0)).ok();
        let clock = JournalClock::start(newest_ms, wall_ms(), journal.config().max_age_s);
        let closing = Closing { journal: journal.clone(), is_clean: false };
        Self {
            connection,
            journal,
            checkpointer,
            clock,
            letter_bytes: None,
            over_budget: BTreeSet::new(),
            bytes: 0,
            head,
            unwritten,
            closing,
            _lock: lock,
        }
    }

    /// Writes a round: all of it or nothing. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn commit(&mut self, events: &[Arc<Event>], changes: &[Change]) -> Result<(), WriteError> {
        if events.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let head = events.last().map_or(self.head, |event| event.seq);
        let say_head = self.checkpointer.has_copied();
        let now_ms = self.now_ms();
        let letters_before = self.letter_bytes.take();
        let (mut letters, mut letters_gone) = (None, Removed::default());
        let written = self.transact(|connection, journal| {
            row::insert(connection, events, now_ms)?;
            if say_head {
                mark::say_head(connection, head)?;
            }
            changes.iter().try_for_each(|change| change.write(connection))?;
            let known = letters_before.filter(|_| !changes.iter().any(LetterBytes::is_outdated_by));
            let held = match known {
                Some(mut held) => {
                    changes.iter().for_each(|change| held.count(change));
                    held
                }
                None => LetterBytes::read(connection)?,
            };
            let held = letters.insert(held);
            let owners: BTreeSet<_> = changes.iter().filter_map(Change::dead_of).collect();
            if !owners.is_empty() {
                letters_gone = held.bound(connection, journal.config(), &owners)?;
            }
            let measured = Measured { now_ms, letter_bytes: held.total() };
            // Twice what came in, so that it gets somewhere also while events come in.
            let last = events.last().map(|event| event.seq);
            retention::step(connection, journal, measured, last, (events.len() * 2).clamp(32, retention::STEP))
        });
        if let Err(error) = written {
            self.checkpointer.copied(say_head);
            return Err(error);
        }
        self.letter_bytes = letters;
        self.letters_removed(letters_gone);
        self.head = head;
        if !events.is_empty() {
            self.journal.shared.continuity.advance(head);
        }
        self.bytes += events.iter().map(|event| event.weight()).sum::<usize>() + changes.len() * 128 + ROUND_BYTES;
        if self.bytes > CHECKPOINT_BYTES {
            self.bytes = 0;
            self.checkpointer.ask();
        }
        if let Err(error) = self.checkpointer.finish(&self.connection) {
            self.journal.shared.fault(&error);
        }
        Ok(())
    }

    /// What can wait until there is time: retention, and whether what failed works again, which nobody would find out who
    /// publishes only where it does. What fails is said to everybody and found again by the next round.
    pub fn tidy(&mut self) {
        if self.journal.shared.trouble.borrow().is_some() {
            let head = self.head;
            if self.transact(|connection, _| mark::say_head(connection, head).map(|()| None)).is_err() {
                return;
            }
        }
        let now_ms = self.now_ms();
        let held = self.letter_bytes.take().map_or_else(|| LetterBytes::read(&self.connection), Ok);
        let Ok(held) = held.inspect_err(|error| drop(self.journal.shared.fault(error))) else { return };
        let measured = Measured { now_ms, letter_bytes: self.letter_bytes.insert(held).total() };
        if retention::is_due(&self.connection, &self.journal, measured) {
            let _ = self
                .transact(|connection, journal| retention::step(connection, journal, measured, None, retention::STEP));
        }
    }

    /// The journal's own time. A wall clock that jumps is logged and counted.
    fn now_ms(&mut self) -> i64 {
        let Reading { now_ms, jumped_ms } = self.clock.read(wall_ms());
        if let Some(jumped_ms) = jumped_ms {
            self.journal.shared.metrics.clock_jumps.inc();
            tracing::warn!(
                jumped_ms,
                "the wall clock jumped; the age of events is counted by the time that really passes"
            );
        }
        now_ms
    }

    fn letters_removed(&mut self, removed: Removed) {
        self.journal.shared.metrics.dead_letters_retired.add(removed.letters);
        for plugin in removed.over_budget {
            if self.over_budget.insert(plugin.clone()) {
                tracing::warn!(
                    plugin = &*plugin,
                    "its dead letters are over their budget of bytes, so the oldest go; see busway_dead_letters_retired_total"
                );
            }
        }
    }

    fn transact(
        &mut self,
        write: impl FnOnce(&Connection, &Journal) -> rusqlite::Result<Option<u64>>,
    ) -> Result<(), WriteError> {
        let shared = &self.journal.shared;
        if let Some(error @ WriteError::ReadOnly(_)) = &*shared.trouble.borrow() {
            return Err(error.clone());
        }
        let begun = Instant::now();
        let ready = match &self.unwritten {
            Some(start) => start.write(&self.connection, &shared.continuity),
            None => Ok(()),
        };
        let result = ready.and_then(|()| {
            self.unwritten = None;
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            let oldest = write(&self.connection, &self.journal)?;
            self.connection.execute_batch("COMMIT")?;
            Ok(oldest)
        });
        match result {
            Ok(oldest) => {
                // What is in a file that nobody finds any more is not acknowledged.
                if let Err(reason) = shared.files.check_data() {
                    return Err(shared.set_trouble(WriteError::ReadOnly(reason.into())));
                }
                if let Some(oldest) = oldest {
                    let before = shared.oldest.swap(oldest, Relaxed);
                    shared.metrics.journal_retired.add(oldest - before);
                }
                shared.metrics.journal_commits.inc();
                shared.metrics.journal_commit_us.record(begun.elapsed().as_micros() as u64);
                // The checkpoints may have found meanwhile what does not pass.
                shared.trouble.send_if_modified(|trouble| {
                    trouble.take_if(|trouble| !matches!(trouble, WriteError::ReadOnly(_))).is_some()
                });
                Ok(())
            }
            Err(error) => {
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "cannot roll back");
                }
                Err(shared.fault(&error))
            }
        }
    }
}

impl super::Shared {
    /// Counts what failed and tells everybody what it means, the operator once.
    pub(super) fn fault(&self, error: &Error) -> WriteError {
        self.set_trouble(classify(error))
    }

    /// Every `flush_s`, on a thread of its own: whether the files are still at their paths, and a new record of continuity.
    pub(super) fn look_after_files(&self) {
        if matches!(&*self.trouble.borrow(), Some(WriteError::ReadOnly(_))) {
            return;
        }
        if let Err(reason) = self.files.check() {
            self.set_trouble(WriteError::ReadOnly(reason.into()));
        } else if let Err(error) = self.continuity.renew() {
            // The record of before is still true. Where there is no room for it, there is none for events either.
            tracing::debug!(%error, "cannot renew the continuity record");
        }
    }

    fn set_trouble(&self, error: WriteError) -> WriteError {
        self.metrics.journal_errors.inc();
        self.trouble.send_if_modified(|trouble| {
            let news = trouble.as_ref() != Some(&error) && !matches!(trouble, Some(WriteError::ReadOnly(_)));
            if news {
                tracing::error!(code = error.code(), %error, dir = %self.config.dir.display(), "journal");
                *trouble = Some(error.clone());
            }
            news
        });
        error
    }
}

/// A failed fsync is final: the system may have dropped what it could not write, and the next fsync would not tell
/// ("Can Applications Recover from fsync Failures?", USENIX ATC 2020). So is damage.
pub(super) fn classify(error: &Error) -> WriteError {
    let text = || Arc::from(error.to_string());
    let Error::SqliteFailure(failure, _) = error else { return WriteError::Unavailable(text()) };
    match (failure.code, failure.extended_code) {
        (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => WriteError::Full,
        (_, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
        | (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => WriteError::ReadOnly(text()),
        _ => WriteError::Unavailable(text()),
    }
}

impl Drop for Writer {
    /// Leaves one file that is whole by itself, and the word that it ended well.
    fn drop(&mut self) {
        self.checkpointer.stop();
        let shared = &self.journal.shared;
        if self.unwritten.is_some() || matches!(&*shared.trouble.borrow(), Some(WriteError::ReadOnly(_))) {
            return;
        }
        if let Err(reason) = shared.files.check() {
            shared.set_trouble(WriteError::ReadOnly(reason.into()));
            return;
        }
        let end = || {
            if self.journal.config().sync == Sync::Normal {
                self.connection.pragma_update(None, "synchronous", "FULL")?;
            }
            mark::close(&self.connection, self.head)?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            schema::copies_at_end(&self.connection, true)
        };
        shared.readers.close_idle();
        match end() {
            Ok(()) => self.closing.is_clean = true,
            Err(error) => tracing::warn!(%error, "the journal was not closed cleanly; nothing is lost by it"),
        }
    }
}

/// Records that the journal is closed, once the writer's connection is: SQLite may write to the file until then.
#[derive(Debug)]
struct Closing {
    journal: Journal,
    is_clean: bool,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if self.is_clean
            && let Err(error) = self.journal.shared.continuity.close()
        {
            tracing::warn!(%error, "cannot record that the journal is closed: the next start begins a new epoch");
        }
    }
}
