//! The server under measurement: a process of its own, so that its CPU time and its memory are its alone.

use busway::{config::Config, hub::Hub, journal::Sync};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// `USER_HZ`, the unit of times in `/proc`: 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// A child process; ended when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    /// CPU time that it has used, of all its threads, in user and system mode.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // The name in parentheses may hold spaces; utime and stime are the 14th and 15th fields of proc(5).
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        TICK * fields.skip(11).take(2).map(|ticks| ticks.parse::<u32>().expect("a number")).sum()
    }

    /// Bytes of memory that it holds now.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A hub ends when its input does, and then leaves behind what a profiler has counted in it.
        if self.child.stdin.take().is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A hub, its plugin directory and where it listens.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) dir: TempDir,
}

impl Server {
    /// Starts this program again as a hub in memory, with plugins in place, and waits until it is ready.
    pub(crate) fn start(install: impl FnOnce(&Path)) -> Self {
        Self::keeping("memory", install)
    }

    /// As [`Server::start`], with a journal that syncs so: `full` or `normal`.
    pub(crate) fn keeping(sync: &str, install: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        install(dir.path());
        let mut child = Command::new(std::env::current_exe().expect("it runs"))
            .arg("serve")
            .arg(dir.path())
            .arg(sync)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says where");
        let addr = line.trim().parse().expect("an address");
        Self { process: Process::new(child), addr, dir }
    }
}

/// What the child does: a hub as `busway serve` runs it, until its parent is gone.
pub(crate) fn serve(dir: &Path, sync: &str) {
    let mut config = Config::default();
    config.journal.memory = sync == "memory";
    config.journal.sync = if sync == "normal" { Sync::Normal } else { Sync::Full };
    config.journal.dir = dir.join("data");
    config.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.plugins.dir = dir.to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let _hub = runtime.block_on(async {
        let hub = Hub::start(config).await.expect("it starts");
        hub.ready().await;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", hub.addr()).and_then(|()| stdout.flush()).expect("the parent reads");
        hub
    });
    // Ends with the parent, however that ends.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
