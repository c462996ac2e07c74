//! What this process holds.

use std::fs;

/// Two engines, each with 16 components of three modules in its cache and 64 slots.
const MOST_IMAGES: usize = 2 * (16 * 3 + 64);

#[derive(Debug)]
pub struct Process {
    memory: usize,
    files: usize,
    /// Files in memory: wasmtime keeps the first content of a guest's memory in one, for each component that is cached and each slot
    /// that is kept warm for its last user.
    images: usize,
    threads: usize,
}

impl Process {
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
        let links = fs::read_dir("/proc/self/fd").unwrap().map(|entry| fs::read_link(entry.unwrap().path()));
        let (images, files): (Vec<_>, Vec<_>) =
            links.flatten().partition(|link| link.to_string_lossy().starts_with("/memfd:"));
        let threads = fs::read_dir("/proc/self/task").unwrap().count();
        Self { memory: kib << 10, files: files.len(), images: images.len(), threads }
    }

    /// Says nothing where all tests share one process.
    pub fn assert_near(&self, before: &Self) {
        if std::env::var_os("NEXTEST_EXECUTION_MODE").is_none_or(|mode| mode != "process-per-test") {
            return;
        }
        assert!(self.memory < before.memory + (96 << 20), "memory grew: {before:?}, {self:?}");
        assert!(self.images < MOST_IMAGES, "images stay: {before:?}, {self:?}");
        assert!(self.files <= before.files + 4, "files stay open: {before:?}, {self:?}");
        assert!(self.threads <= before.threads + 8, "threads stay: {before:?}, {self:?}");
    }
}
