//! What goes: the oldest events, by age, number and bytes, in steps small enough that no round waits for one.

use super::{Journal, change::now_ms, mark};
use rusqlite::{Connection, OptionalExtension, params};

/// Most events that one step removes.
pub(super) const STEP: usize = 2_048;

/// Whether there is anything to remove.
pub(super) fn is_due(connection: &Connection, journal: &Journal) -> bool {
    last_to_go(connection, journal, None, 1).is_ok_and(|last| last.is_some())
}

/// Removes up to `most` events and gives the first seq that is left, if any went. `head`: the last seq of this round.
pub(super) fn step(
    connection: &Connection,
    journal: &Journal,
    head: Option<u64>,
    most: usize,
) -> rusqlite::Result<Option<u64>> {
    let Some(last) = last_to_go(connection, journal, head, most)? else { return Ok(None) };
    connection.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([last as i64])?;
    mark::set(connection, "oldest", last as i64 + 1)?;
    Ok(Some(last + 1))
}

/// Removes a plugin's oldest dead letters that are too many, and gives how many went. Each has a bound of its own: one that gives up
/// everything costs no other its letters.
pub(super) fn bound_dead_letters(connection: &Connection, journal: &Journal, plugin: &str) -> rusqlite::Result<u64> {
    let most = journal.config().max_dead_letters;
    if most == 0 {
        return Ok(0);
    }
    let sql = "DELETE FROM dead_letters WHERE plugin = ?1 AND id <=
               (SELECT id FROM dead_letters WHERE plugin = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    let gone = connection.prepare_cached(sql)?.execute(params![plugin, i64::try_from(most).unwrap_or(i64::MAX)])?;
    Ok(gone as u64)
}

fn last_to_go(
    connection: &Connection,
    journal: &Journal,
    head: Option<u64>,
    most: usize,
) -> rusqlite::Result<Option<u64>> {
    let (config, oldest) = (journal.config(), journal.oldest());
    if config.max_age_s == 0 && config.max_events == 0 && config.max_bytes == 0 {
        return Ok(None);
    }
    let head = match head {
        Some(head) => head,
        None => connection
            .prepare_cached("SELECT max(seq) FROM events")?
            .query_row([], |row| row.get::<_, Option<i64>>(0))?
            .unwrap_or(0) as u64,
    };
    // The last event stays: it says where the numbering is.
    let allowed = head.saturating_sub(1).min(oldest + most as u64 - 1);
    let mut last = 0;
    if config.max_events > 0 {
        last = last.max(head.saturating_sub(config.max_events));
    }
    if config.max_age_s > 0 {
        let cutoff = now_ms() - i64::try_from(config.max_age_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        last = last.max(last_older(connection, oldest, allowed, cutoff)?);
    }
    if config.max_bytes > 0 && used_bytes(connection)? > config.max_bytes {
        last = allowed;
    }
    let last = last.min(allowed);
    if last < oldest {
        return Ok(None);
    }
    let last = if config.past_handlers { last } else { last.min(finished(connection)?) };
    Ok((last >= oldest).then_some(last))
}

/// How far all handlers are done; everything, if there are none.
fn finished(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT min(min(done, ifnull((SELECT min(seq) - 1 FROM retries WHERE retries.plugin = cursors.plugin
               AND event IS NULL), done))) FROM cursors WHERE removed_ms IS NULL";
    let done = connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0))?;
    Ok(done.map_or(u64::MAX, |done| done as u64))
}

/// The last event from `first` to `last` that was received before `cutoff`; 0 if the first was not.
fn last_older(connection: &Connection, first: u64, last: u64, cutoff: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT received_ms FROM events WHERE seq >= ?1 ORDER BY seq LIMIT 1";
    let received: Option<i64> =
        connection.prepare_cached(sql)?.query_row([first as i64], |row| row.get(0)).optional()?;
    if received.is_none_or(|received| received >= cutoff) {
        return Ok(0);
    }
    let sql = "SELECT max(seq) FROM events WHERE seq BETWEEN ?1 AND ?2 AND received_ms < ?3";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![first as i64, last as i64, cutoff], |row| row.get::<_, Option<i64>>(0))?;
    Ok(found.unwrap_or(0) as u64)
}

/// What the file holds, without the room that is free for new events.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT (page_count - freelist_count) * page_size
               FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
    let bytes: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(bytes.try_into().unwrap_or(0))
}
