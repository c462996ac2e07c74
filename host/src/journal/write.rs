//! The only writer: one transaction for each round, and what its failure means.

use super::{
    Change, Journal, Sync, WriteError,
    change::now_ms,
    checkpoint::Checkpointer,
    clock::{JournalClock, Reading},
    letter_bytes::{LetterBytes, Removed},
    lock::Lock,
    mark::{self, Mark},
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

/// When a round is written, in milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy)]
struct RoundTime {
    /// The time by the wall clock.
    wall_ms: i64,
    /// The time by the journal's own clock, see [`JournalClock`].
    journal_ms: i64,
}

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
    unwritten: Option<Mark>,
    closing: Closing,
    #[cfg(test)]
    recorder: Option<Arc<std::sync::Mutex<Vec<tests::Recorded>>>>,
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
        unwritten: Option<Mark>,
    ) -> Self {
        // A newest event that cannot be read is as good as none: the wall clock is believed then.
        let sql = "SELECT received_ms FROM events ORDER BY seq DESC LIMIT 1";
        let newest_ms = connection.query_row(sql, [], |row| row.get(0)).ok();
        let clock = JournalClock::start(newest_ms, now_ms(), journal.config().max_age_s);
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
            #[cfg(test)]
            recorder: None,
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
        let time = self.time();
        self.apply(events, changes, time)?;
        #[cfg(test)]
        if let Some(rounds) = &self.recorder {
            let round = tests::Recorded { events: events.to_vec(), changes: changes.to_vec(), time };
            rounds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(round);
        }
        Ok(())
    }

    /// The same round on the same state gives the same state, whenever
    /// and wherever it is applied: all that it depends on is here.
    fn apply(&mut self, events: &[Arc<Event>], changes: &[Change], time: RoundTime) -> Result<(), WriteError> {
        let RoundTime { wall_ms, journal_ms: now_ms } = time;
        let head = events.last().map_or(self.head, |event| event.seq);
        let say_head = self.checkpointer.has_copied();
        let letters_before = self.letter_bytes.take();
        let (mut letters, mut letters_gone) = (None, Removed::default());
        let written = self.transact(|connection, journal| {
            row::insert(connection, events, now_ms)?;
            if say_head {
                mark::say_head(connection, head)?;
            }
            changes.iter().try_for_each(|change| change.write(connection, wall_ms))?;
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
        let now_ms = self.time().journal_ms;
        let held = self.letter_bytes.take().map_or_else(|| LetterBytes::read(&self.connection), Ok);
        let Ok(held) = held.inspect_err(|error| drop(self.journal.shared.fault(error))) else { return };
        let measured = Measured { now_ms, letter_bytes: self.letter_bytes.insert(held).total() };
        if retention::is_due(&self.connection, &self.journal, measured) {
            let _ = self
                .transact(|connection, journal| retention::step(connection, journal, measured, None, retention::STEP));
        }
    }

    /// What time it is. A wall clock that jumps is logged and counted.
    fn time(&mut self) -> RoundTime {
        let wall_ms = now_ms();
        let Reading { now_ms: journal_ms, jumped_ms } = self.clock.read(wall_ms);
        if let Some(jumped_ms) = jumped_ms {
            self.journal.shared.metrics.clock_jumps.inc();
            tracing::warn!(
                jumped_ms,
                "the wall clock jumped; the age of events is counted by the time that really passes"
            );
        }
        RoundTime { wall_ms, journal_ms }
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
            Some(mark) => mark.write(&self.connection, &shared.continuity),
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

    /// Every `flush_s`, on a thread of its own: whether the files
    /// are still at their paths, and a new record of continuity.
    pub(super) fn look_after_files(&self) {
        if matches!(&*self.trouble.borrow(), Some(WriteError::ReadOnly(_))) {
            return;
        }
        if let Err(reason) = self.files.check() {
            self.set_trouble(WriteError::ReadOnly(reason.into()));
        } else if let Err(error) = self.continuity.renew() {
            // The record of before is still true. Where there is
            // no room for it, there is none for events either.
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

/// Records that the journal is closed, once the writer's
/// connection is: SQLite may write to the file until then.
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

#[cfg(test)]
mod tests {
    use super::{super::*, *};
    use crate::{
        event::NewEvent,
        log::{CommitError, Log, LogConfig},
        metrics::Door,
    };
    use rusqlite::types::Value;
    use std::{path::Path, sync::Mutex, time::Duration};

    /// A round that was written.
    #[derive(Debug)]
    pub(super) struct Recorded {
        pub(super) events: Vec<Arc<Event>>,
        pub(super) changes: Vec<Change>,
        pub(super) time: RoundTime,
    }

    fn config(dir: &Path) -> JournalConfig {
        // Retention takes a part of it.
        JournalConfig {
            dir: dir.to_owned(),
            sync: Sync::Normal,
            max_events: 500,
            max_dead_letters: 20,
            ..JournalConfig::default()
        }
    }

    fn opened(dir: &Path) -> Opened {
        open(&config(dir), (Duration::from_secs(60), 1_000), Arc::default()).unwrap().0
    }

    /// All tables, row by row. Not what is said of the
    /// file itself: how far it was copied, and its epochs.
    fn tables(dir: &Path) -> Vec<String> {
        let connection = Connection::open(dir.join(FILE)).unwrap();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('epochs', 'sqlite_sequence') ORDER BY name";
        let names: Vec<String> =
            connection.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut rows = Vec::new();
        for name in names {
            let only = if name == "meta" { "WHERE key = 'oldest'" } else { "" };
            let mut statement = connection.prepare(&format!("SELECT * FROM {name} {only} ORDER BY 1, 2")).unwrap();
            let columns = statement.column_count();
            let mut found = statement.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                let values: Vec<Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
                rows.push(format!("{name} {values:?}"));
            }
        }
        rows
    }

    fn event(text: &str, step: u64) -> Arc<Event> {
        Arc::new(NewEvent::new("a").data(format!("{text} {step}")).unwrap().admit().unwrap())
    }

    /// What handlers of one name, and operators, have the journal do.
    async fn work(log: &Log, plugin: &Arc<str>) -> Result<(), CommitError> {
        let own = |changes| log.record(Vec::new(), changes);
        let (plugin, mut committer) = (|| plugin.clone(), log.committer());
        own(vec![Change::Opened { plugin: plugin(), done: 0 }]).await?;
        for step in 1..=200_u64 {
            let key = format!("k{}", step % 7);
            let value = (step % 11 > 0).then(|| Arc::from(step.to_le_bytes()));
            let changes =
                vec![Change::Kv { plugin: plugin(), key, value }, Change::Done { plugin: plugin(), seq: step }];
            assert!(committer.commit(vec![event("emitted", step)], changes));
            committer.result().await?;
            match step % 10 {
                0 => own(vec![Change::Cursor { plugin: plugin(), done: step - 5 }]).await?,
                3 => {
                    let (attempt, pause) = (2, Duration::from_millis(step));
                    own(vec![Change::Retry { plugin: plugin(), seq: step, attempt, pause, code: "retry" }]).await?;
                }
                5 => {
                    let (message, event) = ("no".to_owned(), "{}".to_owned());
                    let (seq, code, attempts) = (step, "reject", 1);
                    let letter = DeadLetter { plugin: plugin(), seq, code, message, attempts, version: None, event };
                    own(vec![Change::Dead(Box::new(letter))]).await?;
                }
                7 => own(vec![Change::Replay { letters: vec![step as i64 / 10] }]).await?,
                8 => own(vec![Change::Purge { letters: vec![step as i64 / 20] }]).await?,
                9 => own(vec![Change::Begun { plugin: plugin(), begun: step + 100 }]).await?,
                _ => {}
            }
        }
        own(vec![Change::Removed { plugin: plugin() }]).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_rounds_of_a_busy_run_applied_to_an_empty_journal_give_the_same_tables() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let mut opened_first = opened(first.path());
        opened_first.writer.recorder = Some(rounds.clone());
        let log = Log::on_journal(&LogConfig::default(), Arc::default(), opened_first).unwrap();
        let plugins: Vec<Arc<str>> = ["one", "two", "three"].map(Arc::from).to_vec();
        let publish = async {
            for step in 0..400 {
                log.append(Door::Library, vec![event("published", step)], true).unwrap().seqs().await.unwrap();
            }
        };
        let works = futures_util::future::try_join_all(plugins.iter().map(|plugin| work(&log, plugin)));
        let (worked, ()) = tokio::join!(works, publish);
        worked.unwrap();
        log.drain();
        log.close();
        log.ended().await;
        let before = tables(first.path());
        let mut again = opened(second.path());
        for Recorded { events, changes, time } in rounds.lock().unwrap().iter() {
            again.writer.apply(events, changes, *time).unwrap();
        }
        drop(again);
        let after = tables(second.path());
        assert!(before.len() > 500, "{}", before.len());
        let differs = before.iter().zip(&after).find(|(before, after)| before != after);
        assert_eq!((differs, before.len()), (None, after.len()));
    }
}
