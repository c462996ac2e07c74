//! What a plugin says of itself, checked. A description is a stranger's text: it is bounded, and what does not hold is
//! refused with the field, what was expected and what was found.

use super::bindings::filter::exports::busway::plugin::filter::Description as FilterDescription;
use super::bindings::handler::exports::busway::plugin::handler::Description as HandlerDescription;
use super::convert;
use super::grants::{Asked, Capability};
use super::manifest::{Isolation, OrderBy};
use super::schema::Schema;
use super::{Kind, Name};
use crate::event::{EventFilter, filter};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Most entries of any of its lists.
const MAX_ENTRIES: usize = 256;
/// The hint with a handler's schema of its settings.
const CONFIG_SCHEMA: &str = "config-schema";
/// Most bytes of the globs that it emits: those of two versions are compared with one another at an
/// update.
const MAX_EMITS_BYTES: usize = 16 << 10;
const MAX_VERSION_BYTES: usize = 64;
const MAX_SUMMARY_BYTES: usize = 500;

/// What a plugin says of itself.
#[derive(Debug)]
pub struct Description {
    /// What it exports.
    pub kind: Kind,
    /// Semantic version.
    pub version: String,
    /// One line.
    pub summary: String,
    /// Any of these matches; a filter has none.
    pub subscriptions: Vec<EventFilter>,
    /// What it asks for, also by its imports, and the types it says it emits.
    pub asked: Asked,
    /// Its wish.
    pub isolation: Option<Isolation>,
    /// Its wish.
    pub order_by: Option<OrderBy>,
    /// A URL.
    pub homepage: Option<String>,
    /// What is odd, but no reason to refuse it.
    pub warnings: Vec<String>,
    pub(super) params_schema: Option<Arc<Schema>>,
    pub(super) config_schema: Option<Arc<Schema>>,
}

impl Description {
    /// The text of a handler's schema. That there is only one is looked at by
    /// [`Description::of_handler`].
    pub(super) fn config_schema_of(hints: &[(String, String)]) -> Option<&str> {
        hints.iter().find(|(name, _)| name == CONFIG_SCHEMA).map(|(_, schema)| schema.as_str())
    }

    pub(super) fn of_handler(name: &Name, said: HandlerDescription) -> Result<Self, String> {
        let mut checked = Self::new(Kind::Handler, name, said.name, said.version, said.summary)?;
        bounded("subscriptions", said.subscriptions.len())?;
        bounded("emits", said.emits.len())?;
        // None at all means every event.
        checked.subscriptions = match said.subscriptions.len() {
            0 => vec![EventFilter::all()],
            _ => said
                .subscriptions
                .into_iter()
                .map(convert::subscription)
                .collect::<Result<_, _>>()
                .map_err(|problem| format!("subscriptions: {problem}"))?,
        };
        filter::check_subscriptions(&checked.subscriptions).map_err(|problem| format!("subscriptions: {problem}"))?;
        let bytes: usize = said.emits.iter().map(String::len).sum();
        if bytes > MAX_EMITS_BYTES {
            return Err(format!("emits: expected at most {MAX_EMITS_BYTES} bytes in all, found {bytes}"));
        }
        for glob in said.emits {
            let glob = glob.parse().map_err(|error| format!("emits: {error}"))?;
            checked.asked.emits.push(glob);
        }
        for capability in said.capabilities {
            let Some(asked) = Capability::described(&capability) else {
                let found = shown(&capability);
                return Err(format!("capabilities: expected `publish`, `kv` or `config`, found {found}"));
            };
            checked.asked.capabilities.insert(asked);
        }
        if checked.asked.capabilities.contains(&Capability::Publish) && checked.asked.emits.is_empty() {
            checked
                .warnings
                .push("asks for `publish` but says that it emits nothing: all it publishes is denied".into());
        }
        checked.read_hints(said.hints)?;
        Ok(checked)
    }

    pub(super) fn of_filter(name: &Name, said: FilterDescription) -> Result<Self, String> {
        let mut checked = Self::new(Kind::Filter, name, said.name, said.version, said.summary)?;
        if let Some(schema) = said.params_schema {
            let schema = Schema::compile(&schema).map_err(|problem| format!("params-schema: {problem}"))?;
            checked.params_schema = Some(Arc::new(schema));
        }
        checked.read_hints(said.hints)?;
        Ok(checked)
    }

    fn new(kind: Kind, name: &Name, said: String, version: String, summary: String) -> Result<Self, String> {
        let mut warnings = Vec::new();
        if said != name.as_str() {
            warnings.push(format!("calls itself {}; the name of the file is what counts", shown(&said)));
        }
        if version.len() > MAX_VERSION_BYTES || !is_semantic(&version) {
            return Err(format!("version: expected a semantic version such as 1.4.0, found {}", shown(&version)));
        }
        if summary.is_empty() || summary.len() > MAX_SUMMARY_BYTES || summary.chars().any(char::is_control) {
            return Err(format!(
                "summary: expected one line of 1 to {MAX_SUMMARY_BYTES} bytes, found {}",
                shown(&summary)
            ));
        }
        Ok(Self {
            kind,
            version,
            summary,
            subscriptions: Vec::new(),
            asked: Asked::default(),
            isolation: None,
            order_by: None,
            homepage: None,
            warnings,
            params_schema: None,
            config_schema: None,
        })
    }

    fn read_hints(&mut self, hints: Vec<(String, String)>) -> Result<(), String> {
        bounded("hints", hints.len())?;
        for (name, value) in hints {
            let problem = |problem: String| format!("hints: {name}: {problem}");
            match (name.as_str(), self.kind) {
                ("isolation", _) => self.isolation = Some(wish(&value).map_err(problem)?),
                ("order-by", Kind::Handler) => self.order_by = Some(wish(&value).map_err(problem)?),
                (CONFIG_SCHEMA, Kind::Handler) if self.config_schema.is_some() => {
                    return Err(problem("expected at most one, found another".into()));
                }
                (CONFIG_SCHEMA, Kind::Handler) => {
                    self.config_schema = Some(Arc::new(Schema::compile(&value).map_err(problem)?));
                }
                ("homepage", _) => {
                    let url: String = wish(&value).map_err(problem)?;
                    let plain = url.len() <= MAX_SUMMARY_BYTES && !url.chars().any(char::is_control);
                    let web = url.starts_with("https://") || url.starts_with("http://");
                    if !(plain && web) {
                        return Err(format!("hints: homepage: expected a URL, found {}", shown(&url)));
                    }
                    self.homepage = Some(url);
                }
                _ => self.warnings.push(format!("unknown hint {}", shown(&name))),
            }
        }
        Ok(())
    }
}

fn bounded(field: &str, entries: usize) -> Result<(), String> {
    if entries <= MAX_ENTRIES {
        Ok(())
    } else {
        Err(format!("{field}: expected at most {MAX_ENTRIES}, found {entries}"))
    }
}

fn wish<T: DeserializeOwned>(value: &str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|error| format!("{error}, in the JSON {}", shown(value)))
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

/// `1.2.3`, perhaps followed by `-pre.1` and `+build` (Semantic Versioning 2.0.0).
fn is_semantic(version: &str) -> bool {
    let (version, build) = version.split_once('+').unwrap_or((version, "0"));
    let (core, pre) = version.split_once('-').unwrap_or((version, "0"));
    let number = |part: &str| part.parse::<u64>().is_ok() && (part == "0" || !part.starts_with(['0', '+']));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    core.split('.').count() == 3 && core.split('.').all(number) && pre.split('.').chain(build.split('.')).all(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::bindings::handler::busway::plugin::types::Subscription;

    #[test]
    fn versions_are_semantic() {
        for good in ["0.1.0", "1.22.333", "1.0.0-alpha.1", "1.0.0+5114f85", "1.0.0-rc.1+x-y"] {
            assert!(is_semantic(good), "{good}");
        }
        for bad in ["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.-1", "1.0.+1", "1.0.0-", "1.0.0+a b"] {
            assert!(!is_semantic(bad), "{bad}");
        }
    }

    fn handler(change: impl FnOnce(&mut HandlerDescription)) -> Result<Description, String> {
        let mut said = HandlerDescription {
            name: "x".into(),
            version: "1.0.0".into(),
            summary: "Does it".into(),
            subscriptions: vec![],
            emits: vec!["task.*".into()],
            capabilities: vec!["publish".into()],
            hints: vec![],
        };
        change(&mut said);
        Description::of_handler(&"x".parse().unwrap(), said)
    }

    #[test]
    fn what_is_known_is_read_and_what_is_odd_is_told() {
        let checked = handler(|said| {
            said.name = "y".into();
            let hints = [("isolation", "\"reuse\""), ("order-by", "\"correlation_id\""), ("colour", "1")];
            said.hints = hints.map(|(name, value)| (name.into(), value.into())).to_vec();
        })
        .unwrap();
        assert_eq!((checked.isolation, checked.order_by), (Some(Isolation::Reuse), Some(OrderBy::CorrelationId)));
        assert_eq!(checked.subscriptions, [EventFilter::all()]);
        let [name, hint] = &checked.warnings[..] else { panic!("{:?}", checked.warnings) };
        assert!(name.contains("calls itself \"y\"") && hint == "unknown hint \"colour\"");
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut HandlerDescription), text: &str) {
        let error = handler(change).expect_err("should be refused");
        assert!(error.contains(text), "{error}");
    }

    fn subscription(types: Vec<String>) -> Subscription {
        Subscription { event_types: types, source_patterns: vec![], required_tags: vec![], excluded_tags: vec![] }
    }

    #[test]
    fn subscriptions_that_would_take_much_work_for_each_event_are_refused() {
        let globs = |from: usize| (from..from + 256).map(|index| format!("*{}{index:05}", "?".repeat(50))).collect();
        assert!(handler(|said| said.subscriptions = vec![subscription(globs(0))]).is_ok());
        refused(
            |said| said.subscriptions = (0..256).map(|index| subscription(globs(256 * index))).collect(),
            "subscriptions: expected at most 2048 entries in all, found 65536",
        );
        refused(
            |said| said.subscriptions = vec![subscription(globs(0)), subscription(globs(256))],
            "in all, found 512",
        );
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        refused(
            |said| said.version = "one".into(),
            "version: expected a semantic version such as 1.4.0, found \"one\"",
        );
        refused(|said| said.summary = "a\nb".into(), "summary: expected one line");
        refused(|said| said.capabilities.push("files".into()), "found \"files\"");
        refused(|said| said.emits.push(String::new()), "emits: expected a pattern");
        refused(|said| said.emits = vec!["x".into(); 257], "emits: expected at most 256, found 257");
        refused(
            |said| said.emits = vec!["x".repeat(200); 100],
            "emits: expected at most 16384 bytes in all, found 20000",
        );
        refused(|said| said.hints.push(("isolation".into(), "\"hard\"".into())), "unknown variant `hard`");
        refused(|said| said.hints.push(("config-schema".into(), "{\"type\":5}".into())), "config-schema");
        let twice = |said: &mut HandlerDescription| said.hints = vec![("config-schema".into(), "{}".into()); 2];
        refused(twice, "hints: config-schema: expected at most one");
        refused(|said| said.hints.push(("homepage".into(), "\"javascript:x\"".into())), "homepage: expected a URL");
    }
}
