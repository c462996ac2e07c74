//! A handler that sums up GitHub webhooks: an event `github.<name>` whose data is the payload becomes a `github.digest` with
//! one line for people. Which parts of a payload it takes stands in `digest.rs`.

mod digest;

use busway_plugin::{Delivery, Description, Event, Handler, NewEvent, Result, Subscription, publish};
use digest::Digest;

struct GithubDigest;

impl Handler for GithubDigest {
    fn describe(about: Description) -> Description {
        // Its own events match the glob too; the tag tells them apart.
        about.subscribe(Subscription::to(["github.*"]).without_tag("digest")).emits("github.digest")
    }

    fn handle(event: Event, _: Delivery) -> Result {
        let name = event.event_type.trim_start_matches("github.");
        let payload = event.json()?;
        let digest = Digest::of(name, &payload);
        publish(NewEvent::new("github.digest").data(&digest)?.tag("digest"))?;
        Ok(())
    }
}

busway_plugin::handler!(GithubDigest);

#[cfg(test)]
mod tests {
    use super::*;
    use busway_plugin::serde_json::json;
    use busway_plugin::testing::TestHost;

    #[test]
    fn a_webhook_becomes_a_tagged_digest() {
        let payload =
            json!({ "action": "created", "sender": { "login": "ann" }, "repository": { "full_name": "a/b" } });
        let out = TestHost::new().handle::<GithubDigest>(Event::new("github.star", payload)).expect("handled");
        assert_eq!(
            (out[0].event_type.as_str(), out[0].tags.as_slice()),
            ("github.digest", ["digest".to_string()].as_slice())
        );
        let expected =
            json!({ "event": "star", "action": "created", "repo": "a/b", "actor": "ann", "text": "ann starred a/b" });
        assert_eq!(out[0].json().expect("JSON"), expected);
    }
}
