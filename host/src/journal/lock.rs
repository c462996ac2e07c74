//! One hub at a time for each data directory. The system lets go of the lock with the process, however that ends.

use super::OpenError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

const FILE: &str = "lock";

/// Ours for as long as it is there.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
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

    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let io = |error| OpenError::Io { path: path.clone(), error };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Whose it is helps; not to know it changes nothing.
                let _ = file.read_to_string(&mut pid);
                return Err(OpenError::Locked { dir: dir.to_owned(), pid: pid.trim().parse().ok() });
            }
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
        Ok(Self { _file: file })
    }
}
