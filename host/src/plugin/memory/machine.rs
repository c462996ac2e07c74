//! How much memory there is for this process: what the machine has, or less where a control group (cgroup, version 1 or 2) says so. What
//! slows the process down (`memory.high`) counts like what ends it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where nobody says how much there is.
const UNKNOWN: usize = 2 << 30;
const GROUPS: &str = "/sys/fs/cgroup";

/// In bytes.
pub(super) fn memory() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // A text like `max` is no limit.
    let limit = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse().ok();
    files(&groups).into_iter().filter_map(limit).chain(machine).min().unwrap_or(UNKNOWN)
}

/// Of the text of `/proc/meminfo`: `MemTotal:       24576000 kB`.
fn total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1_024)
}

/// The files with the limits of the groups in the text of `/proc/self/cgroup`, and of those above them: `0::/system.slice/x.service` in
/// version 2, `4:memory:/x` in version 1. A container may not see its group under its name, but as the root.
fn files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, names): (_, &[&str]) = match controllers {
            "" => (Path::new(GROUPS).to_owned(), &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (Path::new(GROUPS).join("memory"), &["memory.limit_in_bytes"])
            }
            _ => continue,
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            files.extend(names.iter().map(|name| root.join(group).join(name)));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_all_groups_above_are_looked_for() {
        let groups = "9:name=systemd:/\n4:memory:/a\n3:cpuset:/\n0::/system.slice/busway.service\n";
        let expected = [
            "memory/a/memory.limit_in_bytes",
            "memory/memory.limit_in_bytes",
            "system.slice/busway.service/memory.max",
            "system.slice/busway.service/memory.high",
            "system.slice/memory.max",
            "system.slice/memory.high",
            "memory.max",
            "memory.high",
        ];
        assert_eq!(files(groups), expected.map(|file| Path::new(GROUPS).join(file)));
        assert_eq!(files("nonsense"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24_576_000 << 10));
        assert_eq!((total(""), total("MemTotal: much")), (None, None));
        assert!(memory() > 64 << 20);
    }
}
