//! Whether the log ends where the hub that wrote it last left it. A copy of the
//! directory, or an older state that was put back, is a sound journal too, and
//! nothing in its database tells that events are missing which were acknowledged.
//! So the hub keeps a record beside the database, which no copy takes along:
//!
//! - The record names the inode and the time of birth of the database *and of its own file*. A
//!   copy has others. While events come in, the record is replaced by a new file every `flush_s`,
//!   so that writing an older copy over it in place gives it away too.
//! - While the journal is open, the record holds the last seq that was acknowledged, written after
//!   each round without a sync (a process that ends, however suddenly, leaves it exact; a power cut
//!   at most an earlier one). A log that ends before that has lost events.
//! - Once the journal is closed, the record holds the time of the database's last change
//!   (`st_ctime`, which no program can set).
//!
//! What it cannot know: a whole file system or machine that was put
//! back to an earlier state, inodes and times included. Whoever does
//! that removes the record. Start reading at [`Record::discontinuity`].

use super::{
    Sync,
    schema::FILE,
    wal::{Tail, beside},
};
use crc32fast::hash;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::UNIX_EPOCH,
};

/// Its name in the data directory.
pub(super) const RECORD: &str = "continuity";
/// The new record until it is renamed to [`RECORD`].
const NEXT: &str = "continuity.next";
/// The longest record that is read, in bytes. A real one has about 300.
const MAX_RECORD: u64 = 4_096;

/// A file, whatever its name and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Inode {
    inode: u64,
    /// Nanoseconds since 1970; 0 where the file system does not know it.
    born_ns: u64,
}

impl Inode {
    fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or(0);
        Self { inode: metadata.ino(), born_ns }
    }
}

fn changed_ns(metadata: &Metadata) -> i64 {
    metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec())
}

/// What a record says besides the head, which stands before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    record: Inode,
    database: Inode,
    /// The database's last change, once the journal is closed; none while it is open.
    closed_ns: Option<i64>,
}

/// What the record of a data directory says.
#[derive(Debug)]
pub(super) enum Record {
    /// There is no record.
    Missing,
    /// The record is damaged, or belongs to other files. Carries the reason.
    Foreign { reason: String, head: Option<u64> },
    /// The hub ended without closing the journal.
    Open { head: u64 },
    /// The hub closed the journal, and nothing has changed since.
    Closed { head: u64 },
}

/// Why it is not proved that the log ends where the last hub left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discontinuity {
    /// Events that were acknowledged are certainly gone. Otherwise there
    /// may be nothing wrong: a copy of a whole journal is such a case.
    pub is_loss: bool,
    /// The reason, as a text for people.
    pub reason: String,
}

impl Record {
    /// Reads the record of a directory that no hub has open.
    ///
    /// # Errors
    /// If the files cannot be looked at.
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let path = dir.join(RECORD);
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Missing),
            metadata => metadata?,
        };
        let foreign = |reason: &str, head| Self::Foreign { reason: reason.into(), head };
        let text = if metadata.len() <= MAX_RECORD { fs::read(&path)? } else { Vec::new() };
        let Some((head, said)) = parse(&text) else { return Ok(foreign("its continuity record is damaged", None)) };
        let database = match fs::metadata(dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(foreign("its database is missing", Some(head)));
            }
            database => database?,
        };
        if said.record != Inode::of(&metadata) || said.database != Inode::of(&database) {
            return Ok(foreign("the data directory, or a file in it, was copied or restored", Some(head)));
        }
        Ok(match said.closed_ns {
            None => Self::Open { head },
            Some(closed) if closed == changed_ns(&database) => Self::Closed { head },
            Some(_) => foreign("the database was changed after the hub had closed it", Some(head)),
        })
    }

    /// Why it is not proved that the log, which ends at `head`, ends where it ended; none if it is.
    /// `expects_log`: the database says that it is open, so a log that is not empty goes with it.
    pub(super) fn discontinuity(&self, tail: Tail, expects_log: bool, head: u64) -> Option<Discontinuity> {
        let found = |is_loss, reason| Some(Discontinuity { is_loss, reason });
        if expects_log && tail == Tail::Empty {
            let reason = format!("{FILE}-wal is missing or empty, though the hub ended without closing the journal");
            return found(true, reason);
        }
        match self {
            Self::Open { head: recorded }
            | Self::Closed { head: recorded }
            | Self::Foreign { head: Some(recorded), .. }
                if *recorded > head =>
            {
                found(true, format!("events up to seq {recorded} were acknowledged, and the log ends at seq {head}"))
            }
            Self::Missing => found(false, "the data directory has no continuity record".into()),
            Self::Foreign { reason, .. } => found(false, reason.clone()),
            Self::Closed { head: recorded } if *recorded != head || tail != Tail::Empty => {
                found(false, format!("the hub closed the journal at seq {recorded}, and the log ends at seq {head}"))
            }
            Self::Open { .. } | Self::Closed { .. } => None,
        }
    }
}

/// Twenty digits and their checksum, then the rest as JSON.
fn parse(bytes: &[u8]) -> Option<(u64, Said)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, said) = text.split_once('\n')?;
    let (digits, sum) = head.split_once(' ')?;
    if u32::from_str_radix(sum, 16) != Ok(hash(digits.as_bytes())) {
        return None;
    }
    Some((digits.parse().ok()?, serde_json::from_str(said).ok()?))
}

fn head_line(head: u64) -> String {
    let digits = format!("{head:020}");
    format!("{digits} {:08x}\n", hash(digits.as_bytes()))
}

/// Writes the record while the journal is open.
#[derive(Debug)]
pub(super) struct Continuity {
    dir: PathBuf,
    sync: Sync,
    /// The record; none before [`Continuity::begin`].
    file: Mutex<Option<File>>,
    head: AtomicU64,
    /// The head moved since the record was replaced.
    moved: AtomicBool,
}

impl Continuity {
    pub(super) fn new(dir: &Path, sync: Sync, head: u64) -> Self {
        let (head, moved) = (AtomicU64::new(head), AtomicBool::new(false));
        Self { dir: dir.to_owned(), sync, file: Mutex::new(None), head, moved }
    }

    /// Says that the journal is open. From then on the doubts of before are forgotten.
    pub(super) fn begin(&self) -> io::Result<()> {
        self.replace(None)
    }

    /// Events up to `head` are about to be acknowledged. What cannot
    /// be written leaves an earlier head, which is true as well.
    pub(super) fn advance(&self, head: u64) {
        self.head.store(head, Relaxed);
        self.moved.store(true, Relaxed);
        if let Some(file) = &*self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = file.write_all_at(head_line(head).as_bytes(), 0);
        }
    }

    /// Replaces the record, if the head has moved since.
    pub(super) fn renew(&self) -> io::Result<()> {
        let has_begun = self.file.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if has_begun && self.moved.swap(false, Relaxed) {
            return self.replace(None).inspect_err(|_| self.moved.store(true, Relaxed));
        }
        Ok(())
    }

    /// Says that the journal is closed, if its database is
    /// whole by itself. SQLite must have closed it before.
    pub(super) fn close(&self) -> io::Result<()> {
        let log = fs::metadata(beside(&self.dir.join(FILE), "-wal")).map_or(0, |log| log.len());
        if log > 0 {
            // Somebody reads, so what was written ahead stays
            // there; the record goes on to say that it is open.
            return Ok(());
        }
        let closed = changed_ns(&fs::metadata(self.dir.join(FILE))?);
        self.replace(Some(closed))?;
        File::open(&self.dir)?.sync_all()
    }

    fn replace(&self, closed_ns: Option<i64>) -> io::Result<()> {
        let next = self.dir.join(NEXT);
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().write(true).create_new(true).mode(0o600).open(&next)?;
        let (record, database) = (file.metadata()?, fs::metadata(self.dir.join(FILE))?);
        let said = Said { record: Inode::of(&record), database: Inode::of(&database), closed_ns };
        let text = format!("{}{}\n", head_line(self.head.load(Relaxed)), serde_json::to_string(&said)?);
        file.write_all_at(text.as_bytes(), 0)?;
        if self.sync == Sync::Full || closed_ns.is_some() {
            file.sync_all()?;
        }
        // Locked meanwhile, so that what is written after
        // each round goes to the file that is there.
        let mut current = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(&next, self.dir.join(RECORD))?;
        file.write_all_at(head_line(self.head.load(Relaxed)).as_bytes(), 0)?;
        *current = Some(file);
        Ok(())
    }
}
