//! Copies what SQLite wrote ahead into the file, on a thread of its own, so that no round waits for it. While rounds go on
//! such a copy never quite gets to the end, so the writer itself does the short rest now and then: only then does the log
//! written ahead begin anew instead of growing (<https://sqlite.org/wal.html#avoiding_excessively_large_wal_files>).
//!
//! The same thread looks every `flush_s` whether the journal's files
//! are still where they were, and renews the record of `continuity`.

use super::{JournalConfig, Shared, schema};
use rusqlite::Connection;
use std::{
    io,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// More pages than this in the log written ahead: the writer does the rest. 32 MiB.
const LONG: u64 = 4_096;

#[derive(Debug)]
pub(super) struct Checkpointer {
    /// None once it has ended.
    ask: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Pages in the log written ahead when it was last looked at.
    pages: Arc<AtomicU64>,
    /// It was copied since the writer asked last.
    copied: Arc<AtomicBool>,
}

impl Checkpointer {
    pub(super) fn start(file: &Path, shared: Weak<Shared>, config: &JournalConfig) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let pages = Arc::new(AtomicU64::new(0));
        let copied = Arc::new(AtomicBool::new(false));
        let (file, counted, is_copied) = (file.to_owned(), pages.clone(), copied.clone());
        let (sync, flush) = (config.sync, config.flush_s.duration());
        let run = move || match schema::writer(&file, sync) {
            Ok(connection) => {
                let task = Task { connection, asked, flush, shared, pages: counted, copied: is_copied };
                task.run();
            }
            Err(error) => tracing::error!(%error, "no checkpoints: the log written ahead will grow"),
        };
        let thread = std::thread::Builder::new().name("busway-checkpoint".into()).spawn(run)?;
        Ok(Self { ask: Some(ask), thread: Some(thread), pages, copied })
    }

    pub(super) fn ask(&self) {
        // One that waits is as good as two.
        let _ = self.ask.as_ref().map(|ask| ask.try_send(()));
    }

    /// Whether it was copied since this was asked last, or said.
    pub(super) fn has_copied(&self) -> bool {
        self.copied.swap(false, Relaxed)
    }

    pub(super) fn copied(&self, again: bool) {
        self.copied.fetch_or(again, Relaxed);
    }

    /// Waits for the copy that is being made: another one would find the log busy.
    pub(super) fn stop(&mut self) {
        self.ask = None;
        // It has said why, if it panicked.
        let _ = self.thread.take().map(JoinHandle::join);
    }

    /// The writer's part, between two rounds.
    pub(super) fn finish(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.pages.load(Relaxed) <= LONG {
            return Ok(());
        }
        let result = checkpoint(connection, &self.pages);
        self.pages.store(0, Relaxed);
        self.copied(true);
        result
    }
}

/// The state of the checkpointer's thread.
struct Task {
    connection: Connection,
    asked: Receiver<()>,
    flush: Duration,
    shared: Weak<Shared>,
    pages: Arc<AtomicU64>,
    copied: Arc<AtomicBool>,
}

impl Task {
    fn run(self) {
        let mut looked = Instant::now();
        loop {
            match self.asked.recv_timeout(self.flush.saturating_sub(looked.elapsed())) {
                Ok(()) => self.copy(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() >= self.flush
                && let Some(shared) = self.shared.upgrade()
            {
                shared.look_after_files();
                looked = Instant::now();
            }
        }
    }

    fn copy(&self) {
        let result = checkpoint(&self.connection, &self.pages);
        self.copied.store(true, Relaxed);
        if let Err(error) = result
            && let Some(shared) = self.shared.upgrade()
        {
            shared.fault(&error);
        }
    }
}

fn checkpoint(connection: &Connection, pages: &AtomicU64) -> rusqlite::Result<()> {
    let written: i64 = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |row| row.get(1))?;
    pages.store(written.try_into().unwrap_or(0), Relaxed);
    Ok(())
}
