//! The real program on a directory of its own, with the disk that fails when it is told to.

use super::trace::Trace;
use crate::hub::within;
use serde_json::{Value, json};
use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::UNIX_EPOCH,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Where a program is run, again and again.
pub struct Place {
    _dir: TempDir,
    root: PathBuf,
    data: String,
    config: String,
}

impl Place {
    /// `journal`: lines for that section of the configuration.
    pub fn new(journal: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // SQLite opens files by the path that has no links in it.
        let root = dir.path().canonicalize().unwrap();
        for name in ["control", "plugins", "data"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        fs::write(root.join("boot"), "the-boot-of-the-test\n").unwrap();
        // The disk is told to fail, and writes its trace, beside the data directory.
        let config = format!("[journal]\n{journal}\n[confine]\nlandlock = \"off\"\n");
        Self { _dir: dir, root, data: "data".into(), config }
    }

    pub fn data(&self) -> PathBuf {
        self.root.join(&self.data)
    }

    /// Moves the data directory to another path, at which the next program looks for it.
    pub fn move_data(&mut self) {
        let to = format!("{}-moved", self.data);
        fs::rename(self.data(), self.root.join(&to)).unwrap();
        self.data = to;
    }

    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    pub fn trace(&self) -> PathBuf {
        self.root.join("trace")
    }

    /// The disk fails like this until [`Place::heal`]; see `fixtures/faultfs.c`.
    pub fn fail(&self, how: &str) {
        fs::write(self.root.join("control").join(how), "").unwrap();
    }

    pub fn heal(&self, how: &str) {
        fs::remove_file(self.root.join("control").join(how)).unwrap();
    }

    pub async fn start(&self) -> Program {
        Program::start(self.command()).await
    }

    /// With a trace, and as if the machine had not been started since [`Place::new`] but would be after it.
    pub async fn start_traced(&self) -> Program {
        let mut command = self.command();
        Trace::drop_torn(&self.trace());
        command.env("FAULTFS_TRACE", self.trace()).env("FAULTFS_BOOT", self.root.join("boot"));
        Program::start(command).await
    }

    /// What it says when it does not start.
    pub async fn refused(&self) -> String {
        let output = within(self.command().output()).await.unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn command(&self) -> Command {
        let config = self.root.join("busway.toml");
        fs::write(&config, &self.config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_busway-under-test"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--data")
            .arg(self.data())
            .arg("--plugins")
            .arg(self.plugins())
            .env("LD_PRELOAD", env!("FAULTFS"))
            .env("FAULTFS_DIR", self.data())
            .env("FAULTFS_CONTROL", self.root.join("control"))
            .env_remove("RUST_LOG")
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

pub struct Program {
    child: Child,
    pub address: String,
    pub http: reqwest::Client,
}

impl Program {
    async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = within(async {
            let mut before = Vec::new();
            loop {
                let line = said.next_line().await.unwrap().unwrap_or_else(|| panic!("it has ended: {before:#?}"));
                if let Some(rest) = line.split("listening on http://").nth(1) {
                    return rest.split(',').next().unwrap().to_owned();
                }
                before.push(line);
            }
        })
        .await;
        // Read on, or it would wait for room in the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Self { child, address, http: crate::hub::http_client() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = within(request.send()).await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(self.http.get(self.url(path))).await
    }

    pub async fn publish(&self, events: &Value) -> (u16, Value) {
        self.send(self.http.post(self.url("/v1/events")).json(events)).await
    }

    /// Publishes one event and gives its seq.
    pub async fn publish_one(&self, data: Value) -> u64 {
        let (status, answer) = self.publish(&json!({"type": "n", "data": data})).await;
        assert_eq!(status, 200, "{answer}");
        answer["events"][0]["seq"].as_u64().unwrap()
    }

    /// Publishes so many events, each with its number, and gives the last seq.
    pub async fn publish_many(&self, count: u64) -> u64 {
        let mut last = 0;
        for index in 1..=count {
            last = self.publish_one(json!(index)).await;
        }
        last
    }

    /// Everything in the log, in order and without a gap.
    pub async fn events(&self) -> Vec<Value> {
        let (mut all, mut next) = (Vec::new(), 1);
        loop {
            let (status, page) = self.get(&format!("/v1/events?from={next}&limit=1000")).await;
            assert!(status == 200 && page.get("missed").is_none_or(Value::is_null), "{status} {page}");
            all.extend(page["events"].as_array().unwrap().iter().cloned());
            next = page["next"].as_u64().unwrap();
            if next > page["head"].as_u64().unwrap() {
                return all;
            }
        }
    }

    /// Waits until `condition` holds for what it answers there.
    pub async fn until(&self, path: &str, condition: impl Fn(u16, &Value) -> bool) -> Value {
        within(async {
            loop {
                let (status, answer) = self.get(path).await;
                if condition(status, &answer) {
                    return answer;
                }
            }
        })
        .await
    }

    /// At once, without a word to it.
    pub async fn kill(mut self) {
        within(self.child.kill()).await.unwrap();
    }

    /// As an operator ends it.
    pub async fn end(mut self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap().success());
        assert!(within(self.child.wait()).await.unwrap().success(), "it ends with 0");
    }
}

/// Copies the files of a directory, but not what is below it: compiled plugins are made again. The
/// copy counts as the original: see [`as_if_never_copied`].
pub fn copy(from: &Path, to: &Path) {
    copy_files(from, to);
    as_if_never_copied(to);
}

/// As `cp` does: over files of the same name in place.
pub fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Makes the record of continuity fit the files that are there now, as if the disk itself held
/// them: what a test rebuilds stands for the directory in which it was, and not for a copy of it.
pub fn as_if_never_copied(dir: &Path) {
    let (path, database) = (dir.join("continuity"), dir.join("busway.db"));
    let Ok(text) = fs::read_to_string(&path) else { return };
    let (Some((head, said)), true) = (text.split_once('\n'), database.exists()) else { return };
    let Ok(mut said) = serde_json::from_str::<Value>(said) else { return };
    let inode = |metadata: &Metadata| {
        let born = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
        json!({"inode": metadata.ino(), "born_ns": born.as_nanos() as u64})
    };
    let metadata = fs::metadata(&database).unwrap();
    said["database"] = inode(&metadata);
    if !said["closed_ns"].is_null() {
        said["closed_ns"] = json!(metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec());
    }
    said["record"] = inode(&fs::metadata(&path).unwrap());
    fs::write(&path, format!("{head}\n{said}\n")).unwrap();
}
