//! What a round makes true besides its events: each is one small statement in the same transaction.

use rusqlite::{Connection, params};
use std::{sync::Arc, time::Duration};

/// See the module's head. Plugins are known here by their names only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A plugin's kv: the value at a key, or none any more.
    Kv { plugin: Arc<str>, key: String, value: Option<Arc<[u8]>> },
    /// A handler is there: its cursor begins here, unless it has one. Retention waits for it.
    Opened { plugin: Arc<str>, done: u64 },
    /// A handler is gone. Its cursor stays, but nobody waits for it.
    Removed { plugin: Arc<str> },
    /// No event after this one has been handed to the handler.
    Begun { plugin: Arc<str>, begun: u64 },
    /// A handler is done with everything up to here, but for what it tries again.
    Cursor { plugin: Arc<str>, done: u64 },
    /// A handler is done with one event.
    Done { plugin: Arc<str>, seq: u64 },
    /// It is to try one again, after a pause from now.
    Retry { plugin: Arc<str>, seq: u64, attempt: u32, pause: Duration, code: &'static str },
    /// It could not handle one.
    Dead(Box<DeadLetter>),
    /// These dead letters are handed to their plugins again.
    Replay { letters: Vec<i64> },
    /// These dead letters are thrown away.
    Purge { letters: Vec<i64> },
    /// See [`Standing`].
    Standing(Standing),
}

/// How an operator, or its faults, have left a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// An operator took it out of service.
    pub disabled: bool,
    /// How often in a row it was in quarantine.
    pub quarantines: u32,
    /// When that ends, in milliseconds since 1970, UTC.
    pub quarantined_until_ms: Option<i64>,
    /// The limits that an operator set, as a JSON object; none if none are.
    pub limits: Option<String>,
}

/// An event that a handler could not handle, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose.
    pub plugin: Arc<str>,
    /// The event's.
    pub seq: u64,
    /// Stable: `reject`, `retry`, or a fault's code.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What the plugin that tried last calls its version, and the hash of its file.
    pub version: Option<(String, String)>,
    /// The event, as JSON.
    pub event: String,
}

/// An event that a handler is to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The event's.
    pub seq: u64,
    /// The attempt to come.
    pub attempt: u32,
    /// What is left of the pause before it, now: never more than was asked for, wherever the wall
    /// clock has gone.
    pub pause: Duration,
    /// The event as JSON, where it is not to be read from the journal's events.
    pub event: Option<String>,
}

/// The longest pause before a retry that a journal of before `pause_ms` may hold, in milliseconds.
const MAX_PAUSE_MS: i64 = 600_000;

/// What is left of a pause that ends at `due_ms`, of which `pause_ms` was asked for.
pub(super) fn remaining_pause(due_ms: i64, pause_ms: Option<i64>, now_ms: i64) -> Duration {
    let left = due_ms.saturating_sub(now_ms).clamp(0, pause_ms.unwrap_or(MAX_PAUSE_MS).max(0));
    Duration::from_millis(left.unsigned_abs())
}

/// Now by the wall clock, as the journal writes it.
pub(super) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

impl Change {
    /// Whose dead letter it adds, if it does.
    pub(super) fn dead_of(&self) -> Option<Arc<str>> {
        match self {
            Self::Dead(letter) => Some(letter.plugin.clone()),
            _ => None,
        }
    }

    /// `wall_ms`: the time of the round by the wall clock.
    pub(super) fn write(&self, connection: &Connection, wall_ms: i64) -> rusqlite::Result<()> {
        let run =
            |sql: &str, values: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(values).map(drop);
        match self {
            Self::Kv { plugin, key, value: Some(value) } => {
                let sql = "INSERT INTO kv (plugin, key, value) VALUES (?1, ?2, ?3)
                           ON CONFLICT DO UPDATE SET value = excluded.value";
                run(sql, params![plugin, key, &**value])
            }
            Self::Kv { plugin, key, value: None } => {
                run("DELETE FROM kv WHERE plugin = ?1 AND key = ?2", params![plugin, key])
            }
            Self::Opened { plugin, done } => {
                let sql = "INSERT INTO cursors (plugin, done, begun) VALUES (?1, ?2, ?2)
                           ON CONFLICT DO UPDATE SET removed_ms = NULL";
                run(sql, params![plugin, *done as i64])
            }
            Self::Removed { plugin } => {
                run("UPDATE cursors SET removed_ms = ?2 WHERE plugin = ?1", params![plugin, wall_ms])
            }
            Self::Begun { plugin, begun } => {
                run("UPDATE cursors SET begun = ?2 WHERE plugin = ?1", params![plugin, *begun as i64])
            }
            Self::Cursor { plugin, done } => {
                run("UPDATE cursors SET done = ?2 WHERE plugin = ?1", params![plugin, *done as i64])?;
                run("DELETE FROM done WHERE plugin = ?1 AND seq <= ?2", params![plugin, *done as i64])
            }
            Self::Done { plugin, seq } => {
                run("INSERT OR IGNORE INTO done (plugin, seq) VALUES (?1, ?2)", params![plugin, *seq as i64])?;
                run("DELETE FROM retries WHERE plugin = ?1 AND seq = ?2", params![plugin, *seq as i64])
            }
            Self::Retry { plugin, seq, attempt, pause, code } => {
                let sql =
                    "INSERT INTO retries (plugin, seq, attempt, due_ms, code, pause_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                           ON CONFLICT DO UPDATE SET attempt = excluded.attempt, due_ms = excluded.due_ms,
                                                     code = excluded.code, pause_ms = excluded.pause_ms";
                let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
                let due_ms = wall_ms.saturating_add(pause_ms);
                run(sql, params![plugin, *seq as i64, attempt, due_ms, code, pause_ms])
            }
            Self::Dead(letter) => letter.write(connection, wall_ms),
            Self::Replay { letters } => letters.iter().try_for_each(|id| {
                let sql = "INSERT OR REPLACE INTO retries (plugin, seq, attempt, due_ms, code, event, pause_ms)
                           SELECT plugin, seq, 1, ?2, code, event, 0 FROM dead_letters WHERE id = ?1";
                run(sql, params![id, wall_ms])?;
                run("DELETE FROM dead_letters WHERE id = ?1", params![id])
            }),
            Self::Purge { letters } => {
                letters.iter().try_for_each(|id| run("DELETE FROM dead_letters WHERE id = ?1", params![id]))
            }
            Self::Standing(Standing { plugin, disabled, quarantines, quarantined_until_ms, limits }) => {
                let sql = "INSERT OR REPLACE INTO plugins (name, disabled, quarantines, quarantined_until_ms, limits)
                           VALUES (?1, ?2, ?3, ?4, ?5)";
                run(sql, params![plugin, disabled, quarantines, quarantined_until_ms, limits])
            }
        }
    }
}

impl DeadLetter {
    fn write(&self, connection: &Connection, wall_ms: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO dead_letters (plugin, seq, code, message, attempts, version, sha256, died_ms, event)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let (version, sha256) = self.version.as_ref().map(|(version, sha256)| (version, sha256)).unzip();
        let values = params![
            self.plugin,
            self.seq as i64,
            self.code,
            self.message,
            self.attempts,
            version,
            sha256,
            wall_ms,
            self.event
        ];
        connection.prepare_cached(sql)?.execute(values).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_never_longer_than_was_asked_for() {
        let left = |due, pause, now| remaining_pause(due, pause, now).as_millis();
        assert_eq!(left(10_000, Some(3_000), 8_000), 2_000);
        assert_eq!(left(10_000, Some(3_000), 20_000), 0, "over");
        assert_eq!(left(86_410_000, Some(3_000), 10_000), 3_000, "the clock went back by a day");
        assert_eq!(left(86_410_000_000, None, 0), 600_000, "a journal of before has no pause");
        assert_eq!(left(i64::MAX, Some(-5), i64::MIN), 0);
    }
}
