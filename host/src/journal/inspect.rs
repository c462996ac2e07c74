//! A journal looked at from outside, without a hub and also while one runs on it. Without one
//! nothing at all is written: the next start finds the files as they were, damage included. While
//! one runs, no read is held open between two steps, so that its log written ahead can begin anew.

use super::{
    Epoch, Found, OpenError, Span,
    continuity::{Discontinuity, Record},
    damage,
    lineage::Lineage,
    lock::Lock,
    mark,
    open::check_identity,
    place::Place,
    read, retention,
    schema::{self, FILE},
    wal::{self, Tail},
};
use crate::event::Event;
use rusqlite::Connection;
use serde::Serialize;
use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Most complaints of SQLite that [`Inspector::integrity`] gives.
const COMPLAINTS: usize = 100;

/// See the module's head.
#[derive(Debug)]
pub struct Inspector {
    connection: Connection,
    dir: PathBuf,
    span: Span,
    /// What the files told before SQLite looked at them; none where a hub has them open.
    at_rest: Option<AtRest>,
}

/// A journal that no hub has open.
#[derive(Debug)]
struct AtRest {
    tail: Tail,
    record: Record,
    head: u64,
    /// The file's length and its last change.
    file: (u64, i64, i64),
}

/// What a journal holds, in numbers.
#[derive(Debug, Serialize)]
pub struct Info {
    /// The data directory.
    pub dir: PathBuf,
    /// The version of its tables.
    pub schema: i64,
    /// Names the numbering; none before a hub has run on it.
    pub epoch: Option<String>,
    /// It and those before it, the oldest first.
    pub epochs: Vec<Epoch>,
    /// The first seq that is retained.
    pub oldest: u64,
    /// The last seq given; one less than `oldest` if there are no events.
    pub head: u64,
    /// From `oldest` to `head`; [`Inspector::walk`] tells whether they are all there.
    pub events: u64,
    /// Of the file, without the room that is free in it.
    pub bytes: u64,
    /// The hub that ran on it last has ended well, and none runs now.
    pub closed_cleanly: bool,
    /// The process that has it open, as far as can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_by: Option<u32>,
    /// Where each handler stands.
    pub handlers: Vec<Handler>,
    /// Events that are to be tried again.
    pub retries: u64,
    /// Events that could not be handled.
    pub dead_letters: u64,
    /// What plugins remember.
    pub kv: Vec<Kv>,
}

/// A handler's place.
#[derive(Debug, Serialize)]
pub struct Handler {
    /// The plugin's name.
    pub plugin: String,
    /// It is done with everything up to here.
    pub done: u64,
    /// So many events come after that.
    pub behind: u64,
    /// Its plugin is gone: retention does not wait for it.
    pub removed: bool,
    /// Events that it is to try again.
    pub retries: u64,
    /// Events that it could not handle.
    pub dead_letters: u64,
}

/// What a plugin remembers.
#[derive(Debug, Serialize)]
pub struct Kv {
    /// The plugin's name.
    pub plugin: String,
    /// How many.
    pub keys: u64,
    /// Of keys and values together.
    pub bytes: u64,
}

/// What there is at a place.
#[derive(Debug)]
pub enum Part {
    /// Events in a row: at most 1,024, and about 256 KiB.
    Events(Vec<Arc<Event>>),
    /// These should be there.
    Damaged(Damage),
}

/// Events that should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// For people.
    pub what: String,
}

impl Inspector {
    /// Opens the journal of a data directory to read it. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`]; never [`OpenError::Locked`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let empty = || {
            let error = io::Error::new(io::ErrorKind::NotFound, "there is no journal here");
            OpenError::Io { path: dir.to_owned(), error }
        };
        if !path.metadata().map_err(|_| empty())?.is_file() {
            return Err(empty());
        }
        let sqlite = |error| OpenError::Sqlite { path: path.clone(), error };
        let io = |error| OpenError::Io { path: path.clone(), error };
        let file = state(&path).map_err(io)?;
        let is_running = Lock::is_held(dir);
        let (connection, tail) = if is_running {
            (schema::reader(&path).map_err(sqlite)?, Tail::Whole)
        } else {
            let tail = wal::look(&path).map_err(io)?;
            (schema::offline_reader(&path, tail != Tail::Empty).map_err(sqlite)?, tail)
        };
        let version = check_identity(&connection, &path)?;
        if version == 0 {
            return Err(empty());
        }
        schema::show_as_today(&connection, version).map_err(sqlite)?;
        let Place { oldest, head, is_damaged: damaged } = Place::find(&connection);
        // Rows after the last seq that is known to have been given are damaged, and named too.
        let to = if damaged { last(&connection).unwrap_or(0).max(head) } else { head };
        let at_rest = match is_running {
            true => None,
            false => {
                let record = Record::read(dir).map_err(io)?;
                Some(AtRest { tail, record, head, file })
            }
        };
        Ok(Self { connection, dir: dir.to_owned(), span: Span { from: oldest, to }, at_rest })
    }

    /// What the files themselves tell: whether events that were acknowledged are gone, and
    /// otherwise why the next start of a hub begins a new epoch. `None` where a hub has the journal
    /// open, and where all is as the last one left it.
    pub fn continuity(&self) -> Option<Discontinuity> {
        let AtRest { tail, record, head, .. } = self.at_rest.as_ref()?;
        // Of a database that cannot be read, the files still tell something.
        mark::discontinuity(&self.connection, *tail, record, *head)
            .unwrap_or_else(|_| record.discontinuity(*tail, false, *head))
    }

    /// Whether a hub has opened the journal, or something has written to it, since
    /// [`Inspector::open`] found it at rest: then what was read may not go together.
    pub fn was_disturbed(&self) -> bool {
        self.at_rest
            .as_ref()
            .is_some_and(|at_rest| Lock::is_held(&self.dir) || state(&self.dir.join(FILE)).ok() != Some(at_rest.file))
    }

    /// The seqs that should be there, as they were when it was opened; `to` is before `from` if there are none.
    pub fn span(&self) -> Span {
        self.span
    }

    /// What it holds, all at one moment. Blocks.
    ///
    /// # Errors
    /// [`OpenError::Sqlite`].
    pub fn info(&self) -> Result<Info, OpenError> {
        self.read_info().map_err(|error| OpenError::Sqlite { path: self.dir.join(FILE), error })
    }

    fn read_info(&self) -> rusqlite::Result<Info> {
        let connection = self.connection.unchecked_transaction()?;
        let Place { oldest, head, .. } = Place::find(&connection);
        let lineage = Lineage::read(&connection)?;
        let closed_cleanly = mark::get(&connection, "open")?.is_none();
        let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0).map(|count| count as u64));
        Ok(Info {
            dir: self.dir.clone(),
            schema: schema::identity(&connection)?.1,
            epoch: lineage.as_ref().map(|lineage| lineage.current().to_string()),
            epochs: lineage.map_or_else(Vec::new, |lineage| lineage.epochs().to_vec()),
            oldest,
            head,
            events: (head + 1).saturating_sub(oldest),
            bytes: retention::used_bytes(&connection)?,
            closed_cleanly,
            open_by: if closed_cleanly { None } else { Lock::holder(&self.dir) },
            handlers: handlers(&connection, head)?,
            retries: count("SELECT count(*) FROM retries")?,
            dead_letters: count("SELECT count(*) FROM dead_letters")?,
            kv: kv(&connection)?,
        })
    }

    /// What SQLite itself finds wrong with the file; empty if nothing. At most 100. Reads all of it. Blocks.
    pub fn integrity(&self) -> Vec<String> {
        let check = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare(&format!("PRAGMA integrity_check({COMPLAINTS})"))?;
            let complaints = statement.query_map([], |row| row.get(0))?;
            complaints.collect()
        };
        match check() {
            Ok(complaints) if complaints == ["ok"] => Vec::new(),
            Ok(complaints) => complaints,
            Err(error) => vec![error.to_string()],
        }
    }

    /// Goes through the events from `from` to `to` that should be there, in order; both are cut to [`Inspector::span`].
    pub fn walk(&self, from: u64, to: u64) -> Walk<'_> {
        Walk { connection: &self.connection, next: from.max(self.span.from), to: to.min(self.span.to) }
    }
}

/// See [`Inspector::walk`]. Blocks.
#[derive(Debug)]
pub struct Walk<'a> {
    connection: &'a Connection,
    next: u64,
    to: u64,
}

impl Iterator for Walk<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        while self.next <= self.to {
            match read::events(self.connection, self.next, self.to) {
                Ok(Found::Events(events)) => {
                    self.next = events.last().map_or(self.to, |event| event.seq) + 1;
                    return Some(Part::Events(events));
                }
                // A tool is run again; what it cannot read it says.
                found @ (Ok(Found::Damaged(_)) | Err(_)) => {
                    let from = self.next;
                    let to = match found {
                        Ok(Found::Damaged(span)) => span.to,
                        _ => damage::end(self.connection, from, self.to),
                    };
                    self.next = to + 1;
                    // Retention of a running hub may have taken some of it meanwhile; that is no damage.
                    let from = from.max(Place::find(self.connection).oldest);
                    if from <= to {
                        return Some(Part::Damaged(Damage { from, to, what: self.what(from, to) }));
                    }
                }
            }
        }
        None
    }
}

impl Walk<'_> {
    fn what(&self, from: u64, to: u64) -> String {
        let sql = "SELECT count(*) FROM events WHERE seq BETWEEN ?1 AND ?2";
        let count = self.connection.query_row(sql, [from as i64, i64::try_from(to).unwrap_or(i64::MAX)], |row| {
            row.get::<_, i64>(0).map(|count| count as u64)
        });
        match (count, to - from + 1) {
            (Err(error), _) => format!("cannot be read: {error}"),
            (Ok(0), _) => "missing".into(),
            (Ok(there), all) if there >= all => "not what was written".into(),
            (Ok(there), all) => format!("{} missing, {there} not what was written", all - there),
        }
    }
}

fn state(file: &Path) -> io::Result<(u64, i64, i64)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

fn last(connection: &Connection) -> Option<u64> {
    let last = connection.query_row("SELECT max(seq) FROM events", [], |row| row.get::<_, i64>(0));
    last.ok().and_then(|last| last.try_into().ok())
}

fn handlers(connection: &Connection, head: u64) -> rusqlite::Result<Vec<Handler>> {
    let sql = "SELECT plugin, done, removed_ms IS NOT NULL,
               (SELECT count(*) FROM retries WHERE retries.plugin = cursors.plugin),
               (SELECT count(*) FROM dead_letters WHERE dead_letters.plugin = cursors.plugin) FROM cursors ORDER BY plugin";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let done = row.get::<_, i64>(1)? as u64;
        Ok(Handler {
            plugin: row.get(0)?,
            done,
            behind: head.saturating_sub(done),
            removed: row.get(2)?,
            retries: row.get::<_, i64>(3)? as u64,
            dead_letters: row.get::<_, i64>(4)? as u64,
        })
    })?;
    rows.collect()
}

fn kv(connection: &Connection) -> rusqlite::Result<Vec<Kv>> {
    let sql = "SELECT plugin, count(*), sum(octet_length(key) + length(value)) FROM kv GROUP BY plugin ORDER BY plugin";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Kv { plugin: row.get(0)?, keys: row.get::<_, i64>(1)? as u64, bytes: row.get::<_, i64>(2)? as u64 })
    })?;
    rows.collect()
}
