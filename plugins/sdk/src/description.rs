//! What a plugin says about itself: the builders that [`Handler::describe`](crate::Handler::describe) and
//! [`Filter::describe`](crate::Filter::describe) fill in. Pure.

use crate::bindings::filter::exports::busway::plugin::filter as wit_filter;
use crate::bindings::handler::exports::busway::plugin::handler as wit_handler;
use serde_json::Value;

pub use crate::bindings::handler::busway::plugin::types::Subscription;

/// What Cargo knows of the plugin's crate.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    pub description: &'static str,
    pub homepage: &'static str,
}

/// What a handler is and wants. Name, version, summary and homepage come from its `Cargo.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description(wit_handler::Description);

impl Description {
    pub(crate) fn of(package: Package) -> Self {
        Self(wit_handler::Description {
            name: package.name.into(),
            version: package.version.into(),
            summary: package.description.into(),
            subscriptions: Vec::new(),
            emits: Vec::new(),
            capabilities: Vec::new(),
            hints: homepage(package),
        })
    }

    /// Adds a subscription: a glob of event types, an array of them, or a [`Subscription`]. The handler gets what any of them
    /// matches; without any, every event.
    pub fn subscribe(mut self, to: impl Into<Subscription>) -> Self {
        self.0.subscriptions.push(to.into());
        self
    }

    /// Adds a glob of the event types that it emits, and asks for [`Capability::Publish`]. Publishing any other type is denied.
    pub fn emits(mut self, glob: impl Into<String>) -> Self {
        self.0.emits.push(glob.into());
        self.uses(Capability::Publish)
    }

    /// Asks for a capability. The operator grants.
    pub fn uses(mut self, capability: Capability) -> Self {
        let name = capability.name().to_string();
        if !self.0.capabilities.contains(&name) {
            self.0.capabilities.push(name);
        }
        self
    }

    /// One line on what it does, in place of the crate's description.
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.0.summary = summary.into();
        self
    }

    /// Wishes for an order; the host's default needs none to be kept.
    pub fn order_by(self, order: OrderBy) -> Self {
        self.hint("order-by", order.name().into())
    }

    /// Wishes for new or kept instances.
    pub fn isolation(self, isolation: Isolation) -> Self {
        self.hint("isolation", isolation.name().into())
    }

    /// The JSON Schema of its settings, and asks for [`Capability::Config`].
    pub fn config_schema(self, schema: Value) -> Self {
        self.hint("config-schema", schema).uses(Capability::Config)
    }

    /// Any other wish. One that the host does not know is reported, not refused.
    pub fn hint(mut self, name: impl Into<String>, value: Value) -> Self {
        self.0.hints.push((name.into(), value.to_string()));
        self
    }

    pub(crate) fn into_wit(self) -> wit_handler::Description {
        self.0
    }
}

/// What a filter is. Name, version, summary and homepage come from its `Cargo.toml`.
#[derive(Clone, Debug)]
pub struct FilterDescription(wit_filter::Description);

impl FilterDescription {
    pub(crate) fn of(package: Package, params_schema: &str) -> Self {
        Self(wit_filter::Description {
            name: package.name.into(),
            version: package.version.into(),
            summary: package.description.into(),
            params_schema: (!params_schema.is_empty()).then(|| params_schema.into()),
            hints: homepage(package),
        })
    }

    /// One line on what it lets through, in place of the crate's description.
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.0.summary = summary.into();
        self
    }

    /// Wishes for new or kept instances.
    pub fn isolation(self, isolation: Isolation) -> Self {
        self.hint("isolation", isolation.name().into())
    }

    /// Any other wish. One that the host does not know is reported, not refused.
    pub fn hint(mut self, name: impl Into<String>, value: Value) -> Self {
        self.0.hints.push((name.into(), value.to_string()));
        self
    }

    pub(crate) fn into_wit(self) -> wit_filter::Description {
        self.0
    }
}

/// What a handler may ask for. `log` needs no asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// [`publish`](crate::publish): new events. Asked for by [`Description::emits`].
    Publish,
    /// [`kv`](crate::kv): memory that outlives the call.
    Kv,
    /// [`config`](crate::config): settings from the operator.
    Config,
}

impl Capability {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Kv => "kv",
            Self::Config => "config",
        }
    }
}

/// The order in which a handler wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBy {
    /// One call at a time, in the order of the log.
    Seq,
    /// In order among the events with the same correlation id; others meanwhile.
    CorrelationId,
    /// In order among the events with the same source; others meanwhile.
    Source,
}

impl OrderBy {
    fn name(self) -> &'static str {
        match self {
            Self::Seq => "seq",
            Self::CorrelationId => "correlation_id",
            Self::Source => "source",
        }
    }
}

/// How much one call may leave behind for the next in the plugin's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A new instance for each call: nothing leaks from event to event. The default, and cheap for Rust.
    Fresh,
    /// Instances are kept: statics outlive the call, until the host recycles the instance.
    Reuse,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Reuse => "reuse",
        }
    }
}

impl Subscription {
    /// Events whose type matches any of the globs (`*` any run of characters, `?` one); without globs, of every type.
    ///
    /// ```
    /// # use busway_plugin::Subscription;
    /// let calm = Subscription::to(["task.*", "agent.error"]).from_source("executor-*").without_tag("test");
    /// ```
    pub fn to<T: Into<String>>(globs: impl IntoIterator<Item = T>) -> Self {
        Self {
            event_types: globs.into_iter().map(Into::into).collect(),
            source_patterns: Vec::new(),
            required_tags: Vec::new(),
            excluded_tags: Vec::new(),
        }
    }

    /// And whose source matches this glob (or another one given so). An event without a source does not.
    pub fn from_source(mut self, glob: impl Into<String>) -> Self {
        self.source_patterns.push(glob.into());
        self
    }

    /// And that have this tag.
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.required_tags.push(tag.into());
        self
    }

    /// And that do not have this tag.
    pub fn without_tag(mut self, tag: impl Into<String>) -> Self {
        self.excluded_tags.push(tag.into());
        self
    }
}

impl From<&str> for Subscription {
    fn from(glob: &str) -> Self {
        Self::to([glob])
    }
}

impl<const N: usize> From<[&str; N]> for Subscription {
    fn from(globs: [&str; N]) -> Self {
        Self::to(globs)
    }
}

fn homepage(package: Package) -> Vec<(String, String)> {
    match package.homepage {
        "" => Vec::new(),
        url => vec![("homepage".into(), Value::from(url).to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PACKAGE: Package = Package { name: "n", version: "1.2.3", description: "Does", homepage: "https://x.io" };

    #[test]
    fn a_description_begins_with_what_cargo_knows() {
        let about = Description::of(PACKAGE).into_wit();
        assert_eq!((about.name.as_str(), about.version.as_str(), about.summary.as_str()), ("n", "1.2.3", "Does"));
        assert_eq!(about.hints, [("homepage".to_string(), r#""https://x.io""#.to_string())]);
    }

    #[test]
    fn what_emits_asks_for_publish_once() {
        let about = Description::of(PACKAGE).emits("a").emits("b.*").uses(Capability::Kv).into_wit();
        assert_eq!(about.emits, ["a", "b.*"]);
        assert_eq!(about.capabilities, ["publish", "kv"]);
    }

    #[test]
    fn hints_are_json() {
        let package = Package { homepage: "", ..PACKAGE };
        let about = Description::of(package)
            .order_by(OrderBy::CorrelationId)
            .isolation(Isolation::Reuse)
            .config_schema(json!({ "type": "object" }))
            .into_wit();
        let hints: Vec<_> = about.hints.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("order-by", r#""correlation_id""#),
            ("isolation", r#""reuse""#),
            ("config-schema", r#"{"type":"object"}"#),
        ];
        assert_eq!(hints, expected);
        assert_eq!(about.capabilities, ["config"]);
    }

    #[test]
    fn a_filter_without_a_schema_takes_no_parameters() {
        assert_eq!(FilterDescription::of(PACKAGE, "").into_wit().params_schema, None);
        assert_eq!(FilterDescription::of(PACKAGE, "{}").into_wit().params_schema.as_deref(), Some("{}"));
    }
}
