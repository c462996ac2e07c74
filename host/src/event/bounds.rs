//! Checks names, tags and extensions: each error names the field, what was expected and what was found.

use super::{
    EventError, Extensions, MAX_DATA_BYTES, MAX_EXTENSION_NAME_BYTES, MAX_EXTENSIONS, MAX_NAME_BYTES, MAX_TAG_BYTES,
    MAX_TAGS, json,
};

pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

pub(super) fn name(code: &'static str, field: &str, value: Option<&str>) -> Result<(), EventError> {
    let Some(value) = value else { return Ok(()) };
    let expected = || format!("1 to {MAX_NAME_BYTES} bytes without control characters");
    if value.is_empty() || value.len() > MAX_NAME_BYTES {
        return Err(EventError::new(code, field, expected(), format!("{} bytes", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(EventError::new(code, field, expected(), quote(value)));
    }
    Ok(())
}

pub(super) fn tags(mut tags: Vec<String>) -> Result<Vec<String>, EventError> {
    if tags.len() > MAX_TAGS {
        return Err(EventError::new(
            "event.tags",
            "metadata.tags",
            format!("at most {MAX_TAGS} tags"),
            tags.len().to_string(),
        ));
    }
    for (index, tag) in tags.iter().enumerate() {
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES || tag.chars().any(char::is_control) {
            let expected = format!("1 to {MAX_TAG_BYTES} bytes without control characters");
            return Err(EventError::new("event.tags", format!("metadata.tags[{index}]"), expected, quote(tag)));
        }
    }
    // In place: most events repeat no tag, and then nothing moves.
    let mut index = 1;
    while index < tags.len() {
        if tags[..index].contains(&tags[index]) { drop(tags.remove(index)) } else { index += 1 }
    }
    Ok(tags)
}

pub(super) fn extensions(extensions: Extensions) -> Result<Extensions, EventError> {
    const CODE: &str = "event.extensions";
    const FIELD: &str = "metadata.extensions";
    if extensions.len() > MAX_EXTENSIONS {
        return Err(EventError::new(CODE, FIELD, format!("at most {MAX_EXTENSIONS}"), extensions.len().to_string()));
    }
    let mut bytes = 0;
    let mut kept = Extensions::new();
    for (name, value) in extensions {
        let known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || name.len() > MAX_EXTENSION_NAME_BYTES || !name.chars().all(known) {
            let expected = format!("names of 1 to {MAX_EXTENSION_NAME_BYTES} of [a-zA-Z0-9_.-]");
            return Err(EventError::new(CODE, FIELD, expected, quote(&name)));
        }
        let value = json::check(CODE, &format!("{FIELD}.{name}"), value)?;
        bytes += value.get().len();
        kept.insert(name, value);
    }
    if bytes > MAX_DATA_BYTES {
        return Err(EventError::new(
            CODE,
            FIELD,
            format!("at most {MAX_DATA_BYTES} bytes in sum"),
            format!("{bytes} bytes"),
        ));
    }
    Ok(kept)
}
