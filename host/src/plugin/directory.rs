//! The plugin directory as it stands: which files are there, and the bytes of one of them. Files are a stranger's: only
//! regular ones that lie in the directory are opened, none blocks, none is read past its limit.

use super::{
    Hash, LoadError, Name, NameError, ShadowFile,
    limits::{MAX_FILE_BYTES, MAX_MANIFEST_BYTES},
    manifest::{is_blank, read_part},
};
use rustix::fs::OFlags;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// A file that was written to so recently may not be whole yet. Renamed into place, a file is older than that at once.
const SETTLES: Duration = Duration::from_millis(50);

/// Most files that are no plugins of which the reason is told; of the others only their number.
const MAX_REFUSED: usize = 1_000;
/// Stands for the files beyond [`MAX_REFUSED`]. It is
/// not the name of one, as it does not end in `.wasm`.
const OTHERS: &str = "…";

/// Of a plugin's file.
const ENDING: &str = ".wasm";

/// Tells two states of a file apart without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A plugin's two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) wasm: Print,
    pub(super) toml: Option<Print>,
}

/// For each plugin with a sidecar: its state when it was read, and the file that it names as shadow.
pub(super) type Named = BTreeMap<Name, (Print, Option<Name>)>;

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) plugins: BTreeMap<Name, Found>,
    /// Files that the sidecar of one of them names as its shadow: no plugins of their own.
    pub(super) shadows: BTreeMap<Name, Print>,
    /// What the sidecars say of that.
    pub(super) named: Named,
    /// Files that end in `.wasm`, however that is written, and are no plugins, with the reason.
    pub(super) refused: BTreeMap<String, String>,
    /// How many more there are than are in `refused`.
    others: usize,
    /// Plugins of which nothing can be told now: what is known of them stays as it is.
    pub(super) unreadable: Vec<Name>,
    /// Plugins with a file that may not be whole yet: look again when this much time has passed.
    pub(super) unsettled: Vec<Name>,
    pub(super) look_again: Option<Duration>,
}

/// Looks at the directory. One that is not there is empty. `before`: of the last look, so that a sidecar is read once.
pub(super) fn scan(dir: &Path, before: &Named) -> std::io::Result<Picture> {
    let mut picture = Picture::default();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(picture),
        Err(error) => return Err(error),
    };
    let now = SystemTime::now();
    for entry in entries {
        let entry = entry?;
        let (path, file) = (entry.path(), entry.file_name());
        let Some(name) = name_of(&file.to_string_lossy()) else { continue };
        // Two names that are not UTF-8 do not become one.
        let file = file.to_str().map_or_else(|| format!("{file:?}"), str::to_owned);
        let name = match name {
            Ok(name) => name,
            Err(reason) => {
                picture.refuse(file, reason);
                continue;
            }
        };
        let (wasm, toml) = match (fs::metadata(&path), sidecar(&path.with_extension("toml"))) {
            (Ok(wasm), Ok(toml)) => (wasm, toml),
            // Gone since it was listed: then it is not there.
            (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                if fs::symlink_metadata(&path).is_ok() {
                    picture.refuse(file, "expected a file, found a link to nothing".into());
                }
                continue;
            }
            (Err(error), _) => {
                picture.refuse(file, format!("cannot be looked at: {error}"));
                picture.unreadable.push(name);
                continue;
            }
            (_, Err(error)) => {
                picture.refuse(file, format!("its sidecar cannot be looked at: {error}"));
                picture.unreadable.push(name);
                continue;
            }
        };
        let age =
            |file: &fs::Metadata| file.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or(SETTLES);
        let youngest = toml.iter().map(age).fold(age(&wasm), Duration::min);
        if youngest < SETTLES {
            let wait = SETTLES - youngest;
            picture.look_again = Some(picture.look_again.map_or(wait, |other| other.max(wait)));
            picture.unsettled.push(name.clone());
        }
        picture.plugins.insert(name, Found { wasm: Print::of(&wasm), toml: toml.as_ref().map(Print::of) });
    }
    set_aside_shadows(dir, before, &mut picture);
    Ok(picture)
}

impl Picture {
    /// Which are told depends on the order of the directory, which stays while it does not change.
    fn refuse(&mut self, file: String, reason: String) {
        if self.refused.len() < MAX_REFUSED {
            self.refused.insert(file, reason);
        } else {
            self.others += 1;
            self.refused.insert(OTHERS.into(), format!("{} more files are no plugins", self.others));
        }
    }

    /// Refuses what is more than `most` plugins. Those that `is_known` go before others.
    pub(super) fn limit(&mut self, most: usize, is_known: impl Fn(&Name) -> bool) {
        if self.plugins.len() <= most {
            return;
        }
        let (known, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.plugins).into_iter().partition(|(name, _)| is_known(name));
        for (name, found) in known.into_iter().chain(others) {
            if self.plugins.len() < most {
                self.plugins.insert(name, found);
            } else {
                self.refuse(format!("{name}.wasm"), format!("expected at most {most} plugins, found more"));
            }
        }
    }
}

fn set_aside_shadows(dir: &Path, before: &Named, picture: &mut Picture) {
    for (name, known) in before {
        // Nothing that is missing or cannot be looked at makes a candidate a plugin of its own.
        let is_bare = picture.plugins.get(name).is_some_and(|found| found.toml.is_none());
        if is_bare || picture.unreadable.contains(name) {
            picture.named.insert(name.clone(), known.clone());
        }
    }
    for (name, found) in &picture.plugins {
        let Some(toml) = found.toml else { continue };
        let known = before.get(name).filter(|(read, _)| *read == toml);
        let file = known.map_or_else(
            || shadow_named_by(dir, name).unwrap_or_else(|| before.get(name).and_then(|(_, file)| file.clone())),
            |(_, file)| file.clone(),
        );
        picture.named.insert(name.clone(), (toml, file));
    }
    let named: Vec<(Name, Name)> =
        picture.named.iter().filter_map(|(name, (_, file))| Some((name.clone(), file.clone()?))).collect();
    for (name, file) in &named {
        // What a shadow's own sidecar says counts for nothing.
        let is_shadow = named.iter().any(|(other, shadow)| shadow == name && other != name);
        if file != name
            && !is_shadow
            && let Some(found) = picture.plugins.remove(file)
        {
            picture.refused.insert(format!("{file}.wasm"), format!("it is the shadow of {name}"));
            picture.shadows.insert(file.clone(), found.wasm);
        }
    }
}

/// The file that a sidecar names as shadow; the outer `None` if it cannot be read or is empty.
/// Where there is a mistake elsewhere in it, the name is still looked for: a candidate must not
/// come to work as a plugin of its own.
fn shadow_named_by(dir: &Path, name: &Name) -> Option<Option<Name>> {
    #[derive(Deserialize)]
    struct Sidecar {
        shadow: Option<ShadowFile>,
    }
    let text = read_manifest(dir, name).ok()??;
    if is_blank(&text) {
        return None;
    }
    let line = || text.lines().find(|line| line.trim_start().starts_with("shadow")).unwrap_or_default();
    let sidecar: Option<Sidecar> = read_part(&text).or_else(|| read_part(line()));
    Some(sidecar.and_then(|sidecar| sidecar.shadow).map(|ShadowFile(file)| file))
}

/// How moving a file went.
pub(super) enum Moved {
    Yes,
    /// It is another one by now.
    Changed,
    Refused(std::io::Error),
}

/// Moves `file` over that of `name`, if it still has the bytes with this hash.
pub(super) fn move_over(dir: &Path, file: &Name, name: &Name, hash: Hash) -> Result<Moved, LoadError> {
    if Hash::of(&read_component(dir, file)?) != hash {
        return Ok(Moved::Changed);
    }
    let [from, to] = [file, name].map(|name| dir.join(format!("{name}.wasm")));
    Ok(fs::rename(from, to).map_or_else(Moved::Refused, |()| Moved::Yes))
}

/// None: nobody takes it for a plugin.
fn name_of(file: &str) -> Option<Result<Name, String>> {
    let (stem, ending) = file.split_at_checked(file.len().checked_sub(ENDING.len())?)?;
    if !ending.eq_ignore_ascii_case(ENDING) {
        return None;
    }
    if ending != ENDING {
        return Some(Err(format!("expected a file that ends in {ENDING}, found one that ends in {ending}")));
    }
    Some(stem.parse().map_err(|error: NameError| error.to_string()))
}

/// A link that leads nowhere is not the same as no file: it shows, and reading it fails.
fn sidecar(path: &Path) -> std::io::Result<Option<fs::Metadata>> {
    let absent = |error: &std::io::Error| error.kind() == ErrorKind::NotFound;
    let found =
        fs::metadata(path).or_else(|error| if absent(&error) { fs::symlink_metadata(path) } else { Err(error) });
    match found {
        Err(error) if absent(&error) => Ok(None),
        found => found.map(Some),
    }
}

impl Print {
    fn of(file: &fs::Metadata) -> Self {
        Self {
            inode: file.ino(),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// The bytes of a plugin's file.
pub(super) fn read_component(dir: &Path, name: &Name) -> Result<Arc<[u8]>, LoadError> {
    read(dir, &format!("{name}.wasm"), MAX_FILE_BYTES as u64).map(Into::into)
}

/// The text of the operator's file beside it; none if there is none.
pub(super) fn read_manifest(dir: &Path, name: &Name) -> Result<Option<String>, LoadError> {
    match read(dir, &format!("{name}.toml"), MAX_MANIFEST_BYTES as u64) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| LoadError::File("a sidecar that is not UTF-8")),
        Err(LoadError::Io(error)) if error.kind() == ErrorKind::NotFound => {
            if fs::symlink_metadata(dir.join(format!("{name}.toml"))).is_ok() {
                return Err(LoadError::File("a sidecar that is a link to nothing"));
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read(dir: &Path, file: &str, limit: u64) -> Result<Vec<u8>, LoadError> {
    let file = open(dir, &dir.join(file))?;
    let bytes = file.metadata()?.len();
    if bytes > limit {
        return Err(LoadError::Size { most: limit, bytes });
    }
    let mut read = Vec::with_capacity(bytes as usize);
    // It may have grown since.
    file.take(limit + 1).read_to_end(&mut read)?;
    if read.len() as u64 > limit {
        return Err(LoadError::Size { most: limit, bytes: read.len() as u64 });
    }
    Ok(read)
}

/// Links within the directory are followed (that is how some deployments swap files), links out of it are not. Opening
/// neither waits for a writer of a pipe nor follows a link that was put there meanwhile.
fn open(dir: &Path, path: &Path) -> Result<File, LoadError> {
    let other = LoadError::File("something else (a directory, a pipe or a device)");
    let (dir, real): (PathBuf, PathBuf) = (dir.canonicalize()?, path.canonicalize()?);
    let Ok(within) = real.strip_prefix(&dir) else { return Err(LoadError::File("a link out of it")) };
    // A device may do something when it is opened, so it is not; afterwards, for what was put there meanwhile.
    if !fs::metadata(&real)?.is_file() {
        return Err(other);
    }
    let file = open_beneath(&dir, within)?;
    if !file.metadata()?.is_file() {
        return Err(other);
    }
    Ok(file)
}

/// `within` has no links any more: one that is on the way now was put there since. The kernel does not follow it (openat2, Linux 5.6);
/// one that cannot be asked, or may not be, looks at the last part of the way only.
fn open_beneath(dir: &Path, within: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    #[cfg(target_os = "linux")]
    {
        use rustix::{fs, fs::ResolveFlags, io::Errno};
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let above = File::open(dir)?;
        match fs::openat2(above, within, flags, fs::Mode::empty(), beneath) {
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return Ok(opened?.into()),
        }
    }
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(dir.join(within))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn plugins_and_the_reasons_why_files_are_none_have_a_bound_and_those_that_are_known_stay() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: String| fs::write(dir.path().join(name), "x").unwrap();
        (0..MAX_REFUSED + 100).for_each(|n| touch(format!("{n}.WASM")));
        ["a", "b", "c"].into_iter().for_each(|name| touch(format!("{name}.wasm")));
        let mut picture = scan(dir.path(), &Named::new()).unwrap();
        picture.limit(3, |_| false);
        assert_eq!((picture.plugins.len(), picture.refused.len()), (3, MAX_REFUSED + 1));
        assert_eq!(picture.refused[OTHERS], "100 more files are no plugins");
        picture.limit(2, |name| name.as_str() == "c");
        assert_eq!(picture.plugins.keys().map(Name::as_str).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(picture.refused[OTHERS], "101 more files are no plugins");
    }

    /// Between the two looks somebody has put a link in the place of a directory on the way.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_link_on_the_way_is_followed_before_it_is_opened_and_not_after() {
        let outer = tempfile::tempdir().unwrap();
        let (dir, other) = (outer.path().join("plugins"), outer.path().join("other"));
        for folder in [&dir, &dir.join("1"), &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("x.wasm"), "x").unwrap();
        }
        symlink("1", dir.join("current")).unwrap();
        symlink(dir.join("current/x.wasm"), dir.join("linked.wasm")).unwrap();
        assert_eq!(read(&dir, "linked.wasm", 9).unwrap(), b"x");
        assert_eq!(open_beneath(&dir, Path::new("1/x.wasm")).unwrap().metadata().unwrap().len(), 1);
        fs::rename(dir.join("1"), dir.join("2")).unwrap();
        symlink(&other, dir.join("1")).unwrap();
        let error = open_beneath(&dir, Path::new("1/x.wasm")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()), "{error}");
        assert!(matches!(read(&dir, "linked.wasm", 9), Err(LoadError::File("a link out of it"))));
    }
}
