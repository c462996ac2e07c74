//! A plugin's own memory: a namespaced store of byte values with quotas, changed only through transactions.
//!
//! Knows nothing of plugins, calls or grants. A [`Namespace`] belongs to a name and outlives whatever uses it; a
//! [`Transaction`] reads what is committed and its own writes, and commits all of them or none. Concurrency is
//! optimistic: the version of each key read is remembered and compared when it commits, so the first of two
//! transactions that touched the same keys wins and the other is run again by its owner (serialisability by backward
//! validation, Kung and Robinson 1981). Start reading at [`Transaction`].

mod keys;
mod transaction;

pub use transaction::{Committed, Conflict, Transaction};

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// Most keys of one answer of [`Transaction::keys`].
pub const MAX_KEYS_LISTED: usize = 1_000;
/// Most different keys that one transaction may touch: what bounds its own memory. Four times what a namespace holds by default.
pub const MAX_KEYS_TOUCHED: usize = 4_000;

/// What one namespace may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Sum of its keys and values.
    pub bytes: usize,
    /// Number of its keys.
    pub keys: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self { bytes: 1 << 20, keys: 1_000 }
    }
}

/// Why an operation was refused. The text is for the plugin's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Its bytes or keys would not fit.
    #[error("over the quota: {bytes} bytes in {keys} keys, allowed are {} bytes in {} keys", quota.bytes, quota.keys)]
    Quota {
        /// What the namespace would hold.
        bytes: usize,
        /// What the namespace would hold.
        keys: usize,
        /// What it may hold.
        quota: Quota,
    },
    /// The key is empty or too long.
    #[error("key: expected 1 to {MAX_KEY_BYTES} bytes, found {0} bytes")]
    Key(usize),
    /// The value to add to is not a decimal number of 64 bits.
    #[error("not a number: expected decimal text at the key, found {0}")]
    NotANumber(String),
    /// The sum does not fit into 64 bits.
    #[error("overflow: {value} + {delta} is more than 64 bits hold")]
    Overflow {
        /// What stands at the key.
        value: i64,
        /// What was to be added.
        delta: i32,
    },
    /// The transaction has touched [`MAX_KEYS_TOUCHED`] keys.
    #[error("too many keys: a call may touch at most {MAX_KEYS_TOUCHED}")]
    TooManyKeys,
}

/// All namespaces, by name.
#[derive(Debug, Default)]
pub struct Store {
    quota: Quota,
    namespaces: Mutex<HashMap<String, Arc<Namespace>>>,
}

impl Store {
    /// An empty store whose namespaces may each hold `quota`, unless a transaction brings another.
    pub fn new(quota: Quota) -> Self {
        Self { quota, namespaces: Mutex::default() }
    }

    /// The namespace called `name`, made when it is first asked for.
    pub fn namespace(&self, name: &str) -> Arc<Namespace> {
        let mut namespaces = lock(&self.namespaces);
        if let Some(namespace) = namespaces.get(name) {
            return Arc::clone(namespace);
        }
        let namespace = Arc::new(Namespace { quota: self.quota, state: Mutex::default() });
        namespaces.insert(name.to_owned(), Arc::clone(&namespace));
        namespace
    }

    /// Puts back what a namespace held when it was last here. Not checked against the quota: it was when it was written.
    pub fn restore(&self, name: &str, key: String, value: Vec<u8>) {
        let namespace = self.namespace(name);
        let mut state = namespace.lock();
        state.bytes += key.len() + value.len();
        state.entries.insert(key, Entry { value: value.into(), version: 0 });
    }
}

/// The committed keys and values of one name.
#[derive(Debug)]
pub struct Namespace {
    quota: Quota,
    state: Mutex<State>,
}

/// What a namespace holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Sum of its keys and values.
    pub bytes: usize,
    /// Number of its keys.
    pub keys: usize,
}

#[derive(Debug, Default, Clone)]
struct State {
    entries: BTreeMap<String, Entry>,
    bytes: usize,
    /// Number of commits that wrote; the version of what the last one wrote.
    version: u64,
    /// Version of the last commit that made or removed a key: what a listing of keys depends on.
    shape: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    value: Arc<[u8]>,
    version: u64,
}

impl Namespace {
    /// A transaction on what is committed now and later, until it commits.
    pub fn begin(self: &Arc<Self>) -> Transaction {
        self.begin_within(self.quota)
    }

    /// The same under a quota of its own. Where the namespace holds more already, that stays, and keys can be removed.
    pub fn begin_within(self: &Arc<Self>, quota: Quota) -> Transaction {
        Transaction::new(Arc::clone(self), quota)
    }

    /// A copy of what is committed, which goes its own way from here on.
    pub fn detached(&self) -> Arc<Self> {
        Arc::new(Self { quota: self.quota, state: Mutex::new(self.lock().clone()) })
    }

    /// What is committed.
    pub fn size(&self) -> Size {
        let state = self.lock();
        Size { bytes: state.bytes, keys: state.entries.len() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A panic cannot leave these half changed: what is written under the lock is made before it is taken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
