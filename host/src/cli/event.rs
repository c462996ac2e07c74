//! Events as the command line makes them: JSON text, built around the user's own without touching its numbers.

use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What the flags say about events besides their type and data.
#[derive(Debug, Default, Clone, clap::Args)]
pub(super) struct MetadataArgs {
    /// Who publishes it.
    #[arg(long)]
    pub(super) source: Option<String>,
    /// A tag; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    pub(super) tags: Vec<String>,
    /// Ties events that belong together.
    #[arg(long, value_name = "ID")]
    pub(super) correlation_id: Option<String>,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    data: &'a RawValue,
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
}

/// An event of `event_type` around `data`.
pub(super) fn around(event_type: &str, data: &RawValue, args: &MetadataArgs) -> serde_json::Result<String> {
    let metadata =
        Metadata { source: args.source.as_deref(), correlation_id: args.correlation_id.as_deref(), tags: &args.tags };
    serde_json::to_string(&Event { event_type, data, metadata })
}

/// An event that was given whole: the flags fill in a source and a correlation id where it has none, and add tags.
/// Anything that is not an object of the expected form goes to the hub as it is, which says what is wrong with it.
pub(super) fn complete(event: &RawValue, args: &MetadataArgs) -> serde_json::Result<String> {
    type Object = BTreeMap<String, Box<RawValue>>;
    let unchanged = || Ok(event.get().to_string());
    if args.source.is_none() && args.correlation_id.is_none() && args.tags.is_empty() {
        return unchanged();
    }
    let Ok(mut object) = serde_json::from_str::<Object>(event.get()) else { return unchanged() };
    let mut metadata = match object.get("metadata").map(|raw| serde_json::from_str::<Object>(raw.get())) {
        None => Object::new(),
        Some(Ok(metadata)) => metadata,
        Some(Err(_)) => return unchanged(),
    };
    for (name, value) in [("source", &args.source), ("correlation_id", &args.correlation_id)] {
        if let Some(value) = value
            && !metadata.contains_key(name)
        {
            metadata.insert(name.into(), serde_json::value::to_raw_value(value)?);
        }
    }
    if !args.tags.is_empty() {
        let mut tags = match metadata.get("tags").map(|raw| serde_json::from_str::<Vec<String>>(raw.get())) {
            None => Vec::new(),
            Some(Ok(tags)) => tags,
            Some(Err(_)) => return unchanged(),
        };
        tags.extend(args.tags.iter().cloned());
        metadata.insert("tags".into(), serde_json::value::to_raw_value(&tags)?);
    }
    object.insert("metadata".into(), serde_json::value::to_raw_value(&metadata)?);
    serde_json::to_string(&object)
}

/// Reads a flag's JSON, for clap.
///
/// # Errors
/// What is wrong with it, and the usual slip: a text without its quotes.
pub(super) fn json_flag(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error} (a text needs its quotes: '\"text\"')"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> MetadataArgs {
        MetadataArgs { source: Some("me".into()), tags: vec!["t".into()], correlation_id: None }
    }

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn data_keeps_its_text() {
        assert_eq!(
            around("a.b", &raw("[1.10, 12345678901234567890123]"), &args()).unwrap(),
            r#"{"type":"a.b","data":[1.10, 12345678901234567890123],"metadata":{"source":"me","tags":["t"]}}"#
        );
    }

    #[test]
    fn an_event_given_whole_is_left_alone_without_flags() {
        let event = r#"{ "type":"x", "data":1.10 }"#;
        assert_eq!(complete(&raw(event), &MetadataArgs::default()).unwrap(), event);
    }

    #[test]
    fn flags_fill_in_what_the_event_leaves_out_and_add_tags() {
        let filled = complete(&raw(r#"{"type":"x","data":1.10}"#), &args()).unwrap();
        assert_eq!(filled, r#"{"data":1.10,"metadata":{"source":"me","tags":["t"]},"type":"x"}"#);
        let kept = complete(&raw(r#"{"type":"x","metadata":{"source":"own","tags":["a"]}}"#), &args()).unwrap();
        assert_eq!(kept, r#"{"metadata":{"source":"own","tags":["a","t"]},"type":"x"}"#);
    }

    #[test]
    fn what_is_no_event_is_for_the_hub_to_refuse() {
        for text in ["7", "[]", r#"{"metadata":7}"#, r#"{"metadata":{"tags":7}}"#] {
            assert_eq!(complete(&raw(text), &args()).unwrap(), text);
        }
    }
}
