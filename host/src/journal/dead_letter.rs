//! Dead letters as they are read: by plugin, code and time, a page at a time.

use crate::event::{Event, NewEvent};
use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{Connection, params};
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

fn write_time<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

pub(super) fn list(connection: &Connection, select: &Select) -> rusqlite::Result<Vec<Letter>> {
    let sql = "SELECT id, plugin, seq, code, message, attempts, version, sha256, died_ms, event FROM dead_letters
               WHERE id > ?1 AND (?2 IS NULL OR plugin = ?2) AND (?3 IS NULL OR code = ?3) AND (?4 IS NULL OR died_ms >= ?4)
               AND (?5 IS NULL OR died_ms < ?5) AND (?6 IS NULL OR id = ?6) ORDER BY id LIMIT ?7";
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![
        select.after,
        select.plugin,
        select.code,
        select.since_ms,
        select.until_ms,
        select.id,
        i64::try_from(select.limit).unwrap_or(i64::MAX)
    ];
    let rows = statement.query_map(values, |row| {
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
    })?;
    rows.collect()
}

/// The event of a dead letter as it was: also what publishers cannot set.
pub(super) fn parse(text: &str, seq: u64) -> Option<Arc<Event>> {
    #[derive(Deserialize)]
    struct Kept {
        metadata: KeptMetadata,
    }
    #[derive(Deserialize)]
    struct KeptMetadata {
        hops: u32,
    }
    let mut event = NewEvent::from_json(text).ok()?.admit().ok()?;
    event.seq = seq;
    event.metadata.hops = serde_json::from_str::<Kept>(text).ok()?.metadata.hops;
    Some(Arc::new(event))
}
