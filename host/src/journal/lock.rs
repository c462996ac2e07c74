//! One hub at a time for each data directory. The system lets go of the lock with the process, however that ends.

use super::OpenError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::{Duration, Instant},
};

/// Its name in the data directory.
pub(super) const FILE: &str = "lock";

/// Ours for as long as it is there.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    _directory: File,
}

/// Whoever only asks whether a hub is there holds the lock for a moment.
const ASKING: Duration = Duration::from_millis(200);

fn lock(file: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < ASKING => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

impl Lock {
    /// Whether a hub, or another program that writes, has the directory now.
    pub(super) fn is_held(dir: &Path) -> bool {
        let is_locked = |path: &Path| {
            File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
        };
        is_locked(dir) || is_locked(&dir.join(FILE))
    }

    /// The process that wrote itself into the lock, if it is still there. Asked without touching the lock, so that a hub that
    /// starts meanwhile finds it free.
    pub(super) fn holder(dir: &Path) -> Option<u32> {
        let mut pid = String::new();
        File::open(dir.join(FILE)).ok()?.take(20).read_to_string(&mut pid).ok()?;
        let pid: u32 = pid.trim().parse().ok()?;
        let process = rustix::process::Pid::from_raw(pid.try_into().ok()?)?;
        match rustix::process::test_kill_process(process) {
            // Not ours, but there.
            Ok(()) | Err(rustix::io::Errno::PERM) => Some(pid),
            Err(_) => None,
        }
    }

    /// Takes the directory itself too: its lock file may
    /// be removed, and another hub would make a new one.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let io = |error| OpenError::Io { path: path.clone(), error };
        let locked = || OpenError::Locked { dir: dir.to_owned(), pid: Self::holder(dir) };
        let directory = File::open(dir).map_err(io)?;
        // Not every file system locks directories; the file is what counts.
        if matches!(lock(&directory), Err(TryLockError::WouldBlock)) {
            return Err(locked());
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match lock(&file) {
            Ok(()) => {}
            // Whose it is helps; not to know it changes nothing.
            Err(TryLockError::WouldBlock) => return Err(locked()),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // On a full disk the hub still starts, to be read.
        if let Err(error) = write(&mut file) {
            tracing::warn!(%error, path = %path.display(), "cannot write our process id");
        }
        Ok(Self { _file: file, _directory: directory })
    }
}
