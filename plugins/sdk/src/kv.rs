//! A handler's own memory: it outlives calls, reloads and restarts, and no other plugin sees it. Ask for it with
//! [`Capability::Kv`](crate::Capability::Kv).
//!
//! What a call writes commits together with what it publishes once it has returned `Ok`, or not at all. A plugin has 1 MiB,
//! keys and values together, and 1,000 keys; a key has at most 256 bytes.
//!
//! ```no_run
//! use busway_plugin::kv;
//!
//! let seen: i64 = kv::increment("seen", 1)?;
//! kv::set_json("last", &("task.created", seen))?;
//! let last: Option<(String, i64)> = kv::get_json("last")?;
//! # Ok::<(), busway_plugin::Failure>(())
//! ```

use crate::host::kv as host;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

// The most that the host hands out at once.
const KEYS_PAGE: usize = 1_000;

/// The value at the key, if there is one.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::get(key).map_err(Error::Refused)
}

/// The value at the key, read as JSON.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let parse =
        |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|source| Error::Json { key: key.into(), source });
    get(key)?.map(parse).transpose()
}

/// The value at the key, read as JSON; the key is removed.
pub fn take_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let value = get_json(key)?;
    if value.is_some() {
        delete(key)?;
    }
    Ok(value)
}

/// Puts bytes at the key.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    host::set(key, value.as_ref()).map_err(Error::Refused)
}

/// Puts a value at the key as JSON.
pub fn set_json<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(|source| Error::Json { key: key.into(), source })?;
    set(key, text)
}

/// Removes the key. No error if there is none.
pub fn delete(key: &str) -> Result<(), Error> {
    host::delete(key).map_err(Error::Refused)
}

/// Adds to the number at the key (0 if there is none) and returns the sum. However often the host tries a call again, this
/// counts once.
pub fn increment(key: &str, delta: i32) -> Result<i64, Error> {
    host::increment(key, delta).map_err(Error::Refused)
}

/// All keys that begin with the prefix, in the order of their bytes.
pub fn keys(prefix: &str) -> Result<Vec<String>, Error> {
    let mut all = host::keys(prefix, None).map_err(Error::Refused)?;
    let mut page = all.len();
    while page == KEYS_PAGE {
        let next = host::keys(prefix, all.last().map(String::as_str)).map_err(Error::Refused)?;
        page = next.len();
        all.extend(next);
    }
    Ok(all)
}

/// Why the memory did not do it. `?` in a handler turns [`Error::Refused`] into a retry, [`Error::Json`] into a reject.
#[derive(Debug)]
pub enum Error {
    /// The host says why: not granted, over the quota, key too long, not a number.
    Refused(String),
    /// The value at the key is not the JSON that was asked for, or cannot be written as JSON.
    Json {
        /// Where it is.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "kv: {why}"),
            Self::Json { key, source } => write!(f, "kv: `{key}`: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(_) => None,
            Self::Json { source, .. } => Some(source),
        }
    }
}
