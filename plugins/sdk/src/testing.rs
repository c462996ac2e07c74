//! Runs a handler or a filter in a plain `cargo test`, without WebAssembly: the host's part is played by maps in memory.
//!
//! What a handler publishes comes back, what it writes to `kv` is there for the next call, and both are thrown away when it
//! fails. What it did not ask for in [`Handler::describe`] is refused, so a forgotten capability shows here.
//! Not played: the operator's grants, quotas, limits of time and fuel, subscriptions.
//!
//! ```
//! use busway_plugin::{Delivery, Description, Event, Handler, NewEvent, Result, publish, serde_json::json, testing::TestHost};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn describe(about: Description) -> Description {
//!         about.subscribe("ping").emits("pong")
//!     }
//!     fn handle(event: Event, _: Delivery) -> Result {
//!         publish(NewEvent::new("pong").text(event.text()))?;
//!         Ok(())
//!     }
//! }
//!
//! let out = TestHost::new().handle::<Echo>(Event::new("ping", json!({ "n": 1 })))?;
//! assert_eq!(out[0].json()?, json!({ "n": 1 }));
//! # Ok::<(), busway_plugin::Failure>(())
//! ```

use crate::bindings::handler::exports::busway::plugin::handler::Description as WitDescription;
use crate::description::Package;
use crate::log::Level;
use crate::{Delivery, Event, Failure, Filter, Handler, NewEvent};
use serde_json::Value;
use std::{cell::RefCell, collections::BTreeMap};

const PACKAGE: Package = Package { name: "test", version: "0.0.0", description: "", homepage: "" };

/// The hub, as far as one handler sees it.
#[derive(Debug, Default)]
pub struct TestHost {
    kv: BTreeMap<String, Vec<u8>>,
    config: BTreeMap<String, String>,
    logs: Vec<(Level, String)>,
}

impl TestHost {
    /// A host without settings, with empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the handler a setting.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// Hands the handler one event, at the first attempt, and returns what it published.
    pub fn handle<H: Handler>(&mut self, event: Event) -> Result<Vec<NewEvent>, Failure> {
        let call = Call {
            about: Some(crate::export::describe_handler::<H>(PACKAGE)),
            kv: self.kv.clone(),
            config: self.config.clone(),
            ..Call::default()
        };
        CALL.replace(call);
        let result = H::handle(event, Delivery { attempt: 1 });
        let call = CALL.take();
        self.logs.extend(call.logs);
        result?;
        self.kv = call.kv;
        Ok(call.outbox)
    }

    /// What the memory holds at the key.
    pub fn kv(&self, key: &str) -> Option<&[u8]> {
        self.kv.get(key).map(Vec::as_slice)
    }

    /// The lines that the handler wrote, also in calls that failed.
    pub fn logs(&self) -> &[(Level, String)] {
        &self.logs
    }
}

/// Asks a filter about an event. The parameters are not checked against its schema, which is the host's work.
pub fn matches<F: Filter>(event: &Event, params: Value) -> Result<bool, String> {
    crate::export::matches::<F>(event.clone(), Some(&params.to_string()))
}

thread_local! {
    static CALL: RefCell<Call> = RefCell::default();
}

/// What one call sees and leaves.
#[derive(Default)]
struct Call {
    about: Option<WitDescription>,
    kv: BTreeMap<String, Vec<u8>>,
    config: BTreeMap<String, String>,
    outbox: Vec<NewEvent>,
    logs: Vec<(Level, String)>,
}

impl Call {
    fn asked(&self, capability: &str) -> Result<(), String> {
        let capabilities = self.about.iter().flat_map(|about| &about.capabilities);
        match capabilities.into_iter().any(|c| c == capability) {
            true => Ok(()),
            false => Err(format!("the handler did not ask for `{capability}`")),
        }
    }
}

/// Same names and signatures as the generated imports, so that [`crate::host`] can take either.
pub(crate) mod host {
    use super::{CALL, Call};

    fn with<T>(capability: &str, f: impl FnOnce(&mut Call) -> Result<T, String>) -> Result<T, String> {
        CALL.with_borrow_mut(|call| {
            call.asked(capability)?;
            f(call)
        })
    }

    pub(crate) mod kv {
        use super::with;

        pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, String> {
            with("kv", |call| Ok(call.kv.get(key).cloned()))
        }

        pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), String> {
            with("kv", |call| {
                if key.len() > 256 {
                    return Err("the key is longer than 256 bytes".into());
                }
                call.kv.insert(key.into(), value.into());
                Ok(())
            })
        }

        pub(crate) fn delete(key: &str) -> Result<(), String> {
            with("kv", |call| {
                call.kv.remove(key);
                Ok(())
            })
        }

        pub(crate) fn keys(prefix: &str, after: Option<&str>) -> Result<Vec<String>, String> {
            let wanted = |key: &&String| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after);
            with("kv", |call| Ok(call.kv.keys().filter(wanted).take(1_000).cloned().collect()))
        }

        pub(crate) fn increment(key: &str, delta: i32) -> Result<i64, String> {
            let old = match get(key)? {
                None => 0,
                Some(bytes) => String::from_utf8_lossy(&bytes).parse::<i64>().map_err(|_| "not a number")?,
            };
            let sum = old.checked_add(delta.into()).ok_or("the sum does not fit")?;
            set(key, sum.to_string().as_bytes())?;
            Ok(sum)
        }
    }

    pub(crate) mod config {
        use super::with;

        pub(crate) fn get(key: &str) -> Option<String> {
            with("config", |call| Ok(call.config.get(key).cloned())).unwrap_or_default()
        }
    }

    pub(crate) mod logging {
        use super::CALL;
        use crate::log::Level;

        pub(crate) fn log(level: Level, message: &str) {
            CALL.with_borrow_mut(|call| call.logs.push((level, message.into())));
        }
    }

    pub(crate) mod publisher {
        use super::{super::glob, CALL};
        use crate::bindings::handler::busway::plugin::types as wit;
        use crate::{NewEvent, PublishCode, PublishError};

        pub(crate) fn publish(event: &wit::NewEvent) -> Result<String, PublishError> {
            let refuse = |code, message: String| Err(PublishError { code, message });
            CALL.with_borrow_mut(|call| {
                if let Err(message) = call.asked("publish") {
                    return refuse(PublishCode::Denied, message);
                }
                if !call.about.iter().flat_map(|about| &about.emits).any(|pattern| glob(pattern, &event.type_)) {
                    return refuse(
                        PublishCode::Denied,
                        format!("the handler did not say that it emits `{}`", event.type_),
                    );
                }
                if call.outbox.len() == 64 {
                    return refuse(PublishCode::Limit, "more than 64 events in one call".into());
                }
                call.outbox.push(NewEvent::from(event.clone()));
                Ok(format!("test-{}", call.outbox.len()))
            })
        }
    }
}

/// `*` any run of characters, `?` one.
fn glob(pattern: &str, text: &str) -> bool {
    let mut rest = text.chars();
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => glob(&pattern[1..], text) || (rest.next().is_some() && glob(pattern, rest.as_str())),
        Some(c) => rest.next().is_some_and(|t| c == '?' || c == t) && glob(&pattern[c.len_utf8()..], rest.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capability, Description, FailureKind, kv, log, publish};
    use serde_json::json;

    /// Counts, publishes the count, and fails if the data is an error.
    struct Counter;

    impl Handler for Counter {
        fn describe(about: Description) -> Description {
            about.subscribe("tick").emits("tock.*").uses(Capability::Kv)
        }

        fn handle(event: Event, _: Delivery) -> crate::Result {
            let count = kv::increment("count", 1)?;
            publish(NewEvent::new("tock.count").data(&count)?)?;
            log::info!("{count}");
            match event.json()?.as_str() {
                Some(error) => Err(Failure::retry(error)),
                None => Ok(()),
            }
        }
    }

    /// Uses what it did not ask for.
    struct Greedy;

    impl Handler for Greedy {
        fn describe(about: Description) -> Description {
            about
        }

        fn handle(event: Event, _: Delivery) -> crate::Result {
            match event.event_type.as_str() {
                "kv" => kv::set("k", "v")?,
                _ => drop(publish(NewEvent::new("x"))?),
            }
            Ok(())
        }
    }

    #[test]
    fn a_failed_call_leaves_only_its_log_lines() {
        let mut host = TestHost::new();
        assert_eq!(host.handle::<Counter>(Event::new("tick", json!(null))).expect("ok").len(), 1);
        assert_eq!(host.handle::<Counter>(Event::new("tick", json!("boom"))), Err(Failure::retry("boom")));
        let out = host.handle::<Counter>(Event::new("tick", json!(null))).expect("ok");
        assert_eq!(out[0].json().expect("JSON"), json!(2));
        assert_eq!(host.kv("count"), Some(b"2".as_slice()));
        assert_eq!(host.logs().iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(), ["1", "2", "2"]);
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let mut host = TestHost::new();
        let kv = host.handle::<Greedy>(Event::new("kv", json!(null))).expect_err("not asked for");
        assert_eq!((kv.kind, kv.message.as_str()), (FailureKind::Retry, "kv: the handler did not ask for `kv`"));
        let publish = host.handle::<Greedy>(Event::new("publish", json!(null))).expect_err("not asked for");
        assert_eq!(publish.kind, FailureKind::Reject);
    }

    #[test]
    fn globs_match_the_whole_text() {
        let check = |pattern, text, expected| assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        check("tock.*", "tock.count", true);
        check("tock.*", "a.tock.count", false);
        check("*.t?ck", "a.b.tück", true);
        check("", "a", false);
    }
}
