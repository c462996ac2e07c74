//! The tables, their versions, and what every connection is told before anything else.

use super::Sync;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{path::Path, time::Duration};

/// The file in the data directory.
pub const FILE: &str = "busway.db";
/// `Busw`: what `file` and `PRAGMA application_id` show.
pub(super) const APPLICATION_ID: i32 = 0x4275_7377;
/// How long a statement waits for another program that has the file locked.
const BUSY: Duration = Duration::from_secs(5);

/// One step for each version of the schema, from the empty file on. Never changed, only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
    -- Seqs are in a row: one that is missing between the first and the last is damage.
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        type TEXT NOT NULL,
        event_id TEXT NOT NULL,
        source TEXT,
        correlation_id TEXT,
        causation_id TEXT,
        time_us INTEGER NOT NULL,      -- the event's own timestamp, microseconds since 1970, UTC
        received_ms INTEGER NOT NULL,  -- when it was written here, milliseconds since 1970, UTC
        hops INTEGER NOT NULL,
        tags TEXT,                     -- JSON array; null for none
        extensions TEXT,               -- JSON object; null for none
        data TEXT NOT NULL,            -- JSON
        crc INTEGER NOT NULL           -- CRC-32 of the other columns, see host/src/journal/row.rs
    ) STRICT;
    -- A handler is done with every event up to and including `done`, but for those in `retries`.
    CREATE TABLE cursors (
        plugin TEXT PRIMARY KEY,
        done INTEGER NOT NULL,
        begun INTEGER NOT NULL,        -- no event after it was ever handed to the plugin
        removed_ms INTEGER             -- since when the plugin is gone; then retention does not wait for it
    ) STRICT, WITHOUT ROWID;
    -- Events after `cursors.done` whose effects are committed.
    CREATE TABLE done (plugin TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (plugin, seq)) STRICT, WITHOUT ROWID;
    CREATE TABLE retries (
        plugin TEXT NOT NULL,
        seq INTEGER NOT NULL,
        attempt INTEGER NOT NULL,      -- the one to come
        due_ms INTEGER NOT NULL,
        code TEXT NOT NULL,
        event TEXT,                    -- only where it did not come from `events`
        PRIMARY KEY (plugin, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        plugin TEXT NOT NULL,
        seq INTEGER NOT NULL,
        code TEXT NOT NULL,
        message TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        version TEXT,
        sha256 TEXT,
        died_ms INTEGER NOT NULL,
        event TEXT NOT NULL
    ) STRICT;
    CREATE TABLE kv (
        plugin TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (plugin, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE plugins (
        name TEXT PRIMARY KEY,
        disabled INTEGER NOT NULL,
        quarantines INTEGER NOT NULL,
        quarantined_until_ms INTEGER
    ) STRICT, WITHOUT ROWID;
"];

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The connection that writes; makes the file if it is not there.
pub(super) fn writer(file: &Path, sync: Sync) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    common(&connection)?;
    // Larger pages than usual: rows are written in a row and read in a row.
    connection.pragma_update(None, "page_size", 8_192)?;
    let _: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", if sync == Sync::Full { "FULL" } else { "NORMAL" })?;
    // A thread of its own does it; see `checkpoint`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    Ok(connection)
}

/// A connection that reads what others write.
pub(super) fn reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    common(&connection)?;
    Ok(connection)
}

fn common(connection: &Connection) -> rusqlite::Result<()> {
    // Nothing is to be copied into the file in passing: not where it is damaged, nor after a fault.
    copies_at_end(connection, false)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    // A damaged page is to be an error, not nonsense.
    connection.pragma_update(None, "cell_size_check", true)
}

/// Whether the last connection to go copies what was written ahead into the file, and removes the log.
pub(super) fn copies_at_end(connection: &Connection, yes: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !yes).map(drop)
}

/// The schema's version in the file, and whose the file is.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<(i32, i64)> {
    let get = |pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    Ok((get("application_id")? as i32, get("user_version")?))
}

/// Brings the file from `version` to [`VERSION`].
pub(super) fn migrate(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    let steps = MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0));
    for (step, sql) in steps.enumerate() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version + 1 + step as i64)?;
        transaction.commit()?;
    }
    Ok(())
}
