//! What was compiled before, on disk, so that a restart compiles nothing. The only place with `unsafe`: what the compiler has
//! written is machine code, and loading it is believing it.
//!
//! A file is believed if all of it is as it was written (a checksum over everything, kept in its
//! head) by this hub: the directory is the hub's user's own and nobody else may enter it, which is
//! looked at whenever it is used, and files are opened without following links. It is written under
//! another name and renamed, so it is whole or not there. Its name says of which bytes, and for
//! which compiler with which settings, so another version of the hub finds nothing of this one's.

use crate::plugin::{
    engine::Hash,
    limits::{MAX_CACHE_BYTES, MAX_COMPILED_BYTES},
};
use rustix::{fs::OFlags, process::geteuid};
use sha2::{Digest, Sha256};
use std::{
    cmp::Reverse,
    fs::{self, DirBuilder, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};
use wasmtime::component::Component;

const MAGIC: &[u8; 8] = b"busway1\n";
const HEAD: usize = MAGIC.len() + 32;
const COMPILED: &str = "compiled";
/// What the compiler said of a file that it refused.
const REFUSED: &str = "refused";

/// See the module's head.
#[derive(Debug)]
pub(in crate::plugin) struct Cache {
    dir: PathBuf,
    /// Compiler and settings.
    engine: u64,
}

/// What is known of a file.
pub(in crate::plugin) enum Known {
    Compiled(Vec<u8>),
    Refused(String),
}

impl Cache {
    /// Opens the directory, or makes it.
    pub(in crate::plugin) fn open(dir: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        make_own_dir(dir)?;
        // The same from run to run: the keys of this hasher are fixed.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Self { dir: dir.to_owned(), engine: hasher.finish() };
        cache.sweep();
        Ok(cache)
    }

    fn path(&self, hash: Hash, what: &str) -> PathBuf {
        self.dir.join(format!("{}-{:016x}.{what}", hash.to_hex(), self.engine))
    }

    /// What is known of a file; nothing, if what is there is not what was written, or others may
    /// write to the directory by now.
    pub(in crate::plugin) fn get(&self, hash: Hash) -> Option<Known> {
        if let Err(error) = make_own_dir(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "the compile cache is not used");
            return None;
        }
        if let Some(compiled) = self.read(&self.path(hash, COMPILED)) {
            return Some(Known::Compiled(compiled));
        }
        let why = self.read(&self.path(hash, REFUSED))?;
        String::from_utf8(why).ok().map(Known::Refused)
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let read = || {
            let mut file = OpenOptions::new()
                .read(true)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
                .open(path)?;
            let found = file.metadata()?;
            if !found.is_file() || found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
                return Err(io::Error::other("it is not the hub's own"));
            }
            let mut head = [0; HEAD];
            file.read_exact(&mut head)?;
            let mut content = Vec::with_capacity(found.len() as usize);
            (&mut file).take(MAX_COMPILED_BYTES as u64).read_to_end(&mut content)?;
            let (magic, sum) = head.split_at(MAGIC.len());
            if magic != MAGIC || Sha256::digest(&content).as_slice() != sum {
                return Err(io::Error::other("it is not what was written"));
            }
            // Used just now; where that cannot be noted, it goes sooner.
            let _ = file.set_modified(SystemTime::now());
            Ok(content)
        };
        match read() {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "not taken from the compile cache");
                None
            }
        }
    }

    /// Keeps it, if there is room. The hub goes on without.
    pub(in crate::plugin) fn put(&self, hash: Hash, known: &Known) {
        let (path, content) = match known {
            Known::Compiled(compiled) => (self.path(hash, COMPILED), compiled.as_slice()),
            Known::Refused(why) => (self.path(hash, REFUSED), why.as_bytes()),
        };
        let write = || {
            make_own_dir(&self.dir)?;
            let beside = path.with_extension(format!("new-{:016x}", fastrand::u64(..)));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            let written = file
                .write_all(MAGIC)
                .and_then(|()| file.write_all(&Sha256::digest(content)))
                .and_then(|()| file.write_all(content))
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&beside, &path));
            written.inspect_err(|_| drop(fs::remove_file(&beside)))
        };
        if let Err(error) = write() {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot keep what was compiled");
        }
        self.sweep();
    }

    /// What was said of a file is not believed any more.
    pub(in crate::plugin) fn forget_refusal(&self, hash: Hash) {
        let _ = fs::remove_file(self.path(hash, REFUSED));
    }

    /// Removes what was left half written, and what was not used for longest while there is too much.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let (path, Ok(found)) = (entry.path(), entry.metadata()) else { continue };
            let at = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            // One that is being written is young.
            let old = at.elapsed().is_ok_and(|age| age.as_secs() > 3_600);
            match kind {
                COMPILED | REFUSED => files.push((at, found.len(), path)),
                _ if kind.starts_with("new-") && old => drop(fs::remove_file(path)),
                _ => {}
            }
        }
        files.sort_unstable_by_key(|file| Reverse(file.0));
        let mut sum = 0;
        for (_, bytes, path) in files {
            sum += bytes.max(4_096);
            if sum > MAX_CACHE_BYTES {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The directory, made if it is not there; an error unless it is the hub's user's own, whatever it
/// was before.
fn make_own_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    let (owner, user) = (found.uid(), geteuid().as_raw());
    if !found.is_dir() || owner != user || found.mode() & 0o077 != 0 {
        let found = format!("mode {:o}, user {owner}", found.mode());
        let problem = format!("expected a directory of mode 700 that belongs to user {user}, found {found}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    Ok(())
}

/// Makes what the compiler wrote callable.
#[expect(unsafe_code, reason = "machine code is believed, not checked: see below for why it can be")]
pub(in crate::plugin) fn load(engine: &wasmtime::Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `compiled` is what wasmtime's compiler returned, in this process or in one of the same program that this one
    // started, over a pipe between the two or out of a file that nobody else can write to and of which every byte was compared
    // with a checksum. That it is of this version of wasmtime and for these settings, wasmtime looks at itself. The compiler
    // has read a stranger's file; that it makes no other code of it than it would in this process is what is relied on in any
    // case.
    unsafe { Component::deserialize(engine, compiled) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> wasmtime::Engine {
        crate::plugin::engine::for_compiling().unwrap()
    }

    fn only(dir: &Path) -> PathBuf {
        let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn what_was_compiled_and_what_was_refused_is_known_again_and_every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, engine) = (dir.path().join("cache"), engine());
        let cache = Cache::open(&dir, &engine).unwrap();
        let hash = Hash::of(b"a file");
        assert!(cache.get(hash).is_none());
        cache.put(hash, &Known::Compiled(b"code".to_vec()));
        let again = Cache::open(&dir, &engine).unwrap();
        assert!(matches!(again.get(hash), Some(Known::Compiled(code)) if code == b"code"));
        assert!(again.get(Hash::of(b"another")).is_none());
        let path = only(&dir);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(cache.get(hash).is_none(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(cache.get(hash).is_none(), "cut off at {at}");
        }
        fs::remove_file(&path).unwrap();
        cache.put(hash, &Known::Refused("too odd".into()));
        assert!(matches!(cache.get(hash), Some(Known::Refused(why)) if why == "too odd"));
        cache.forget_refusal(hash);
        assert!(cache.get(hash).is_none());
    }

    #[test]
    fn a_directory_or_a_file_that_others_may_write_to_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (dir, engine) = (dir.path().join("cache"), engine());
        let (cache, hash) = (Cache::open(&dir, &engine).unwrap(), Hash::of(b"a file"));
        cache.put(hash, &Known::Compiled(b"code".to_vec()));
        let path = only(&dir);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.get(hash).is_none());
        let elsewhere = dir.with_file_name("elsewhere");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(cache.get(hash).is_none(), "a link");
        fs::remove_file(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        assert!(cache.get(hash).is_some());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(cache.get(hash).is_none(), "the group may write to it by now");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Cache::open(&dir, &engine).unwrap_err().to_string();
        assert!(error.contains("expected a directory of mode 700") && error.contains("found mode 40755"), "{error}");
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, engine) = (dir.path().join("cache"), engine());
        let (cache, hash) = (Cache::open(&dir, &engine).unwrap(), Hash::of(b"a file"));
        fs::remove_dir(&dir).unwrap();
        cache.put(hash, &Known::Compiled(b"code".to_vec()));
        assert!(cache.get(hash).is_some());
    }
}
