//! Opening a journal: the directory, the lock, the schema, where the numbering stands, and what is kept in memory.

use super::{
    Journal, JournalConfig, Shared, Sync, WriteError, Writer,
    change::Standing,
    checkpoint::Checkpointer,
    continuity::{Continuity, Record},
    files::OpenFiles,
    import,
    lineage::Lineage,
    lock::Lock,
    mark::{self, Mark},
    place::Place,
    read::Readers,
    schema::{self, APPLICATION_ID, FILE, VERSION},
    wal::{self, Tail},
    write::classify,
};
use crate::metrics::Metrics;
use rusqlite::Connection;
use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::sync::watch;

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
    /// SQLite needs some room even to read.
    #[error("{}: there is no room on the disk to open it", .0.display())]
    NoRoom(PathBuf),
    /// The log that SQLite wrote ahead is damaged, and does not go together with the file.
    #[error("{} is damaged: restore the directory; `busway journal export` saves what can be read", wal::beside(.0, "-wal").display())]
    Damaged(PathBuf),
    /// SQLite cannot read it.
    #[error("{}: {error}; `busway journal export` saves what can be read", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: rusqlite::Error,
    },
}

impl OpenError {
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        match classify(&error) {
            WriteError::Full => Self::NoRoom(path.to_owned()),
            _ => Self::Sqlite { path: path.to_owned(), error },
        }
    }
}

/// A journal that was opened, and where the log under it stands.
#[derive(Debug)]
pub struct Opened {
    /// For everybody.
    pub journal: Journal,
    /// For the sequencer.
    pub writer: Writer,
    /// The epochs of the log; the last one is the current one.
    pub lineage: Lineage,
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
    /// How long before the newest event it was received.
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
    let sqlite = |error| OpenError::of(&path, error);
    let io = |error| OpenError::Io { path: path.clone(), error };
    // Before SQLite does: it drops without a word what follows damage.
    let tail = wal::look(&path).map_err(io)?;
    let record = Record::read(dir).map_err(io)?;
    if tail == Tail::Lost {
        wal::keep(&path);
    }
    wal::renew(&path).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => OpenError::NoRoom(path.clone()),
        _ => io(error),
    })?;
    let is_new = !has_content(&path);
    let connection = prepare(&path, config.sync)?;
    if mark::get(&connection, import::MARK).map_err(sqlite)?.is_some() {
        return Err(OpenError::Importing(dir.clone()));
    }
    let place = Place::find(&connection);
    let head = place.head;
    if tail == Tail::Lost && (place.is_damaged || !is_sound(&connection)) {
        return Err(OpenError::Damaged(path));
    }
    let mark = Mark::find(&connection, config.sync, (tail, &record), (head, is_new)).map_err(sqlite)?;
    let lineage = mark.lineage.clone();
    let recent = recent(&connection, head, dedup).map_err(sqlite)?;
    let memory = Memory { kv: kv(&connection).map_err(sqlite)?, plugins: standings(&connection).map_err(sqlite)? };
    let mut trouble = place.is_damaged.then(|| {
        let reason =
            format!("its end, up to seq {head}, is damaged: restore the file, or export and import what is left");
        tracing::error!(head, "the journal is damaged: it is read-only");
        WriteError::ReadOnly(reason.into())
    });
    let continuity = Continuity::new(dir, config.sync, head);
    let unwritten = match mark.write(&connection, &continuity) {
        Ok(()) => None,
        // It would be forgotten that the epoch has to be another.
        Err(error) if tail == Tail::Lost => return Err(sqlite(error)),
        // A full disk, or a damaged file, can still be read, and the writer tries again.
        Err(error) => {
            tracing::error!(%error, "the journal cannot be written");
            trouble.get_or_insert_with(|| classify(&error));
            Some(mark)
        }
    };
    let shared = Arc::new(Shared {
        config: config.clone(),
        readers: Readers::new(path.clone()).map_err(sqlite)?,
        oldest: AtomicU64::new(place.oldest),
        trouble: watch::Sender::new(trouble),
        files: OpenFiles::new(dir).map_err(io)?,
        continuity,
        metrics,
    });
    let checkpointer = Checkpointer::start(&path, Arc::downgrade(&shared), config).map_err(io)?;
    let journal = Journal { shared };
    let writer = Writer::new(connection, journal.clone(), checkpointer, lock, head, unwritten);
    Ok((Opened { journal, writer, lineage, head, recent }, memory))
}

fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

/// After the end of the log written ahead was lost: what is left of it may have put old pages over newer ones, which were
/// copied into the file before. Then all is left as it is.
fn is_sound(connection: &Connection) -> bool {
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    said.is_ok_and(|said| said == "ok")
}

/// The data directory, readable by its owner only.
pub(super) fn make_dir(dir: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| OpenError::Io { path: dir.to_owned(), error })
}

/// The version of its schema, if it is a journal that this program knows.
pub(super) fn check_identity(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let sqlite = |error| OpenError::of(path, error);
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
    let sqlite = |error| OpenError::of(path, error);
    if has_content(path) {
        // Asked before anything is written to a file that may be somebody else's.
        let connection = schema::reader(path).map_err(sqlite)?;
        check_identity(&connection, path)?;
    }
    let mut connection = schema::writer(path, sync).map_err(sqlite)?;
    let (_, version) = schema::identity(&connection).map_err(sqlite)?;
    schema::migrate(&mut connection, version).map_err(sqlite)?;
    if let Some(dir) = path.parent() {
        // The files' names are to be on disk too: SQLite does not mind if that fails.
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| OpenError::Io { path: dir.to_owned(), error })?;
    }
    Ok(connection)
}

/// Events in a row that are older than the dedup window, after which none is looked for that is
/// not.
const MAX_OLDER: usize = 1_024;

fn recent(connection: &Connection, head: u64, (window, most): (Duration, usize)) -> rusqlite::Result<Vec<Recent>> {
    let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    let sql =
        "SELECT seq, received_ms, source, event_id FROM events WHERE seq BETWEEN 1 AND ?1 ORDER BY seq DESC LIMIT ?2";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([head, most as u64].map(|number| i64::try_from(number).unwrap_or(i64::MAX)))?;
    let (mut recent, mut newest_ms, mut older) = (Vec::new(), None, 0);
    // Damage is found, and said, by whoever reads these events.
    while let Ok(Some(row)) = rows.next() {
        let (Ok(received), Ok(source), Ok(event_id)) = (row.get::<_, i64>(1), row.get(2), row.get(3)) else { continue };
        // Counted from the newest event and not from now: the wall clock may have gone anywhere
        // while no hub ran.
        let age_ms = newest_ms.get_or_insert(received).saturating_sub(received).max(0);
        if age_ms > window_ms {
            older += 1;
            // A few may have been received while the wall clock was behind.
            if older > MAX_OLDER {
                break;
            }
            continue;
        }
        older = 0;
        let age = Duration::from_millis(age_ms.unsigned_abs());
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
    let mut statement =
        connection.prepare("SELECT name, disabled, quarantines, quarantined_until_ms, limits FROM plugins")?;
    let standings = statement.query_map([], |row| {
        Ok(Standing {
            plugin: row.get::<_, String>(0)?.into(),
            disabled: row.get(1)?,
            quarantines: row.get(2)?,
            quarantined_until_ms: row.get(3)?,
            limits: row.get(4)?,
        })
    })?;
    standings.collect()
}
