//! A backup of a journal, which works also while a hub runs on it. The backup is one database file in
//! the state of one moment. It has no continuity record, so the first hub that starts on it begins a
//! new epoch. Start reading at [`backup()`].

use super::{
    OpenError,
    continuity::Record,
    lock::Lock,
    mark,
    open::{check_identity, make_dir},
    place::Place,
    schema::{self, FILE},
    wal::{self, Tail},
};
use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use serde::Serialize;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Pages copied at once: 8 MiB.
const STEP: i32 = 1_024;
/// Before the next try, where the target or the source is busy for a moment.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// What becomes the database once it is whole.
const PARTIAL: &str = "busway.db.partial";

/// Why a backup failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The journal cannot be opened.
    #[error("backup.open: {0}")]
    Open(#[from] OpenError),
    /// There is something in the target.
    #[error("backup.not-empty: {}: expected a directory that is empty or does not exist, found {found}", .dir.display())]
    NotEmpty {
        /// The target directory.
        dir: PathBuf,
        /// The name of a file in the target.
        found: String,
    },
    /// The target cannot be written.
    #[error("backup.write: {}: {error}", .path.display())]
    Io {
        /// The file that could not be written.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The source cannot be read, or the target not written.
    #[error("backup.copy: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackedUp {
    /// The first seq in it.
    pub oldest: u64,
    /// The last seq in it; one less than `oldest` if it has no events.
    pub head: u64,
    /// The size of the backup's file.
    pub bytes: u64,
    /// Why events that were acknowledged are missing from the journal itself; none if none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
}

/// Copies the journal of the data directory `from` into `to`, which must be empty or not exist.
/// `progress` is told how many pages of how many are copied. Blocks.
///
/// A hub that runs on it goes on; until this returns, its log written ahead grows by what is
/// written to it. Without one, the directory is locked meanwhile.
///
/// # Errors
/// See [`BackupError`]; then nothing is left in `to`.
pub fn backup(from: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<BackedUp, BackupError> {
    let file = from.join(FILE);
    if !file.is_file() {
        let error = io::Error::new(io::ErrorKind::NotFound, "there is no journal here");
        return Err(OpenError::Io { path: from.to_owned(), error }.into());
    }
    let is_made = claim(to)?;
    let partial = to.join(PARTIAL);
    let copied = copy(from, &file, &partial, &mut progress).and_then(|backed_up| {
        let publish = || {
            File::open(&partial)?.sync_all()?;
            fs::rename(&partial, to.join(FILE))?;
            File::open(to)?.sync_all()
        };
        publish().map_err(|error| BackupError::Io { path: to.join(FILE), error })?;
        Ok(backed_up)
    });
    if copied.is_err() {
        // What cannot be removed is refused by the next backup, and no hub takes it for a journal.
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(wal::beside(&partial, suffix));
        }
        if is_made {
            let _ = fs::remove_dir(to);
        }
    }
    copied
}

/// Makes the target directory if it is missing. Returns whether it did.
fn claim(to: &Path) -> Result<bool, BackupError> {
    let io = |error| BackupError::Io { path: to.to_owned(), error };
    match fs::read_dir(to) {
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(entry) => {
                let found = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
                Err(BackupError::NotEmpty { dir: to.to_owned(), found })
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(to)?;
            Ok(true)
        }
        Err(error) => Err(io(error)),
    }
}

fn copy(
    from: &Path,
    file: &Path,
    partial: &Path,
    progress: &mut impl FnMut(u64, u64),
) -> Result<BackedUp, BackupError> {
    // Held to the end: a hub that started meanwhile would write to what is read here without locks.
    let lock = Lock::take(from);
    let is_running = matches!(lock, Err(OpenError::Locked { .. }));
    let io = |error| OpenError::Io { path: file.to_owned(), error };
    let tail = if is_running { Tail::Whole } else { wal::look(file).map_err(io)? };
    let source = match is_running {
        true => schema::reader(file)?,
        false => schema::offline_reader(file, tail != Tail::Empty)?,
    };
    check_identity(&source, file)?;
    // One moment for everything that follows.
    source.execute_batch("BEGIN")?;
    let Place { oldest, head, .. } = Place::find(&source);
    let found = match is_running {
        true => None,
        false => mark::discontinuity(&source, tail, &Record::read(from).map_err(io)?, head)?,
    };
    let loss = found.filter(|found| found.is_loss).map(|found| found.reason);
    // Readable by its owner only, wherever it lies.
    let made = File::options().write(true).create_new(true).mode(0o600).open(partial);
    made.map_err(|error| BackupError::Io { path: partial.to_owned(), error })?;
    let mut target = Connection::open(partial)?;
    let pages = Backup::new(&source, &mut target)?;
    loop {
        let step = pages.step(STEP)?;
        let now = pages.progress();
        progress((now.pagecount - now.remaining).max(0) as u64, now.pagecount.max(0) as u64);
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            _ => std::thread::sleep(RETRY_DELAY),
        }
    }
    drop(pages);
    drop(target);
    let bytes = seal(partial, head)?;
    Ok(BackedUp { oldest, head, bytes, loss })
}

/// Makes the copy one file that is whole by itself: no log goes with it, and nobody has it open.
fn seal(partial: &Path, head: u64) -> Result<u64, BackupError> {
    let target = Connection::open(partial)?;
    target.pragma_update(None, "synchronous", "FULL")?;
    let _: String = target.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))?;
    mark::close(&target, head)?;
    target.close().map_err(|(_, error)| error)?;
    let metadata = fs::metadata(partial).map_err(|error| BackupError::Io { path: partial.to_owned(), error })?;
    Ok(metadata.len())
}
