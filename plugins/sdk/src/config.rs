//! Settings that the operator gave this plugin, in the `[config]` table of its sidecar file. Ask for them with
//! [`Capability::Config`](crate::Capability::Config).

use crate::{Failure, host::config as host};
use std::{fmt::Display, str::FromStr};

/// A setting as text. None: not set, or not granted.
///
/// ```no_run
/// let channel = busway_plugin::config::get("channel").unwrap_or_else(|| "general".into());
/// ```
pub fn get(key: &str) -> Option<String> {
    host::get(key)
}

/// A setting as a number, a flag or any other type that can be read from text. A setting that cannot is a reject that names it.
///
/// ```no_run
/// let limit: u32 = busway_plugin::config::parse("limit")?.unwrap_or(10);
/// # Ok::<(), busway_plugin::Failure>(())
/// ```
pub fn parse<T: FromStr<Err: Display>>(key: &str) -> Result<Option<T>, Failure> {
    let parse = |text: String| text.parse().map_err(|e| Failure::reject(format_args!("config `{key}`: {e}")));
    get(key).map(parse).transpose()
}
