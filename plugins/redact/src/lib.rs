//! A handler that publishes log entries again with their secrets masked: `log.entry` becomes `log.entry.redacted`. Let those who
//! may not see secrets subscribe to `*.redacted` only.
//!
//! It takes `log.entry`; for other types the operator overrides the subscription. What counts as a
//! secret stands in `mask.rs`. Everything else of the data stays as it was published, numbers to
//! the digit. It logs nothing, and its failures never quote the data.

mod json;
mod mask;

use busway_plugin::serde_json::json;
use busway_plugin::{
    Capability, Delivery, Description, Event, Handler, NewEvent, Result, Subscription, config, publish,
};
use mask::Mask;

struct Redact;

impl Handler for Redact {
    fn describe(about: Description) -> Description {
        about
            .subscribe(Subscription::to(["log.entry"]).without_tag("redacted"))
            .emits("*.redacted")
            .uses(Capability::Config)
            .config_schema(json!({
                "type": "object",
                "properties": {
                    "keys": { "type": "string", "description": "more names of values to mask, with commas between" },
                },
            }))
    }

    fn handle(event: Event, _: Delivery) -> Result {
        // An operator's subscription may be wider than ours: never redact twice.
        if event.event_type.ends_with(".redacted") {
            return Ok(());
        }
        let mask = Mask::with_keys(&config::get("keys").unwrap_or_default());
        let redacted = NewEvent::new(format!("{}.redacted", event.event_type))
            .text(json::masked(&mask, event.text()))
            .tags(event.metadata.tags.iter().map(|tag| mask.text(tag)))
            .tag("redacted");
        publish(redacted)?;
        Ok(())
    }
}

busway_plugin::handler!(Redact);

#[cfg(test)]
mod tests {
    use super::*;
    use busway_plugin::testing::TestHost;

    #[test]
    fn a_log_entry_comes_out_without_its_secrets() {
        let mut entry =
            Event::new("log.entry", json!({ "message": "login of ann@example.org", "iban": "DE02 1203", "n": 1 }));
        entry.metadata.tags = vec!["auth".into()];
        let mut host = TestHost::new().config("keys", "session_id, iban");
        let out = host.handle::<Redact>(entry).expect("handled");
        assert_eq!(out[0].event_type, "log.entry.redacted");
        assert_eq!(
            out[0].json().expect("JSON"),
            json!({ "message": "login of [redacted]", "iban": "[redacted]", "n": 1 })
        );
        assert_eq!(out[0].tags, ["auth", "redacted"]);
        assert_eq!(host.logs(), []);
    }

    #[test]
    fn what_is_redacted_is_not_redacted_again() {
        assert_eq!(TestHost::new().handle::<Redact>(Event::new("log.entry.redacted", json!({}))), Ok(vec![]));
    }
}
