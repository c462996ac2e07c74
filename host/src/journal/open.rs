//! Opening a journal: the directory, the lock, the schema, where the numbering stands, and what is kept in memory.

use super::{
    Journal, JournalConfig, Shared, Sync, WriteError, Writer,
    change::now_ms,
    checkpoint::Checkpointer,
    import,
    lock::Lock,
    read::Readers,
    row,
    schema::{self, APPLICATION_ID, FILE, VERSION},
};
use crate::metrics::Metrics;
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::sync::watch;
use uuid::Uuid;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by {}: one hub at a time for each data directory", .dir.display(), match .pid { Some(pid) => format!("process {pid}"), None => "another process".into() })]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Whose it is, if it said so.
        pid: Option<u32>,
    },
    /// The file is something else.
    #[error("{} is a database of another program", .0.display())]
    Foreign(PathBuf),
    /// The file was written by a newer program.
    #[error("{} has schema version {found}, this program knows up to {VERSION}: use a newer busway", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// An import was cut off.
    #[error("an import into {} was cut off, so it holds only a part: import again", .0.display())]
    Importing(PathBuf),
    /// SQLite cannot read it.
    #[error("{}: {error}; `busway journal export` saves what can be read", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: rusqlite::Error,
    },
}

/// A journal that was opened, and where the log under it stands.
#[derive(Debug)]
pub struct Opened {
    /// For everybody.
    pub journal: Journal,
    /// For the sequencer.
    pub writer: Writer,
    /// Names the numbering.
    pub epoch: Uuid,
    /// The last seq given.
    pub head: u64,
    /// The newest events' identities, the oldest first: what is published again is known by them.
    pub recent: Vec<Recent>,
}

/// What of an event says that it is the same.
#[derive(Debug)]
pub struct Recent {
    /// Its place.
    pub seq: u64,
    /// How long ago it was received.
    pub age: Duration,
    /// Its publisher.
    pub source: Option<String>,
    /// What its publisher calls it.
    pub event_id: String,
}

/// What is kept in memory besides the events.
#[derive(Debug, Default)]
pub struct Memory {
    /// All plugins' keys and values.
    pub kv: Vec<KvEntry>,
    /// How operators and faults have left plugins.
    pub plugins: Vec<Standing>,
}

/// One key of one plugin.
#[derive(Debug)]
pub struct KvEntry {
    /// Whose.
    pub plugin: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
}

/// See [`super::Change::Standing`].
#[derive(Debug, Clone)]
pub struct Standing {
    /// The plugin's name.
    pub plugin: String,
    /// An operator took it out of service.
    pub disabled: bool,
    /// How often in a row it was in quarantine.
    pub quarantines: u32,
    /// When that ends, in milliseconds since 1970, UTC.
    pub quarantined_until_ms: Option<i64>,
}

/// Opens the journal of a data directory, or makes it. Blocks. `dedup`: how far back, and how many, [`Opened::recent`] goes.
///
/// # Errors
/// See [`OpenError`].
pub fn open(
    config: &JournalConfig,
    dedup: (Duration, usize),
    metrics: Arc<Metrics>,
) -> Result<(Opened, Memory), OpenError> {
    let dir = &config.dir;
    make_dir(dir)?;
    let lock = Lock::take(dir)?;
    let path = dir.join(FILE);
    let sqlite = |error| OpenError::Sqlite { path: path.clone(), error };
    let connection = prepare(&path, config.sync)?;
    if meta(&connection, import::MARK).map_err(sqlite)?.is_some() {
        return Err(OpenError::Importing(dir.clone()));
    }
    let place = place(&connection).map_err(sqlite)?;
    let epoch = epoch(&connection, config.sync).map_err(sqlite)?;
    let recent = recent(&connection, dedup).map_err(sqlite)?;
    let memory = Memory { kv: kv(&connection).map_err(sqlite)?, plugins: standings(&connection).map_err(sqlite)? };
    let trouble = place.damaged.then(|| {
        let reason =
            format!("what follows seq {} is damaged: restore the file, or export and import what is left", place.head);
        tracing::error!(head = place.head, "the end of the journal is damaged: it is read-only");
        WriteError::ReadOnly(reason.into())
    });
    let shared = Arc::new(Shared {
        config: config.clone(),
        readers: Readers::new(path.clone()),
        oldest: AtomicU64::new(place.oldest),
        trouble: watch::Sender::new(trouble),
        metrics,
    });
    let checkpointer = Checkpointer::start(&path, Arc::downgrade(&shared), config.sync)
        .map_err(|error| OpenError::Io { path: path.clone(), error })?;
    let journal = Journal { shared };
    let writer = Writer::new(connection, journal.clone(), checkpointer, lock);
    Ok((Opened { journal, writer, epoch, head: place.head, recent }, memory))
}

/// The data directory, readable by its owner only.
pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| OpenError::Io { path: dir.to_owned(), error })
}

/// What is kept under a name, if it is a text.
pub(super) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// The version of its schema, if it is a journal that this program knows.
pub(super) fn check_identity(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let sqlite = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let (application, version) = schema::identity(connection).map_err(sqlite)?;
    if application != APPLICATION_ID && (application != 0 || version != 0) {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    if version > VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found: version });
    }
    Ok(version)
}

/// The file with today's schema.
pub(super) fn prepare(path: &Path, sync: Sync) -> Result<Connection, OpenError> {
    let sqlite = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let fresh = !path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    if !fresh {
        // Asked before anything is written to a file that may be somebody else's.
        let connection = schema::reader(path).map_err(sqlite)?;
        check_identity(&connection, path)?;
    }
    let mut connection = schema::writer(path, sync).map_err(sqlite)?;
    let (_, version) = schema::identity(&connection).map_err(sqlite)?;
    schema::migrate(&mut connection, version).map_err(sqlite)?;
    if fresh && let Some(dir) = path.parent() {
        // The file's name is to be on disk too.
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| OpenError::Io { path: dir.to_owned(), error })?;
    }
    Ok(connection)
}

/// Where the numbering stands.
pub(super) struct Place {
    pub(super) oldest: u64,
    pub(super) head: u64,
    /// What follows `head` cannot be read, so nothing may be numbered after it.
    pub(super) damaged: bool,
}

pub(super) fn place(connection: &Connection) -> rusqlite::Result<Place> {
    let sql = "SELECT value FROM meta WHERE key = 'oldest'";
    let oldest = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(1) as u64;
    let columns = row::COLUMNS;
    let last = connection.query_row(&format!("SELECT {columns} FROM events ORDER BY seq DESC LIMIT 1"), [], row::read);
    match last.optional() {
        Ok(None) => Ok(Place { oldest, head: oldest - 1, damaged: false }),
        Ok(Some(Some(event))) => Ok(Place { oldest, head: event.seq, damaged: false }),
        // Not what was written, or not to be read at all: its number is not to be trusted.
        Ok(Some(None)) | Err(_) => Ok(Place { oldest, head: last_whole(connection, oldest), damaged: true }),
    }
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

/// The name of the numbering. It changes where what was acknowledged may be gone: after a power cut without full sync.
fn epoch(connection: &Connection, sync: Sync) -> rusqlite::Result<Uuid> {
    let set = |key: &str, value: &str| {
        let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        connection.execute(sql, params![key, value]).map(drop)
    };
    // Changes with each start of the machine.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let before = meta(connection, "open")?;
    let lost = before
        .as_deref()
        .is_some_and(|before| before.strip_prefix("normal ").is_some_and(|before| before != boot || boot.is_empty()));
    let known = meta(connection, "epoch")?.and_then(|text| Uuid::parse_str(&text).ok());
    let epoch = match known {
        Some(epoch) if !lost => epoch,
        _ => Uuid::now_v7(),
    };
    if lost {
        tracing::warn!(%epoch, "the machine stopped while the journal was not fully synced: the last events may be gone, so the epoch is a new one");
    }
    // A full disk, or a damaged file, can still be read.
    let sync = if sync == Sync::Full { "full" } else { "normal" };
    let written = if known == Some(epoch) { Ok(()) } else { set("epoch", &epoch.to_string()) };
    if let Err(error) = written.and_then(|()| set("open", &format!("{sync} {boot}"))) {
        tracing::warn!(%error, "the journal cannot be written");
        if known.is_none() {
            return Err(error);
        }
    }
    Ok(epoch)
}

fn recent(connection: &Connection, (window, most): (Duration, usize)) -> rusqlite::Result<Vec<Recent>> {
    let now = now_ms();
    let since = now.saturating_sub(i64::try_from(window.as_millis()).unwrap_or(i64::MAX));
    let sql = "SELECT seq, received_ms, source, event_id FROM events ORDER BY seq DESC LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([i64::try_from(most).unwrap_or(i64::MAX)])?;
    let mut recent = Vec::new();
    // Damage is found, and said, by whoever reads these events.
    while let Ok(Some(row)) = rows.next() {
        let received: i64 = row.get(1)?;
        if received < since {
            break;
        }
        let (Ok(source), Ok(event_id)) = (row.get(2), row.get(3)) else { continue };
        let age = Duration::from_millis(u64::try_from(now - received).unwrap_or(0));
        recent.push(Recent { seq: row.get::<_, i64>(0)? as u64, age, source, event_id });
    }
    recent.reverse();
    Ok(recent)
}

fn kv(connection: &Connection) -> rusqlite::Result<Vec<KvEntry>> {
    let mut statement = connection.prepare("SELECT plugin, key, value FROM kv ORDER BY plugin, key")?;
    let entries =
        statement.query_map([], |row| Ok(KvEntry { plugin: row.get(0)?, key: row.get(1)?, value: row.get(2)? }))?;
    entries.collect()
}

fn standings(connection: &Connection) -> rusqlite::Result<Vec<Standing>> {
    let mut statement = connection.prepare("SELECT name, disabled, quarantines, quarantined_until_ms FROM plugins")?;
    let standings = statement.query_map([], |row| {
        Ok(Standing {
            plugin: row.get(0)?,
            disabled: row.get(1)?,
            quarantines: row.get(2)?,
            quarantined_until_ms: row.get(3)?,
        })
    })?;
    standings.collect()
}
