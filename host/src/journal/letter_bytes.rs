//! How many bytes the dead letters of each plugin hold, as a running sum, and the budgets that
//! bound them.

use super::{Change, DeadLetter, JournalConfig};
use rusqlite::{Connection, params};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a letter holds besides its event and message: the row's numbers, names and its share of the
/// index. In bytes.
const ROW_BYTES: u64 = 256;

/// The running sum. A transaction that fails, and one that takes letters out, leave it unknown: it
/// is read anew when it is needed.
#[derive(Debug, Default, Clone)]
pub(super) struct LetterBytes {
    by_plugin: BTreeMap<Arc<str>, u64>,
    total: u64,
}

/// What [`LetterBytes::bound`] removed.
#[derive(Debug, Default)]
pub(super) struct Removed {
    pub(super) letters: u64,
    /// Whose letters went because of their bytes.
    pub(super) over_budget: BTreeSet<Arc<str>>,
}

impl LetterBytes {
    /// Reads it from the table, without the texts themselves.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut bytes = Self::default();
        let sql = "SELECT plugin, sum(octet_length(event) + octet_length(message)), count(*)
                   FROM dead_letters GROUP BY plugin";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (texts, letters): (i64, i64) = (row.get(1)?, row.get(2)?);
            let held = texts.max(0) as u64 + letters.max(0) as u64 * ROW_BYTES;
            bytes.by_plugin.insert(row.get::<_, String>(0)?.into(), held);
            bytes.total += held;
        }
        Ok(bytes)
    }

    /// Of all plugins.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Whether a change takes letters out, so that the sum has to be read anew.
    pub(super) fn is_outdated_by(change: &Change) -> bool {
        matches!(change, Change::Replay { .. } | Change::Purge { .. })
    }

    /// Counts the letter that a change adds, if it does.
    pub(super) fn count(&mut self, change: &Change) {
        if let Change::Dead(letter) = change {
            let bytes = bytes_of(letter);
            *self.by_plugin.entry(letter.plugin.clone()).or_default() += bytes;
            self.total += bytes;
        }
    }

    /// Removes the oldest letters of these plugins that are too many or too large, then of
    /// whichever plugin holds most while all together are too large. The newest letter of a plugin
    /// stays, however large it is.
    pub(super) fn bound(
        &mut self,
        connection: &Connection,
        config: &JournalConfig,
        plugins: &BTreeSet<Arc<str>>,
    ) -> rusqlite::Result<Removed> {
        let mut removed = Removed::default();
        for plugin in plugins {
            removed.letters += self.remove_beyond_count(connection, plugin, config.max_dead_letters)?;
            let held = self.by_plugin.get(plugin).copied().unwrap_or(0);
            self.remove_over_budget(connection, plugin, over(held, config.max_dead_letter_bytes), &mut removed)?;
        }
        let mut left = self.by_plugin.clone();
        while over(self.total, config.max_total_dead_letter_bytes) > 0 {
            let Some((plugin, _)) = left.iter().max_by_key(|(_, bytes)| **bytes) else { break };
            let plugin = plugin.clone();
            left.remove(&plugin);
            let excess = over(self.total, config.max_total_dead_letter_bytes);
            self.remove_over_budget(connection, &plugin, excess, &mut removed)?;
        }
        Ok(removed)
    }

    fn remove_beyond_count(&mut self, connection: &Connection, plugin: &Arc<str>, max: u64) -> rusqlite::Result<u64> {
        if max == 0 {
            return Ok(0);
        }
        let sql = "SELECT id FROM dead_letters WHERE plugin = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![plugin, i64::try_from(max).unwrap_or(i64::MAX)])?;
        match rows.next()? {
            Some(row) => self.remove_through(connection, plugin, row.get(0)?),
            None => Ok(0),
        }
    }

    fn remove_over_budget(
        &mut self,
        connection: &Connection,
        plugin: &Arc<str>,
        excess: u64,
        removed: &mut Removed,
    ) -> rusqlite::Result<()> {
        if excess == 0 {
            return Ok(());
        }
        let sql = "SELECT id, octet_length(event) + octet_length(message) FROM dead_letters
                   WHERE plugin = ?1 AND id < (SELECT max(id) FROM dead_letters WHERE plugin = ?1) ORDER BY id";
        let (mut last, mut freed) = (None, 0);
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([plugin])?;
        while freed < excess
            && let Some(row) = rows.next()?
        {
            last = Some(row.get::<_, i64>(0)?);
            freed += row.get::<_, i64>(1)?.max(0) as u64 + ROW_BYTES;
        }
        drop(rows);
        if let Some(last) = last {
            removed.letters += self.remove_through(connection, plugin, last)?;
            removed.over_budget.insert(plugin.clone());
        }
        Ok(())
    }

    fn remove_through(&mut self, connection: &Connection, plugin: &Arc<str>, last: i64) -> rusqlite::Result<u64> {
        let sql = "SELECT ifnull(sum(octet_length(event) + octet_length(message)), 0) FROM dead_letters
                   WHERE plugin = ?1 AND id <= ?2";
        let texts: i64 = connection.prepare_cached(sql)?.query_row(params![plugin, last], |row| row.get(0))?;
        let sql = "DELETE FROM dead_letters WHERE plugin = ?1 AND id <= ?2";
        let letters = connection.prepare_cached(sql)?.execute(params![plugin, last])? as u64;
        let freed = texts.max(0) as u64 + letters * ROW_BYTES;
        if let Some(held) = self.by_plugin.get_mut(plugin) {
            *held = held.saturating_sub(freed);
        }
        self.total = self.total.saturating_sub(freed);
        Ok(letters)
    }
}

fn bytes_of(letter: &DeadLetter) -> u64 {
    (letter.event.len() + letter.message.len()) as u64 + ROW_BYTES
}

/// By how much `bytes` is over a budget; a budget of 0 is none.
fn over(bytes: u64, budget: u64) -> u64 {
    if budget == 0 { 0 } else { bytes.saturating_sub(budget) }
}
