//! An event as a row, and back. Each row carries a checksum: SQLite itself notices damage to its structure, not to a text.

use crate::event::{Event, Extensions, Metadata};
use chrono::DateTime;
use crc32fast::Hasher;
use rusqlite::{Connection, Row, Statement, types::ValueRef};
use serde_json::value::RawValue;
use std::sync::Arc;

/// The columns in the order in which [`read`] takes them.
pub(super) const COLUMNS: &str =
    "seq, type, event_id, source, correlation_id, causation_id, time_us, hops, tags, extensions, data, crc, chain";

const INSERT: &str = "INSERT INTO events (seq, type, event_id, source, correlation_id, causation_id, time_us, hops, tags, \
                      extensions, data, crc, chain, received_ms) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// Writes events, in order.
pub(super) fn insert(connection: &Connection, events: &[Arc<Event>], received_ms: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(INSERT)?;
    for event in events {
        bind(&mut statement, event)?;
        statement.raw_bind_parameter(14, received_ms)?;
        statement.raw_execute()?;
    }
    Ok(())
}

fn bind(statement: &mut Statement<'_>, event: &Event) -> rusqlite::Result<()> {
    let meta = &event.metadata;
    // Strings and raw JSON cannot fail to serialise.
    let tags = (!meta.tags.is_empty()).then(|| serde_json::to_string(&meta.tags).unwrap_or_default());
    let extensions = (!meta.extensions.is_empty()).then(|| serde_json::to_string(&meta.extensions).unwrap_or_default());
    let chain = (!meta.chain.is_empty()).then(|| serde_json::to_string(&meta.chain).unwrap_or_default());
    let texts = [
        Some(event.event_type.as_str()),
        Some(&meta.event_id),
        meta.source.as_deref(),
        meta.correlation_id.as_deref(),
        meta.causation_id.as_deref(),
        tags.as_deref(),
        extensions.as_deref(),
        Some(event.data.get()),
    ];
    let numbers = [event.seq as i64, meta.timestamp.timestamp_micros(), i64::from(meta.hops)];
    let [event_type, event_id, source, correlation_id, causation_id, tags, extensions, data] = texts;
    statement.raw_bind_parameter(1, numbers[0])?;
    statement.raw_bind_parameter(2, event_type)?;
    statement.raw_bind_parameter(3, event_id)?;
    statement.raw_bind_parameter(4, source)?;
    statement.raw_bind_parameter(5, correlation_id)?;
    statement.raw_bind_parameter(6, causation_id)?;
    statement.raw_bind_parameter(7, numbers[1])?;
    statement.raw_bind_parameter(8, numbers[2])?;
    statement.raw_bind_parameter(9, tags)?;
    statement.raw_bind_parameter(10, extensions)?;
    statement.raw_bind_parameter(11, data)?;
    statement.raw_bind_parameter(12, checksum(numbers, texts, chain.as_deref()))?;
    statement.raw_bind_parameter(13, chain)
}

/// Over the numbers, then each text with its length before it, so that no two rows run together; a null counts as none.
/// A chain that is null is left out: rows from before there were chains have none, and no checksum of it.
fn checksum(numbers: [i64; 3], texts: [Option<&str>; 8], chain: Option<&str>) -> i64 {
    let mut hasher = Hasher::new();
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    for text in texts.into_iter().chain(chain.map(Some)) {
        let length = text.map_or(u64::MAX, |text| text.len() as u64);
        hasher.update(&length.to_le_bytes());
        hasher.update(text.unwrap_or_default().as_bytes());
    }
    hasher.finalize().into()
}

/// What a row holds; `None` if it is not what was written.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let number = |index| row.get_ref(index).map(|value| value.as_i64().ok());
    let numbers = (number(0)?, number(6)?, number(7)?);
    let (Some(seq), Some(time_us), Some(hops)) = numbers else { return Ok(None) };
    let (mut texts, mut chain) = ([None; 8], None);
    for (text, index) in texts.iter_mut().chain([&mut chain]).zip([1, 2, 3, 4, 5, 8, 9, 10, 12]) {
        *text = match row.get_ref(index)? {
            ValueRef::Null => None,
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(text),
                Err(_) => return Ok(None),
            },
            _ => return Ok(None),
        };
    }
    if number(11)? != Some(checksum([seq, time_us, hops], texts, chain)) {
        return Ok(None);
    }
    Ok(assemble(seq, time_us, hops, texts, chain))
}

fn assemble(seq: i64, time_us: i64, hops: i64, texts: [Option<&str>; 8], chain: Option<&str>) -> Option<Event> {
    let [event_type, event_id, source, correlation_id, causation_id, tags, extensions, data] = texts;
    let extensions: Extensions = match extensions {
        Some(text) => serde_json::from_str(text).ok()?,
        None => Extensions::new(),
    };
    Some(Event {
        seq: seq.try_into().ok()?,
        event_type: event_type?.to_owned(),
        data: RawValue::from_string(data?.to_owned()).ok()?,
        metadata: Metadata {
            event_id: event_id?.into(),
            timestamp: DateTime::from_timestamp_micros(time_us)?,
            correlation_id: correlation_id.map(Arc::from),
            source: source.map(Arc::from),
            tags: tags.map_or(Some(Vec::new()), |text| serde_json::from_str(text).ok())?,
            causation_id: causation_id.map(Arc::from),
            hops: hops.try_into().ok()?,
            chain: chain.map_or(Some(Vec::new()), |text| serde_json::from_str(text).ok())?,
            extensions,
        },
    })
}
