//! The journal: what must not be lost, in one SQLite file. Events in their order, and what must agree with them: the
//! cursors of handlers, their retries and dead letters, the plugins' kv and standing. One transaction holds together what
//! one round of the sequencer made true.
//!
//! One [`Writer`], which the sequencer owns, writes; any number of readers read at once (write-ahead log,
//! <https://sqlite.org/wal.html>). Knows what an event is and nothing of who publishes or handles it. Start reading at
//! [`open()`], then `journal/write.rs`.

mod backup;
mod change;
mod checkpoint;
mod clock;
mod continuity;
mod damage;
mod dead_letter;
mod files;
mod import;
mod inspect;
mod letter_bytes;
mod lineage;
mod lock;
mod mark;
mod open;
mod place;
mod read;
mod retention;
mod row;
mod schema;
mod wal;
mod write;

pub use backup::{BackedUp, BackupError, backup};
pub use change::{Change, DeadLetter, Retry, Standing};
pub use continuity::Discontinuity;
pub use dead_letter::{Letter, Letters, Owner, Select};
pub use import::{ImportError, Importer};
pub use inspect::{Damage, Handler, Info, Inspector, Kv, Part, Walk};
pub use lineage::{Epoch, Lineage};
pub use open::{KvEntry, Memory, OpenError, Opened, Recent, open};
pub use read::{Consumer, Found, Retries, Span};
pub use schema::FILE;
pub use write::Writer;

use crate::{metrics::Metrics, seconds::Seconds};
use read::Readers;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::watch;

/// Where the journal is and how much of it stays.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// No journal: everything is in memory and ends with the hub.
    pub memory: bool,
    /// The data directory; made if it is missing, readable by its owner only.
    pub dir: PathBuf,
    /// What an acknowledgement means.
    pub sync: Sync,
    /// Events older than this go; 0 keeps them. In seconds.
    pub max_age_s: u64,
    /// Events beyond this number go, the oldest first; 0 keeps them.
    pub max_events: u64,
    /// The oldest events go while the file holds more than this besides dead letters; 0 keeps them.
    /// In bytes.
    pub max_bytes: u64,
    /// Whether events go that a handler has not finished yet. Otherwise they stay for as long as its plugin is there.
    pub past_handlers: bool,
    /// Dead letters of one plugin beyond this number go, its oldest first; 0 keeps them.
    pub max_dead_letters: u64,
    /// The oldest dead letters of one plugin go while they hold more than this; 0 keeps them. In
    /// bytes.
    pub max_dead_letter_bytes: u64,
    /// While the dead letters of all plugins hold more than this, the oldest of the plugin that
    /// holds most go; 0 keeps them. In bytes.
    pub max_total_dead_letter_bytes: u64,
    /// How often what need not be written at once, such as how far a handler has read, is written. In seconds.
    pub flush_s: Seconds,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            memory: false,
            dir: PathBuf::from("busway-data"),
            sync: Sync::Full,
            max_age_s: 7 * 86_400,
            max_events: 0,
            max_bytes: 10 << 30,
            past_handlers: false,
            max_dead_letters: 10_000,
            max_dead_letter_bytes: 256 << 20,
            max_total_dead_letter_bytes: 1 << 30,
            flush_s: Seconds::new(1),
        }
    }
}

/// What is true of an event once its publisher has been told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// It is on disk: it survives a power cut.
    #[default]
    Full,
    /// The system has it: it survives the end of the hub, however sudden, but a power cut may take the last seconds.
    Normal,
}

/// Why a round was not written; nothing of it is true.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Will work again once there is room.
    #[error("there is no room on the disk of the journal")]
    Full,
    /// May work the next time.
    #[error("the journal could not be written: {0}")]
    Unavailable(Arc<str>),
    /// What the disk holds is not known any more, so nothing more is acknowledged until the hub is started anew.
    #[error("the journal is read-only since a fault: {0}")]
    ReadOnly(Arc<str>),
}

impl WriteError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full => "journal.full",
            Self::Unavailable(_) => "journal.unavailable",
            Self::ReadOnly(_) => "journal.read-only",
        }
    }
}

/// A handle on the journal for everybody but its writer; clones are the same.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: JournalConfig,
    readers: Readers,
    /// The first seq that retention has left.
    oldest: AtomicU64,
    /// Why it cannot be written; none while it can.
    trouble: watch::Sender<Option<WriteError>>,
    files: files::OpenFiles,
    continuity: continuity::Continuity,
    metrics: Arc<Metrics>,
}

impl Journal {
    /// The first seq that is retained.
    pub fn oldest(&self) -> u64 {
        self.shared.oldest.load(Relaxed)
    }

    /// Follows why it cannot be written; none while it can.
    pub fn trouble(&self) -> watch::Receiver<Option<WriteError>> {
        self.shared.trouble.subscribe()
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.config.dir
    }

    /// Its configuration.
    pub fn config(&self) -> &JournalConfig {
        &self.shared.config
    }
}
