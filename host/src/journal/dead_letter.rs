//! Dead letters as they are read: by plugin, code and time, a page at a time.

use crate::event::{Event, NewEvent};
use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// This one only.
    pub id: Option<i64>,
    /// Of this plugin.
    pub plugin: Option<String>,
    /// With this code.
    pub code: Option<String>,
    /// That died at or after, in milliseconds since 1970, UTC.
    pub since_ms: Option<i64>,
    /// That died before.
    pub until_ms: Option<i64>,
    /// With a greater id.
    pub after: i64,
    /// With this id or a smaller one.
    pub through: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// An event that a handler could not handle.
#[derive(Debug, Clone, Serialize)]
pub struct Letter {
    /// Names it; grows.
    pub id: i64,
    /// Whose it is.
    pub plugin: String,
    /// The event's.
    pub seq: u64,
    /// Stable: `reject`, `retry`, or a fault's code.
    pub code: String,
    /// For people.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What the plugin called its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The hash of its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// When.
    #[serde(serialize_with = "write_time")]
    pub died_at: DateTime<Utc>,
    /// The event, as JSON.
    pub event: Box<RawValue>,
}

/// Dead letters in a row.
#[derive(Debug, Default)]
pub struct Letters {
    /// The oldest first.
    pub letters: Vec<Letter>,
    /// There may be more after the last of them.
    pub more: bool,
}

/// Which dead letter, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The letter's.
    pub id: i64,
    /// The plugin's name.
    pub plugin: Arc<str>,
}

/// Most bytes of events of one list, but for one letter.
const LIST_BYTES: usize = 4 << 20;
/// Most bytes of events of what is replayed or thrown away in one transaction, but for one letter.
const STEP_BYTES: usize = 8 << 20;

const WHICH: &str = "id > ?1 AND (?2 IS NULL OR plugin = ?2) AND (?3 IS NULL OR code = ?3) AND (?4 IS NULL OR died_ms >= ?4)
                     AND (?5 IS NULL OR died_ms < ?5) AND (?6 IS NULL OR id = ?6) AND (?7 IS NULL OR id <= ?7) ORDER BY id LIMIT ?8";

fn write_time<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Reads rows until `take` has had enough, says that, or there are none.
fn each(
    connection: &Connection,
    columns: &str,
    select: &Select,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!("SELECT {columns} FROM dead_letters WHERE {WHICH}"))?;
    let mut rows = statement.query(params![
        select.after,
        select.plugin,
        select.code,
        select.since_ms,
        select.until_ms,
        select.id,
        select.through,
        i64::try_from(select.limit).unwrap_or(i64::MAX)
    ])?;
    while let Some(row) = rows.next()? {
        if !take(row)? {
            break;
        }
    }
    Ok(())
}

/// See [`super::Journal::letters`].
pub(super) fn list(connection: &Connection, select: &Select) -> rusqlite::Result<Letters> {
    let columns = "id, plugin, seq, code, message, attempts, version, sha256, died_ms, event";
    let (mut letters, mut bytes, mut cut) = (Vec::new(), 0, false);
    each(connection, columns, select, |row| {
        bytes += row.get_ref(9)?.as_str().map_or(0, str::len);
        cut = bytes > LIST_BYTES && !letters.is_empty();
        if !cut {
            letters.push(letter(row)?);
        }
        Ok(!cut)
    })?;
    let more = cut || letters.len() >= select.limit;
    Ok(Letters { letters, more })
}

fn letter(row: &Row<'_>) -> rusqlite::Result<Letter> {
    let event: String = row.get(9)?;
    Ok(Letter {
        id: row.get(0)?,
        plugin: row.get(1)?,
        seq: row.get::<_, i64>(2)? as u64,
        code: row.get(3)?,
        message: row.get(4)?,
        attempts: row.get(5)?,
        version: row.get(6)?,
        sha256: row.get(7)?,
        died_at: DateTime::from_timestamp_millis(row.get(8)?).unwrap_or_default(),
        // Damaged: shown as the text it is.
        event: RawValue::from_string(event.clone())
            .or_else(|_| serde_json::value::to_raw_value(&event))
            .unwrap_or_default(),
    })
}

/// See [`super::Journal::letter_owners`].
pub(super) fn owners(connection: &Connection, select: &Select) -> rusqlite::Result<Vec<Owner>> {
    let (mut owners, mut bytes) = (Vec::new(), 0);
    each(connection, "id, plugin, octet_length(event)", select, |row| {
        bytes += usize::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
        let more = bytes <= STEP_BYTES || owners.is_empty();
        if more {
            owners.push(Owner { id: row.get(0)?, plugin: row.get(1)? });
        }
        Ok(more)
    })?;
    Ok(owners)
}

/// See [`super::Journal::newest_letter`].
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT ifnull(max(id), 0) FROM dead_letters")?.query_row([], |row| row.get(0))
}

/// What only the hub writes of an event, as its JSON form has it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct KeptMetadata {
    #[serde(default)]
    hops: u32,
    #[serde(default)]
    chain: Vec<u64>,
}

impl KeptMetadata {
    /// Puts it into `event`, whose seq is known. What came of events from before there were chains
    /// has gone through more hops than its chain knows of.
    pub(super) fn give_to(self, event: &mut Event) -> Result<(), String> {
        let Self { hops, chain } = self;
        let is_whole = chain.len() as u64 <= u64::from(hops)
            && chain.is_sorted_by(|one, next| one < next)
            && chain.last().is_none_or(|last| *last < event.seq);
        if !is_whole {
            return Err(format!("{} seqs with {hops} hops before seq {}", chain.len(), event.seq));
        }
        (event.metadata.hops, event.metadata.chain) = (hops, chain);
        Ok(())
    }
}

/// The event of a dead letter as it was: also what publishers cannot set.
pub(super) fn parse(text: &str, seq: u64) -> Option<Arc<Event>> {
    #[derive(Deserialize)]
    struct Kept {
        metadata: KeptMetadata,
    }
    let mut event = NewEvent::from_json(text).ok()?.admit().ok()?;
    event.seq = seq;
    serde_json::from_str::<Kept>(text).ok()?.metadata.give_to(&mut event).ok()?;
    Some(Arc::new(event))
}
