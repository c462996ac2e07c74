//! Whether the files at their paths are still those that the hub has
//! open. One that was removed, moved or replaced while the hub runs takes
//! what is written to it with it: nothing may be acknowledged then.

use super::{lock, schema::FILE, wal::beside};
use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What a file is, whatever its name: its device and inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The files of the journal as they were when it was opened.
#[derive(Debug)]
pub(super) struct OpenFiles {
    /// The database and its log: what is acknowledged is in one of them.
    data: [(PathBuf, Identity); 2],
    /// The index of the log, the lock, and the directory.
    others: Vec<(PathBuf, Identity)>,
    /// Open for as long as this is, so that no other file is given their inodes.
    _held: Vec<File>,
}

impl OpenFiles {
    /// Of a journal that is open, so that SQLite keeps its files too.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let mut held = Vec::new();
        // Not for SQLite's own files: closing any descriptor of a
        // file drops the locks that SQLite has on it (fcntl(2)).
        let mut open = |path: PathBuf| -> io::Result<(PathBuf, Identity)> {
            let file = File::open(&path)?;
            let identity = identity(&file.metadata()?);
            held.push(file);
            Ok((path, identity))
        };
        let others = vec![open(dir.join(lock::FILE))?, open(dir.to_owned())?];
        let look = |path: PathBuf| fs::metadata(&path).map(|metadata| (path, identity(&metadata)));
        let file = dir.join(FILE);
        let data = [look(file.clone())?, look(beside(&file, "-wal"))?];
        let mut files = Self { data, others, _held: held };
        files.others.push(look(beside(&file, "-shm"))?);
        Ok(files)
    }

    /// Whether the database and its log are where they
    /// were; a reason if not. About two microseconds.
    pub(super) fn check_data(&self) -> Result<(), String> {
        self.data.iter().try_for_each(check)
    }

    /// Also looks at the lock, the index and the directory.
    pub(super) fn check(&self) -> Result<(), String> {
        self.data.iter().chain(&self.others).try_for_each(check)
    }
}

fn check((path, expected): &(PathBuf, Identity)) -> Result<(), String> {
    let found = match fs::metadata(path) {
        Ok(metadata) if identity(&metadata) == *expected => return Ok(()),
        Ok(_) => "it was replaced while the hub runs".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it was removed while the hub runs".to_owned(),
        // What cannot be looked at now may be there.
        Err(error) if error.kind() != io::ErrorKind::NotADirectory => return Ok(()),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "{}: {found}; stop the hub, make sure that the directory is the right one, and start it again",
        path.display()
    ))
}
