//! What the journal says of itself in `meta`: the epoch, who has it open, how far the numbering is.

use super::{Sync, wal::Tail};
use crc32fast::hash;
use rusqlite::{Connection, Error, OptionalExtension, ToSql, ffi, params};
use uuid::Uuid;

/// What is on disk before anything is acknowledged: without it the next start could not know what was lost.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) epoch: Uuid,
    /// How the journal is synced, and in which run of the machine.
    open: String,
    head: u64,
}

impl Mark {
    /// The epoch is the one before, unless what was acknowledged may be gone: after a power cut without full sync, and after
    /// damage to the log written ahead.
    pub(super) fn find(connection: &Connection, sync: Sync, tail: Tail, head: u64) -> rusqlite::Result<Self> {
        // Changes with each start of the machine.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let before = get(connection, "open")?;
        let before = before.as_deref().and_then(|before| before.split_once(' '));
        let is_same_boot = before.is_some_and(|(_, before)| before == boot && !boot.is_empty());
        let cut_off = before.is_some_and(|(sync, _)| sync == "normal") && !is_same_boot;
        let is_lost = tail == Tail::Lost || tail == Tail::Torn && is_same_boot;
        let known = get(connection, "epoch")?.and_then(|text| Uuid::parse_str(&text).ok());
        let epoch = match known {
            Some(epoch) if !cut_off && !is_lost => epoch,
            _ => Uuid::now_v7(),
        };
        if is_lost {
            tracing::error!(%epoch, head, "the end of the log written ahead is damaged: events that were acknowledged are gone, so the epoch is a new one");
        } else if cut_off {
            tracing::warn!(%epoch, head, "the machine stopped while the journal was not fully synced: the last events may be gone, so the epoch is a new one");
        }
        let sync = if sync == Sync::Full { "full" } else { "normal" };
        Ok(Self { epoch, open: format!("{sync} {boot}"), head })
    }

    /// Writes it, and copies everything that was written ahead into the file. Only then is it known to be on disk, whatever
    /// happened before this start: a process that was killed may have left what was never synced, and a sync that failed
    /// what the system holds for written and the disk does not have.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        set(connection, "epoch", self.epoch.to_string())?;
        set(connection, "open", &self.open)?;
        say_head(connection, self.head)?;
        let (busy, frames, copied) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        if busy != 0 && copied < frames {
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
        Ok(())
    }
}

/// It ends well.
pub(super) fn close(connection: &Connection, head: u64) -> rusqlite::Result<()> {
    say_head(connection, head)?;
    connection.execute("DELETE FROM meta WHERE key = 'open'", []).map(drop)
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
