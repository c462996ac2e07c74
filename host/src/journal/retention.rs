//! What goes: the oldest events, by age, number and bytes, in steps small enough that no round waits for one.

use super::{Journal, mark};
use rusqlite::{Connection, params};

/// Most events that one step removes.
pub(super) const STEP: usize = 2_048;
/// What a row takes besides its texts, at least. In bytes.
const ROW_BYTES: u64 = 96;

/// What the bounds of retention are compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// The journal's own clock, see [`super::clock`].
    pub(super) now_ms: i64,
    /// Bytes of dead letters: they have a budget of their own, so events do not go because of them.
    pub(super) letter_bytes: u64,
}

/// Whether there is anything to remove.
pub(super) fn is_due(connection: &Connection, journal: &Journal, measured: Measured) -> bool {
    last_to_go(connection, journal, measured, None, STEP).is_ok_and(|last| last.is_some())
}

/// Removes up to `most` events and gives the first seq that is left, if any went. `head`: the last seq of this round.
pub(super) fn step(
    connection: &Connection,
    journal: &Journal,
    measured: Measured,
    head: Option<u64>,
    most: usize,
) -> rusqlite::Result<Option<u64>> {
    let Some(last) = last_to_go(connection, journal, measured, head, most)? else { return Ok(None) };
    connection.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([last as i64])?;
    mark::set(connection, "oldest", last as i64 + 1)?;
    Ok(Some(last + 1))
}

fn last_to_go(
    connection: &Connection,
    journal: &Journal,
    measured: Measured,
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
        let max_age_ms = i64::try_from(config.max_age_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        let cutoff = measured.now_ms.saturating_sub(max_age_ms);
        last = last.max(last_older(connection, oldest, allowed, (cutoff, measured.now_ms))?);
    }
    if config.max_bytes > 0 {
        let excess = used_bytes(connection)?.saturating_sub(measured.letter_bytes).saturating_sub(config.max_bytes);
        last = last.max(last_to_free(connection, oldest, allowed, excess)?);
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

/// The last event from `first` to `last` that is older than `cutoff`, with none before it that is
/// younger; 0 if there is none. An event that was received after `now`, by a wall clock that was
/// wrong, is as old as those after it: it does not keep them.
fn last_older(connection: &Connection, first: u64, last: u64, (cutoff, now): (i64, i64)) -> rusqlite::Result<u64> {
    let sql = "SELECT seq, received_ms FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![first as i64, last as i64])?;
    let mut found = 0;
    while let Some(row) = rows.next()? {
        let received: i64 = row.get(1)?;
        if received < cutoff {
            found = row.get::<_, i64>(0)? as u64;
        } else if received <= now {
            break;
        }
    }
    Ok(found)
}

/// The last event from `first` to `last` that has to go so that about `excess` bytes become free; 0
/// for none. Rather too few than too many: what is missing goes with the next step.
fn last_to_free(connection: &Connection, first: u64, last: u64, excess: u64) -> rusqlite::Result<u64> {
    if excess == 0 {
        return Ok(0);
    }
    let sql = "SELECT seq, octet_length(data) + ifnull(octet_length(extensions), 0) + ifnull(octet_length(tags), 0)
               FROM events WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![first as i64, last as i64])?;
    let (mut found, mut freed) = (0, 0);
    while freed < excess
        && let Some(row) = rows.next()?
    {
        found = row.get::<_, i64>(0)? as u64;
        freed += row.get::<_, i64>(1)?.max(0) as u64 + ROW_BYTES;
    }
    Ok(found)
}

/// What the file holds, without the room that is free for new events.
pub(super) fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT (page_count - freelist_count) * page_size
               FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
    let bytes: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(bytes.try_into().unwrap_or(0))
}
