//! The tables, their versions, and what every connection is told before anything else.

use super::Sync;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{os::unix::ffi::OsStrExt, path::Path, time::Duration};

/// The file in the data directory.
pub const FILE: &str = "busway.db";
/// `Busw`: what `file` and `PRAGMA application_id` show.
pub(super) const APPLICATION_ID: i32 = 0x4275_7377;
/// How long a statement waits for another program that has the file locked.
const BUSY: Duration = Duration::from_secs(5);

/// One step for each version of the schema, from the empty file on. Never changed, only added to.
const MIGRATIONS: &[&str] = &[
    "
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
",
    // JSON array of the seqs of an event's ancestors, the root first; null for none. In `crc` where it is not null.
    "ALTER TABLE events ADD COLUMN chain TEXT",
    // JSON object of the limits that an operator set over the API; null for none.
    "ALTER TABLE plugins ADD COLUMN limits TEXT",
    // Of each plugin so many are kept.
    "CREATE INDEX dead_letters_of ON dead_letters (plugin)",
    // The pause that was asked for, in milliseconds: `due_ms` is by a wall clock that may go back.
    // Null for retries of before.
    "ALTER TABLE retries ADD COLUMN pause_ms INTEGER",
    "
    -- The epochs of the log, the oldest first; see host/src/journal/lineage.rs.
    CREATE TABLE epochs (
        number INTEGER PRIMARY KEY,
        epoch TEXT NOT NULL,
        first INTEGER NOT NULL,        -- the first seq of the epoch
        crc INTEGER                    -- CRC-32 of the other two; null where a migration wrote the row
    ) STRICT;
    INSERT INTO epochs (number, epoch, first) SELECT 0, value, 1 FROM meta WHERE key = 'epoch';
    DELETE FROM meta WHERE key = 'epoch';
",
];

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

/// A connection to a journal that no hub has open. It writes nothing at all,
/// neither beside the file nor to the index of the log, and takes no lock;
/// so what it reads is of one moment only for as long as no hub starts.
pub(super) fn offline_reader(file: &Path, has_log: bool) -> rusqlite::Result<Connection> {
    // Without a log the file is whole by itself. With one, an index of it is made in memory, as
    // SQLite does for a connection that has the database to itself
    // (<https://sqlite.org/wal.html#use_of_wal_without_shared_memory>).
    let how = if has_log { "vfs=unix-none" } else { "immutable=1" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{}?{how}", uri_path(file)), flags)?;
    if has_log {
        let _: String = connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |row| row.get(0))?;
    }
    common(&connection)?;
    Ok(connection)
}

/// A path within a URI (<https://sqlite.org/uri.html>).
fn uri_path(path: &Path) -> String {
    let encode = |byte: &u8| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(encode).collect()
}

fn common(connection: &Connection) -> rusqlite::Result<()> {
    // Nothing is to be copied into the file in passing: not where it is damaged, nor after a fault.
    copies_at_end(connection, false)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    // A confined hub may write nowhere else.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
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

/// Shows a connection that only reads the tables of an older `version` as those of today: what is not there is null.
pub(super) fn show_as_today(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    if version < 2 {
        // Names of this connection's own go before those of the file.
        connection.execute_batch("CREATE TEMP VIEW events AS SELECT *, NULL AS chain FROM main.events")?;
    }
    if version < 6 {
        let sql = "CREATE TEMP VIEW epochs AS SELECT 0 AS number, value AS epoch, 1 AS first, NULL AS crc
                   FROM main.meta WHERE key = 'epoch'";
        connection.execute_batch(sql)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Event, NewEvent},
        journal::{Change, Inspector, JournalConfig, Part, Standing, open},
    };
    use std::sync::Arc;

    /// A journal as the program of version 1 wrote it, checksums and all.
    fn version_1(dir: &Path) {
        let connection = Connection::open(dir.join(FILE)).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        let rows = r#"
            INSERT INTO events (seq, type, event_id, source, correlation_id, causation_id, time_us, received_ms, hops, tags,
                                extensions, data, crc) VALUES
            (7, 'task.created', 'e7', 's', 'c', 'p', 1795332900123456, 1795377850001, 3, '["a","b"]', '{"x":1}', '{"n":1.10}', 1139648695),
            (8, 'bare', 'e8', NULL, NULL, NULL, 1795332901000000, 1795377850001, 0, NULL, NULL, 'null', 3070299934);
            INSERT INTO plugins VALUES ('old', 1, 2, 1795377850001);
            INSERT INTO meta VALUES ('epoch', '01a204db-e690-7510-9aaa-151f291d7898'), ('oldest', 7);
            PRAGMA user_version = 1"#;
        connection.execute_batch(rows).unwrap();
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    }

    fn read(dir: &Path) -> (i64, Vec<Arc<Event>>) {
        let inspector = Inspector::open(dir).unwrap();
        assert!(inspector.integrity().is_empty(), "{:?}", inspector.integrity());
        let events = inspector.walk(0, u64::MAX).flat_map(|part| match part {
            Part::Events(events) => events,
            Part::Damaged(damage) => panic!("{damage:?}"),
        });
        let events = events.collect();
        (inspector.info().unwrap().schema, events)
    }

    fn open_again(dir: &Path) -> crate::journal::Opened {
        open_whole(dir).0
    }

    fn open_whole(dir: &Path) -> (crate::journal::Opened, crate::journal::Memory) {
        let config = JournalConfig { dir: dir.to_owned(), ..JournalConfig::default() };
        open(&config, (Duration::from_secs(1), 10), Arc::default()).unwrap()
    }

    #[test]
    fn how_plugins_stood_in_version_2_is_known_and_what_came_since_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        version_1(dir.path());
        let connection = Connection::open(dir.path().join(FILE)).unwrap();
        connection.execute_batch(MIGRATIONS[1]).unwrap();
        connection.pragma_update(None, "user_version", 2).unwrap();
        drop(connection);
        let (mut opened, memory) = open_whole(dir.path());
        let old = Standing {
            plugin: "old".into(),
            disabled: true,
            quarantines: 2,
            quarantined_until_ms: Some(1_795_377_850_001),
            limits: None,
        };
        assert_eq!(memory.plugins, std::slice::from_ref(&old));
        let now = Standing { limits: Some("{}".into()), quarantines: 0, ..old };
        opened.writer.commit(&[], &[Change::Standing(now.clone())]).unwrap();
        drop(opened);
        assert_eq!(open_whole(dir.path()).1.plugins, [now]);
        assert_eq!(read(dir.path()).0, VERSION);
    }

    #[test]
    fn a_journal_of_version_1_is_read_as_it_is_and_goes_on_as_one_of_today() {
        let dir = tempfile::tempdir().unwrap();
        version_1(dir.path());
        let (version, before) = read(dir.path());
        assert_eq!((version, before.len(), before[0].metadata.hops), (1, 2, 3));
        assert!(before.iter().all(|event| event.metadata.chain.is_empty()));
        let mut opened = open_again(dir.path());
        // Nothing proves that it is where it ended, so a new
        // epoch begins, and whoever has read up to there goes on.
        let earlier = uuid::Uuid::parse_str("01a204db-e690-7510-9aaa-151f291d7898").unwrap();
        assert_eq!((opened.head, opened.lineage.differs_from(earlier)), (8, Some(9)));
        assert_ne!(opened.lineage.current(), earlier);
        let mut event = Event { seq: 9, ..NewEvent::new("later").admit().unwrap() };
        (event.metadata.hops, event.metadata.chain) = (2, vec![7, 8]);
        opened.writer.commit(&[Arc::new(event)], &[]).unwrap();
        drop(opened);
        let (version, after) = read(dir.path());
        assert_eq!((version, after.len(), &after[2].metadata.chain), (VERSION, 3, &vec![7, 8]));
        let texts = |events: &[Arc<Event>]| events.iter().map(|event| event.to_json()).collect::<Vec<_>>();
        assert_eq!(texts(&after[..2]), texts(&before));
        assert_eq!(open_again(dir.path()).head, 9);
    }

    #[test]
    fn a_chain_that_is_not_what_was_written_is_damage() {
        for forged in ["'[7]'", "'[7,9]'", "NULL", "''"] {
            let dir = tempfile::tempdir().unwrap();
            let mut opened = open_again(dir.path());
            let event = |seq| {
                let mut event = Event { seq, ..NewEvent::new("a").admit().unwrap() };
                event.metadata.chain = vec![7, 8];
                Arc::new(event)
            };
            opened.writer.commit(&[event(1), event(2)], &[]).unwrap();
            drop(opened);
            let connection = Connection::open(dir.path().join(FILE)).unwrap();
            connection.execute(&format!("UPDATE events SET chain = {forged} WHERE seq = 1"), []).unwrap();
            let inspector = Inspector::open(dir.path()).unwrap();
            let first = inspector.walk(1, 2).next();
            assert!(matches!(&first, Some(Part::Damaged(damage)) if (damage.from, damage.to) == (1, 1)), "{first:?}");
        }
    }
}
