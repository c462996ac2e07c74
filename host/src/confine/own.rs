//! What the program itself is made of, and what of the system it reads: so that it works on when all else is closed, and can start
//! itself again.

use std::{collections::BTreeSet, path::PathBuf};

/// Its own file, also when another has taken its place on the disk since.
const ITSELF: &str = "/proc/self/exe";

/// What is read while the hub runs or starts itself again. Not `/etc` as a whole, where there are secrets, and no resolver: the hub
/// connects to nobody. What of it is not there is left out.
pub(super) const SYSTEM: &[&str] = &[
    // Shared libraries, symbols for a backtrace, time zones. Nothing there is started.
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    // The allocator, the number of threads, the boot's id, which pages a plugin wrote.
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/urandom",
];

/// A child that is to hear and say nothing has this for its pipes.
pub(super) const NULL: &str = "/dev/null";

/// The files that may be started: the program, and what the system has put together with it, such as the loader and the C library,
/// wherever this system has them.
pub(super) fn files() -> BTreeSet<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    executable(&maps).chain([PathBuf::from(ITSELF)]).collect()
}

/// The mapped files with code in them, of the text of `/proc/self/maps`: `7f…-7f… r-xp 00000000 fe:00 42    /usr/lib/libc.so.6`.
fn executable(maps: &str) -> impl Iterator<Item = PathBuf> {
    maps.lines().filter_map(|line| {
        let rights = line.split_whitespace().nth(1)?;
        let path = &line[line.find('/')?..];
        (rights.contains('x') && !path.ends_with(" (deleted)")).then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_code_that_are_still_there_are_its_own() {
        let maps = "\
            55d0-55d1 r--p 00000000 fe:00 1      /usr/bin/data\n\
            55d1-55d2 r-xp 00001000 fe:00 1      /opt/a b/busway\n\
            55d2-55d3 r-xp 00001000 fe:00 2      /opt/old (deleted)\n\
            7f00-7f01 rw-p 00000000 00:00 0 \n\
            7f01-7f02 r-xp 00000000 00:00 0      [vdso]\n";
        assert_eq!(executable(maps).collect::<Vec<_>>(), [PathBuf::from("/opt/a b/busway")]);
        assert!(files().len() > 1, "{:?}", files());
    }
}
