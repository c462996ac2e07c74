//! Where the numbering stands: the first seq and the last, also where damage hides them.

use super::{mark, row};
use rusqlite::{Connection, OptionalExtension};

pub(super) struct Place {
    pub(super) oldest: u64,
    pub(super) head: u64,
    /// The end cannot be read, so nothing may be numbered after it.
    pub(super) is_damaged: bool,
}

impl Place {
    pub(super) fn find(connection: &Connection) -> Self {
        let oldest = oldest(connection);
        let (whole, is_damaged) = match at_end(connection, "DESC") {
            Ok(None) => (oldest - 1, false),
            Ok(Some(Some(seq))) => (seq, false),
            // Not what was written, or not to be read at all: its number is not to be trusted.
            Ok(Some(None)) | Err(_) => (last_whole(connection, oldest), true),
        };
        // What is between was there, and is said to be damaged by whoever reads it.
        let said = mark::said_head(connection).unwrap_or(0);
        let head = whole.max(said);
        Self { oldest: oldest.min(head + 1), head, is_damaged: is_damaged || said > whole }
    }
}

/// As it was written; or the first event's, where that is there though it should not be.
fn oldest(connection: &Connection) -> u64 {
    let sql = "SELECT value FROM meta WHERE key = 'oldest'";
    let said = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap_or(1);
    let said = u64::try_from(said).unwrap_or(1).max(1);
    match at_end(connection, "ASC") {
        Ok(Some(Some(first))) if first < said => first.max(1),
        _ => said,
    }
}

/// The seq of the first or the last event; `None` inside if that is not what was written.
fn at_end(connection: &Connection, order: &str) -> rusqlite::Result<Option<Option<u64>>> {
    let columns = row::COLUMNS;
    let sql = format!("SELECT {columns} FROM events ORDER BY seq {order} LIMIT 1");
    let found = connection.query_row(&sql, [], row::read).optional()?;
    Ok(found.map(|event| event.map(|event| event.seq)))
}

/// The last event that can be read, searched from the end by halves and then one by one.
fn last_whole(connection: &Connection, oldest: u64) -> u64 {
    let columns = row::COLUMNS;
    let sql = format!("SELECT {columns} FROM events WHERE seq <= ?1 ORDER BY seq DESC LIMIT 64");
    let before = |seq: u64| -> rusqlite::Result<Option<u64>> {
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([i64::try_from(seq).unwrap_or(i64::MAX)])?;
        while let Some(found) = rows.next()? {
            if let Some(event) = row::read(found)? {
                return Ok(Some(event.seq));
            }
        }
        Ok(None)
    };
    if let Ok(Some(seq)) = before(i64::MAX as u64) {
        return seq;
    }
    let (mut whole, mut unknown) = (oldest - 1, i64::MAX as u64);
    while whole + 1 < unknown {
        let middle = whole + (unknown - whole) / 2;
        match before(middle) {
            Ok(Some(seq)) if seq > whole => whole = seq,
            _ => unknown = middle,
        }
    }
    whole
}
