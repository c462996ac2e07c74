//! Where damage ends. Rows that are missing or not what was written are passed over one by one; where SQLite cannot even
//! step over a page, by trying further on.

use super::row;
use rusqlite::{Connection, params};

/// The last seq from `from` on that cannot be read: `from` cannot, and what follows it can, or is after `head`.
pub(super) fn end(connection: &Connection, from: u64, head: u64) -> u64 {
    let mut bad = from;
    let mut step = 1;
    while bad < head {
        match next_whole(connection, bad + 1, head) {
            Ok(Some(whole)) => return whole - 1,
            Ok(None) => return head,
            // A page that cannot be read: what it held is not known, so the next try is further on, and then closer.
            Err(_) => {
                bad = bad.saturating_add(step).min(head);
                step *= 2;
                if let Some(whole) = closest(connection, bad, step, head) {
                    return whole - 1;
                }
            }
        }
    }
    head
}

/// Between a place that cannot be read, `step / 2` before `bad`, and `bad`, if that can: the first that can be read.
fn closest(connection: &Connection, bad: u64, step: u64, head: u64) -> Option<u64> {
    let mut whole = next_whole(connection, bad + 1, head).ok()?.unwrap_or(head + 1);
    let mut unreadable = bad.saturating_sub(step / 2);
    while unreadable + 1 < whole {
        let middle = unreadable + (whole - unreadable) / 2;
        match next_whole(connection, middle, head) {
            Ok(found) if found.unwrap_or(head + 1) < whole => whole = found.unwrap_or(head + 1),
            // From here on it can be read, and nothing whole is before what was found.
            Ok(_) if whole > middle => return Some(whole),
            Ok(_) => whole = middle,
            Err(_) => unreadable = middle,
        }
    }
    Some(whole)
}

/// The first row from `from` on that is what was written.
fn next_whole(connection: &Connection, from: u64, head: u64) -> rusqlite::Result<Option<u64>> {
    let columns = row::COLUMNS;
    let sql = format!("SELECT {columns} FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![from as i64, i64::try_from(head).unwrap_or(i64::MAX)])?;
    while let Some(found) = rows.next()? {
        // A page in a wrong place may bring rows that were not asked for.
        if let Some(event) = row::read(found)?.filter(|event| (from..=head).contains(&event.seq)) {
            return Ok(Some(event.seq));
        }
    }
    Ok(None)
}
