//! Reading: a few connections, lent to whoever reads, on threads that may block. Nobody who reads holds up the writer.

use super::{
    Journal, Retry,
    change::{now_ms, remaining_pause},
    damage, dead_letter, row, schema,
};
use crate::event::Event;
use rusqlite::{Connection, ErrorCode, OptionalExtension, ffi, params};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Reads under way at once: each takes a thread, and the disk has one arm.
const READERS: usize = 4;
/// Most events of one read.
const EVENTS: usize = 1_024;
/// Most bytes of events of one read, but for one event.
const BYTES: usize = 256 << 10;
/// After the journal could not be read.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most retries of one plugin that are read at once: as many as a lane holds.
const RETRIES: usize = 1_024;
/// Most bytes of their events, but for one: as many as a lane holds.
const RETRY_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Readers {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

/// Seqs in a row, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// What there is at a place of the journal.
#[derive(Debug)]
pub enum Found {
    /// Events in a row, from that place on.
    Events(Vec<Arc<Event>>),
    /// These were there and cannot be read.
    Damaged(Span),
}

/// Where a handler stands.
#[derive(Debug, Default)]
pub struct Consumer {
    /// It is done with everything up to here.
    pub done: u64,
    /// No event after this one was ever handed to it.
    pub begun: u64,
    /// Events after `done` that it is done with.
    pub ahead: BTreeSet<u64>,
}

/// What a handler is to try again.
#[derive(Debug, Default)]
pub struct Retries {
    /// The oldest first, each with its event; `None` where that is gone.
    pub found: Vec<(Retry, Option<Arc<Event>>)>,
    /// There are more.
    pub more: bool,
}

impl Readers {
    /// Opens all of its connections at once: they are of the files
    /// that are there now, whatever is at their paths later.
    pub(super) fn new(file: PathBuf) -> rusqlite::Result<Self> {
        let open = || {
            let connection = schema::reader(&file)?;
            // Only the first read opens the log.
            connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
            Ok(connection)
        };
        let idle = (0..READERS).map(|_| open()).collect::<rusqlite::Result<_>>()?;
        Ok(Self { file, idle: Mutex::new(idle), permits: Semaphore::new(READERS) })
    }

    /// Closes those that nobody uses, so that the writer's connection is the last to go.
    pub(super) fn close_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn lend(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::reader(&self.file), Ok)
    }

    fn take_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

impl Journal {
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let _permit = self.shared.readers.permits.acquire().await?;
        let shared = self.shared.clone();
        let work = move || {
            let connection = shared.readers.lend()?;
            let result = read(&connection);
            // One that failed may be at fault itself.
            if result.is_ok() {
                shared.readers.take_back(connection);
            }
            result
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }

    /// Events from `from` up to at most `head`, which is there; never none. What cannot be read is said, counted, and logged
    /// where it begins.
    pub async fn events(&self, from: u64, head: u64) -> Found {
        let oldest = self.oldest();
        let found = loop {
            match self.read(move |connection| events(connection, from, head)).await {
                Ok(found) => break found,
                // No damage: nobody is to pass over what can be read a moment later.
                Err(error) => tracing::error!(%error, from, "the journal cannot be read now"),
            }
            tokio::time::sleep(PATIENCE).await;
        };
        match &found {
            Found::Events(events) => self.shared.metrics.journal_read.add(events.len() as u64),
            // Retention may have taken it meanwhile; that is no damage.
            Found::Damaged(_) if from < self.oldest() => {}
            Found::Damaged(Span { from, to }) => {
                self.shared.metrics.journal_damaged.add(to - from + 1);
                tracing::error!(
                    from,
                    to,
                    oldest,
                    "events of the journal are damaged; `busway journal verify` says more"
                );
            }
        }
        found
    }

    /// Where a handler stands; none if it was never there.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn consumer(&self, plugin: Arc<str>) -> anyhow::Result<Option<Consumer>> {
        self.read(move |connection| {
            let sql = "SELECT done, begun FROM cursors WHERE plugin = ?1";
            let found: Option<(i64, i64)> = connection
                .prepare_cached(sql)?
                .query_row([&*plugin], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((done, begun)) = found else { return Ok(None) };
            let mut statement = connection.prepare_cached("SELECT seq FROM done WHERE plugin = ?1 AND seq > ?2")?;
            let ahead = statement.query_map(params![&*plugin, done], |row| row.get::<_, i64>(0))?;
            let ahead = ahead.map(|seq| seq.map(|seq| seq as u64)).collect::<rusqlite::Result<_>>()?;
            Ok(Some(Consumer { done: done as u64, begun: begun as u64, ahead }))
        })
        .await
    }

    /// What a handler is to try again, but for what it has in hand: at most 1,024 of it, and about 8 MiB.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn retries(&self, plugin: Arc<str>, in_hand: BTreeSet<u64>) -> anyhow::Result<Retries> {
        self.read(move |connection| retries(connection, &plugin, &in_hand)).await
    }

    /// The dead letters that are asked for, the oldest first: at most `select.limit`, and about 4 MiB.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn letters(&self, select: dead_letter::Select) -> anyhow::Result<dead_letter::Letters> {
        self.read(move |connection| dead_letter::list(connection, &select)).await
    }

    /// As [`Journal::letters`], but only which they are and whose: those whose events are about 8 MiB together.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn letter_owners(&self, select: dead_letter::Select) -> anyhow::Result<Vec<dead_letter::Owner>> {
        self.read(move |connection| dead_letter::owners(connection, &select)).await
    }

    /// The id of the newest dead letter; 0 if there is none.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn newest_letter(&self) -> anyhow::Result<i64> {
        self.read(dead_letter::newest).await
    }

    /// What its file holds, without the room that is free in it; in bytes.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn used_bytes(&self) -> anyhow::Result<u64> {
        self.read(super::retention::used_bytes).await
    }

    /// The names of all handlers that retention waits for.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn handlers(&self) -> anyhow::Result<Vec<Arc<str>>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT plugin FROM cursors WHERE removed_ms IS NULL")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
        .await
    }
}

/// See [`Journal::retries`].
fn retries(connection: &Connection, plugin: &str, in_hand: &BTreeSet<u64>) -> rusqlite::Result<Retries> {
    let sql = "SELECT seq, attempt, due_ms, event, pause_ms FROM retries WHERE plugin = ?1 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([plugin])?;
    let (mut found, mut bytes, now) = (Vec::new(), 0, now_ms());
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)? as u64;
        if in_hand.contains(&seq) {
            continue;
        }
        if found.len() >= RETRIES || bytes >= RETRY_BYTES {
            return Ok(Retries { found, more: true });
        }
        let pause = remaining_pause(row.get(2)?, row.get(4)?, now);
        let retry = Retry { seq, attempt: row.get(1)?, pause, event: row.get(3)? };
        let event = match &retry.event {
            Some(text) => dead_letter::parse(text, seq),
            None => match events(connection, seq, seq)? {
                Found::Events(events) => events.into_iter().next(),
                Found::Damaged(_) => None,
            },
        };
        bytes += event.as_ref().map_or(0, |event| event.weight());
        found.push((retry, event));
    }
    Ok(Retries { found, more: false })
}

/// See [`Journal::events`]. An error says nothing of what is there.
pub(super) fn events(connection: &Connection, from: u64, head: u64) -> rusqlite::Result<Found> {
    let mut events = Vec::new();
    match collect(connection, from, head, &mut events) {
        _ if !events.is_empty() => Ok(Found::Events(events)),
        Err(error) if !is_damage(&error) => Err(error),
        Ok(()) | Err(_) => Ok(Found::Damaged(Span { from, to: damage::end(connection, from, head) })),
    }
}

/// Whether it is the file that is at fault, and not the moment.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || failure.extended_code == ffi::SQLITE_IOERR_SHORT_READ
        }
        _ => true,
    }
}

/// Reads until something is missing, damaged, or enough.
fn collect(connection: &Connection, from: u64, head: u64, events: &mut Vec<Arc<Event>>) -> rusqlite::Result<()> {
    let columns = row::COLUMNS;
    let sql = format!("SELECT {columns} FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq LIMIT {EVENTS}");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![from as i64, i64::try_from(head).unwrap_or(i64::MAX)])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let expected = from + events.len() as u64;
        let Some(event) = row::read(row)?.filter(|event| event.seq == expected) else { break };
        bytes += event.weight();
        if bytes > BYTES && !events.is_empty() {
            break;
        }
        events.push(Arc::new(event));
    }
    Ok(())
}
