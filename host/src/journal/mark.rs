//! What the journal says of itself: its epochs, who has it open, how far the numbering is.

use super::{
    Sync,
    continuity::{Continuity, Discontinuity, Record},
    lineage::Lineage,
    schema::FILE,
    wal::Tail,
};
use crc32fast::hash;
use rusqlite::{Connection, Error, OptionalExtension, ToSql, ffi, params};
use std::io;

/// The key that stands in `meta` while a log goes with the database
/// that is not empty. Hubs before schema version 6 did not write it.
const LOG: &str = "log";

/// What is on disk before anything is acknowledged: without it the next start could not know what was lost.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) lineage: Lineage,
    /// The current epoch is a new one, which only [`Mark::write`] makes known.
    is_new_epoch: bool,
    /// How the journal is synced, and in which run of the machine.
    open: String,
    head: u64,
}

impl Mark {
    /// The current epoch goes on only if it is proved that the log, which ends
    /// at `head`, ends where the last hub left it (see [`discontinuity`]), and
    /// if no power cut came without full sync. `is_new`: there was no journal.
    pub(super) fn find(
        connection: &Connection,
        sync: Sync,
        (tail, record): (Tail, &Record),
        (head, is_new): (u64, bool),
    ) -> rusqlite::Result<Self> {
        let last = LastRun::find(connection)?;
        let found = match discontinuity(connection, tail, record, head)? {
            found if last.lost(tail) => found,
            // Without full sync that is what an operator chose to risk, whatever else was found.
            _ if last.was_synced_late && !last.is_same_boot => {
                let reason = "the machine stopped while the journal was not fully synced: the last events may be gone";
                Some(Discontinuity { is_loss: false, reason: reason.into() })
            }
            found => found,
        };
        let known = Lineage::read(connection).unwrap_or_default();
        let (lineage, is_new_epoch) = match (known, &found) {
            (Some(known), None) => (known, false),
            (Some(known), Some(_)) => (known.with_new_epoch(head + 1), true),
            (None, _) => (Lineage::new(head + 1), true),
        };
        let epoch = lineage.current();
        match found {
            _ if is_new => {}
            Some(Discontinuity { is_loss: true, reason }) => {
                tracing::error!(%epoch, head, "{reason}; a new epoch begins after seq {head}");
            }
            Some(Discontinuity { reason, .. }) => {
                tracing::warn!(%epoch, head, "{reason}; a new epoch begins after seq {head}");
            }
            None if is_new_epoch => tracing::warn!(%epoch, head, "the journal names no epoch; a new one begins"),
            None => {}
        }
        let sync = if sync == Sync::Full { "full" } else { "normal" };
        Ok(Self { lineage, is_new_epoch, open: format!("{sync} {}", last.boot), head })
    }

    /// Writes it to the database and begins the continuity record. The record of the last hub is
    /// replaced only once it is not needed any more: where the epoch stays, the database changes after
    /// the new record says that the journal is open; a new epoch is on disk before that.
    pub(super) fn write(&self, connection: &Connection, continuity: &Continuity) -> rusqlite::Result<()> {
        let begin = || continuity.begin().map_err(unwritable);
        if self.is_new_epoch {
            self.write_database(connection)?;
            begin()
        } else {
            begin()?;
            self.write_database(connection)
        }
    }

    /// Writes it, and copies everything that was written ahead into the file. Only then is it known to be on disk, whatever
    /// happened before this start: a process that was killed may have left what was never synced, and a sync that failed
    /// what the system holds for written and the disk does not have.
    ///
    /// From then on the file itself says that a log goes with it and is not empty: that the journal
    /// is open is written to the log first, and copied into the file without cutting the log off.
    fn write_database(&self, connection: &Connection) -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        self.lineage.write(&transaction)?;
        forget_open(&transaction)?;
        say_head(&transaction, self.head)?;
        transaction.commit()?;
        checkpoint(connection, "TRUNCATE")?;
        let transaction = connection.unchecked_transaction()?;
        set(&transaction, "open", &self.open)?;
        set(&transaction, LOG, "yes")?;
        transaction.commit()?;
        checkpoint(connection, "PASSIVE")
    }
}

/// What is known of the hub that had the journal open before and did not close it.
struct LastRun {
    /// Names this run of the machine.
    boot: String,
    is_same_boot: bool,
    /// It acknowledged what was not synced yet.
    was_synced_late: bool,
}

impl LastRun {
    fn find(connection: &Connection) -> rusqlite::Result<Self> {
        // Changes with each start of the machine.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let before = get(connection, "open")?;
        let before = before.as_deref().and_then(|before| before.split_once(' '));
        let is_same_boot = before.is_some_and(|(_, before)| before == boot && !boot.is_empty());
        Ok(Self { boot, is_same_boot, was_synced_late: before.is_some_and(|(sync, _)| sync == "normal") })
    }

    /// What a process wrote is there in order, however it ended: only a power cut tears a log.
    fn lost(&self, tail: Tail) -> bool {
        tail == Tail::Lost || tail == Tail::Torn && self.is_same_boot
    }
}

/// Why it is not proved that the log ends where the last hub left it; `None` if it is. `tail` and
/// `record` are what was found before SQLite looked at the files, `head` is the last seq in them.
pub(super) fn discontinuity(
    connection: &Connection,
    tail: Tail,
    record: &Record,
    head: u64,
) -> rusqlite::Result<Option<Discontinuity>> {
    if LastRun::find(connection)?.lost(tail) {
        let reason = format!("{FILE}-wal is damaged: transactions at its end, which were acknowledged, are gone");
        return Ok(Some(Discontinuity { is_loss: true, reason }));
    }
    Ok(record.discontinuity(tail, expects_log(connection)?, head))
}

fn unwritable(error: io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ffi::SQLITE_FULL,
        _ => ffi::SQLITE_IOERR_WRITE,
    };
    Error::SqliteFailure(ffi::Error::new(code), Some(format!("the continuity record: {error}")))
}

/// Copies all of the log written ahead into the file.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    let (busy, frames, copied) = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    })?;
    if busy != 0 && copied < frames {
        return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
    }
    Ok(())
}

/// It ends well.
pub(super) fn close(connection: &Connection, head: u64) -> rusqlite::Result<()> {
    say_head(connection, head)?;
    forget_open(connection)
}

fn forget_open(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM meta WHERE key IN ('open', ?1)", [LOG]).map(drop)
}

/// Whether the database, without its log, says that a log goes with it that is not empty.
/// `connection` is one that found none.
fn expects_log(connection: &Connection) -> rusqlite::Result<bool> {
    get(connection, LOG).map(|log| log.is_some())
}

/// That the numbering is at least there. Not on the pages of the events: damage to those may take the last of them without a
/// trace, and then their seqs must not be given again. Written whenever the log written ahead was copied, since what that
/// still holds has a witness of its own; and in the end.
pub(super) fn say_head(connection: &Connection, head: u64) -> rusqlite::Result<()> {
    let text = head.to_string();
    set(connection, "head", format!("{text} {:08x}", hash(text.as_bytes())))
}

/// What was said last; none if that is damaged itself.
pub(super) fn said_head(connection: &Connection) -> Option<u64> {
    let said = get(connection, "head").ok()??;
    let (text, sum) = said.split_once(' ')?;
    (u32::from_str_radix(sum, 16) == Ok(hash(text.as_bytes()))).then(|| text.parse().ok())?
}

/// What `meta` holds under a key, if it is a text.
pub(super) fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// Keeps a value under a key of `meta`.
pub(super) fn set(connection: &Connection, key: &str, value: impl ToSql) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![key, value]).map(drop)
}
