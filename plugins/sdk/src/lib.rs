//! Write [Busway](https://github.com/busway/busway) plugins in Rust. A plugin is one `.wasm` file: a *handler* that reacts to
//! events, or a *filter* that answers a question about them.
//!
//! # A handler
//!
//! Implement [`Handler`] for a type and name it in [`handler!`]. What the plugin is called, its version and its summary come
//! from its `Cargo.toml`.
//!
//! ```
//! use busway_plugin::serde::Deserialize;
//! use busway_plugin::{Delivery, Description, Event, Handler, NewEvent, Result, publish};
//!
//! struct Welcome;
//!
//! impl Handler for Welcome {
//!     fn describe(about: Description) -> Description {
//!         about.subscribe("user.created").emits("mail.requested")
//!     }
//!
//!     fn handle(event: Event, _: Delivery) -> Result {
//!         let user: User = event.data()?;
//!         publish(NewEvent::new("mail.requested").data(&format!("Welcome, {}!", user.name))?)?;
//!         Ok(())
//!     }
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(crate = "busway_plugin::serde")]
//! struct User {
//!     name: String,
//! }
//!
//! busway_plugin::handler!(Welcome);
//! # fn main() {}
//! ```
//!
//! A call is all or nothing: what it published and what it wrote to [`kv`] counts only if it returns `Ok`. `?` on an error of
//! this crate chooses between retry and reject sensibly; [`Failure`] says it outright.
//!
//! # A filter
//!
//! Implement [`Filter`] and name the type in [`filter!`].
//!
//! ```
//! use busway_plugin::serde::Deserialize;
//! use busway_plugin::{Event, Filter, FilterError};
//!
//! struct LargerThan;
//!
//! #[derive(Deserialize)]
//! #[serde(crate = "busway_plugin::serde")]
//! struct Params {
//!     bytes: usize,
//! }
//!
//! impl Filter for LargerThan {
//!     type Params = Params;
//!     const PARAMS_SCHEMA: &'static str =
//!         r#"{ "type": "object", "properties": { "bytes": { "type": "integer", "minimum": 0 } }, "required": ["bytes"] }"#;
//!
//!     fn matches(event: Event, params: Params) -> Result<bool, FilterError> {
//!         Ok(event.text().len() > params.bytes)
//!     }
//! }
//!
//! busway_plugin::filter!(LargerThan);
//! # fn main() {}
//! ```
//!
//! # Types of your own
//!
//! [`serde`] and [`serde_json`] are those that this crate was built with, so a plugin needs neither
//! among its own dependencies. As above, a derive is told where serde is: `#[serde(crate =
//! "busway_plugin::serde")]`. With a dependency on `serde` 1 of your own it is left out.
//!
//! # Numbers
//!
//! JSON numbers have any number of digits. [`serde_json::Value`], and so [`Event::json`], keeps
//! whole numbers from -2^63 to 2^64 - 1 and takes every other number for an `f64`: `100.00` comes
//! out as `100.0`, 10^26 + 1 as `1e26`. What a plugin passes on without looking at it, it passes on
//! as text: all of the data with [`Event::text`] and [`NewEvent::text`], a member as [`RawValue`]:
//!
//! ```
//! use busway_plugin::serde::{Deserialize, Serialize};
//! use busway_plugin::{Event, NewEvent, RawValue};
//!
//! #[derive(Deserialize, Serialize)]
//! #[serde(crate = "busway_plugin::serde")]
//! struct Payment<'a> {
//!     customer: String,
//!     #[serde(borrow)]
//!     amount: &'a RawValue,
//! }
//!
//! let event = Event::from_text("payment.received", r#"{"customer": "ann", "amount": 100.00}"#)?;
//! let payment: Payment = event.data()?;
//! let passed_on = NewEvent::new("payment.booked").data(&payment)?;
//! assert_eq!(passed_on.as_text(), r#"{"customer":"ann","amount":100.00}"#);
//! # Ok::<(), busway_plugin::DataError>(())
//! ```
//!
//! The feature `arbitrary_precision` of serde_json is not on: it would change how every crate of
//! the plugin reads and writes numbers, and types behind `#[serde(flatten)]` or an untagged enum
//! would not read them any more.
//!
//! # Build and test
//!
//! `crate-type = ["cdylib"]`, then `cargo build --release --target wasm32-wasip2`: the file is a component, ready to be dropped
//! into the hub's plugin directory. `cargo test` runs natively with [`testing::TestHost`] in the place of the hub. The crate
//! of a plugin needs no `unsafe` of its own and may forbid it.

mod bindings;
mod description;
mod event;
mod export;
mod failure;
mod host;
mod publisher;

pub mod config;
pub mod kv;
pub mod log;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::handler::exports::busway::plugin::handler::Delivery;
pub use description::{Capability, Description, FilterDescription, Isolation, OrderBy, Subscription};
pub use event::{DataError, Event, Metadata, NewEvent};
pub use failure::{Failure, FailureKind, FilterError, Result};
pub use publisher::{PublishCode, PublishError, publish};
pub use serde;
pub use serde_json;
pub use serde_json::value::RawValue;

use serde::{Deserialize, de::DeserializeOwned};

/// A plugin that is called for each event it subscribes to.
///
/// There is no `self`: by default the host makes a new instance for each call, and what must outlive it goes to [`kv`].
pub trait Handler {
    /// What the plugin wants. `about` holds already what Cargo knows of the crate.
    ///
    /// It must say the same each time: the host asks once for each version that it loads.
    fn describe(about: Description) -> Description;

    /// Handles one event, again after a failure ([`Delivery::attempt`]). All or nothing: what it published and wrote to [`kv`]
    /// counts only if it returns `Ok`. A panic counts as a retry.
    fn handle(event: Event, delivery: Delivery) -> Result;
}

/// A plugin that answers a question about an event. It has no effects, and gives the same answer to the same question.
pub trait Filter {
    /// What the one who asks may give, read from JSON; [`NoParams`] for nothing. Parameters that were not given are `{}`.
    type Params: DeserializeOwned;

    /// JSON Schema of the parameters, which the host checks before it asks; empty: it takes none.
    const PARAMS_SCHEMA: &'static str = "";

    /// What the plugin is. `about` holds already what Cargo knows of the crate, so most filters leave this out.
    fn describe(about: FilterDescription) -> FilterDescription {
        about
    }

    /// True: let the event through. An error counts as false unless the operator says otherwise.
    ///
    /// Parameters that cannot be read never get here: the host is told why, in a text that begins with `params: `.
    fn matches(event: Event, params: Self::Params) -> Result<bool, FilterError>;
}

/// The parameters of a filter that takes none.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

// So that the example in the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// For the macros. Not part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::filter::exports::busway::plugin::filter::{
        Description as FilterDescription, Guest as FilterGuest,
    };
    pub use crate::bindings::handler::busway::plugin::types::Event as WitEvent;
    pub use crate::bindings::handler::exports::busway::plugin::handler::{
        Description as HandlerDescription, Guest as HandlerGuest,
    };
    pub use crate::bindings::{filter, handler};
    pub use crate::description::Package;
    pub use crate::export::{describe_filter, describe_handler, handle, matches};
}
