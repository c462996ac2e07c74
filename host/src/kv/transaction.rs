//! One transaction: what it read, what it would write, and the check at its commit. Knows nothing of who runs it.

use super::keys::Keys;
use super::{Entry, KvError, MAX_KEY_BYTES, MAX_KEYS_LISTED, MAX_KEYS_TOUCHED, Namespace, Quota, State};
use std::ops::Bound;
use std::sync::Arc;

/// Reads and writes that commit together. Dropped without a commit, it leaves no trace.
#[derive(Debug)]
pub struct Transaction {
    namespace: Arc<Namespace>,
    quota: Quota,
    keys: Keys<Touched>,
    /// The shape of the namespace when its keys were first listed. Coarse (any key made or removed since is a
    /// conflict), and in exchange of a fixed size however often a plugin lists.
    listed: Option<u64>,
    /// By how much the writes would change the size of the namespace, as it was when each was made.
    growth: Growth,
}

/// What was done with one key: at least one of the two.
#[derive(Debug, Default)]
struct Touched {
    read: Option<Read>,
    write: Option<Write>,
}

/// What the key held when it was first read, and goes on holding here: two readings that differ could both be gone again at the
/// commit. None: it was not there.
#[derive(Debug)]
struct Read(Option<Entry>);

#[derive(Debug)]
struct Write {
    /// None removes the key.
    value: Option<Arc<[u8]>>,
    /// The size of the committed value that it takes the place of.
    replaces: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Growth {
    bytes: isize,
    keys: isize,
}

/// Another transaction committed first and changed what this one had read: run it again from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another call changed the same keys first")]
pub struct Conflict;

impl Transaction {
    pub(super) fn new(namespace: Arc<Namespace>, quota: Quota) -> Self {
        Self { namespace, quota, keys: Keys::default(), listed: None, growth: Growth::default() }
    }

    /// The value at `key`.
    ///
    /// # Errors
    /// A key out of bounds, or one too many.
    pub fn get(&mut self, key: impl AsRef<str> + Into<String>) -> Result<Option<Arc<[u8]>>, KvError> {
        if let Some(known) = self.known(key.as_ref())? {
            return Ok(known.seen().cloned());
        }
        let entry = self.namespace.lock().entries.get(key.as_ref()).cloned();
        let value = entry.as_ref().map(|entry| Arc::clone(&entry.value));
        self.keys.entry(key).read = Some(Read(entry));
        Ok(value)
    }

    /// Writes `value` at `key`.
    ///
    /// # Errors
    /// A key out of bounds, or a namespace that would be over its quota: that depends on what others have committed by
    /// now, and is the one answer that a later conflict does not check.
    pub fn set(&mut self, key: impl AsRef<str> + Into<String>, value: &[u8]) -> Result<(), KvError> {
        self.write(key, Some(value))
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// A key out of bounds, or one too many.
    pub fn delete(&mut self, key: impl AsRef<str> + Into<String>) -> Result<(), KvError> {
        self.write(key, None)
    }

    /// Keys that begin with `prefix`, in order, after `after`; at most [`MAX_KEYS_LISTED`].
    pub fn keys(&mut self, prefix: &str, after: Option<&str>) -> Vec<String> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.namespace.lock();
        self.listed.get_or_insert(state.shape);
        let in_prefix = |key: &&String| key.starts_with(prefix);
        let committed =
            state.entries.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key).take_while(in_prefix);
        let is_written = |key: &str| self.keys.get(key).is_some_and(|touched| touched.write.is_some());
        let kept = committed.filter(|key| !is_written(key)).take(MAX_KEYS_LISTED);
        let touched = self.keys.range(from).take_while(|(key, _)| key.starts_with(prefix));
        let is_made = |touched: &Touched| touched.write.as_ref().is_some_and(|write| write.value.is_some());
        let made = touched.filter(|(_, touched)| is_made(touched)).map(|(key, _)| key).take(MAX_KEYS_LISTED);
        let mut keys: Vec<String> = kept.chain(made).cloned().collect();
        keys.sort_unstable();
        keys.truncate(MAX_KEYS_LISTED);
        keys
    }

    /// Adds `delta` to the number at `key`, 0 if there is none, and gives the sum.
    ///
    /// # Errors
    /// As [`Transaction::set`], and where the value is not a number or the sum does not fit.
    pub fn increment(&mut self, key: impl AsRef<str> + Into<String>, delta: i32) -> Result<i64, KvError> {
        let name = key.as_ref();
        let known = self.known(name)?;
        let state = self.namespace.lock();
        let committed = state.entries.get(name);
        let seen = known.map_or(committed.map(|entry| &entry.value), Touched::seen);
        let planned = seen.map_or(Ok(0), |value| number(value)).and_then(|value| {
            let sum = value.checked_add(i64::from(delta)).ok_or(KvError::Overflow { value, delta })?;
            let text = sum.to_string();
            let old = known.and_then(|known| known.write.as_ref());
            Ok((sum, self.plan(name, old, Some(text.as_bytes()), &state)?, text))
        });
        // Also where that fails: it depends on what was read.
        let read = known.is_none().then(|| Read(committed.cloned()));
        drop(state);
        let touched = self.keys.entry(key);
        touched.read = touched.read.take().or(read);
        let (sum, (replaces, growth), text) = planned?;
        touched.write = Some(Write { value: Some(text.into_bytes().into()), replaces });
        self.growth = growth;
        Ok(sum)
    }

    /// Whether nothing would change by its commit; it may still fail, where what it read has changed since.
    pub fn is_read_only(&self) -> bool {
        self.writes().next().is_none()
    }

    /// Applies the writes if nothing that was read has changed, all at once.
    ///
    /// # Errors
    /// [`Conflict`] if something did, or if there is no longer room for the writes: run again, it will learn why.
    pub fn commit(self) -> Result<Committed, Conflict> {
        let mut state = self.namespace.lock();
        let version = |entry: Option<&Entry>| entry.map(|entry| entry.version);
        let is_unchanged = |(key, touched): (&String, &Touched)| {
            touched.read.as_ref().is_none_or(|Read(read)| version(state.entries.get(key)) == version(read.as_ref()))
        };
        let unchanged = self.keys.iter().all(is_unchanged) && self.listed.is_none_or(|shape| shape == state.shape);
        if !unchanged {
            return Err(Conflict);
        }
        let (bytes, keys) = self.after(&state);
        // Removing is always allowed: a quota that was lowered must not keep anybody from getting below it.
        let puts = self.writes().any(|(_, write)| write.value.is_some());
        if puts && (bytes > self.quota.bytes || keys > self.quota.keys) {
            return Err(Conflict);
        }
        let bytes_before = state.bytes;
        let written = self.writes().count();
        let (mut writes, mut before) = (Vec::with_capacity(written), Vec::with_capacity(written));
        state.version += u64::from(written > 0);
        for (key, touched) in self.keys {
            let Some(write) = touched.write else { continue };
            let entry = write.value.clone().map(|value| Entry { value, version: state.version });
            before.push((key.clone(), state.put(key.clone(), entry)));
            writes.push((key, write.value));
        }
        state.bytes = bytes;
        drop(state);
        Ok(Committed { namespace: self.namespace, writes, before, bytes_before })
    }

    fn write(&mut self, key: impl AsRef<str> + Into<String>, value: Option<&[u8]>) -> Result<(), KvError> {
        let name = key.as_ref();
        let old = self.known(name)?.and_then(|known| known.write.as_ref());
        let (replaces, growth) = self.plan(name, old, value, &self.namespace.lock())?;
        self.keys.entry(key).write = Some(Write { value: value.map(Arc::from), replaces });
        self.growth = growth;
        Ok(())
    }

    /// What `value` takes the place of at `key`, and the growth with it, if there is room for that. `old` is what was to be written before.
    fn plan(
        &self,
        key: &str,
        old: Option<&Write>,
        value: Option<&[u8]>,
        state: &State,
    ) -> Result<(Option<usize>, Growth), KvError> {
        let replaces = match old {
            Some(old) => old.replaces,
            None => state.entries.get(key).map(|entry| entry.value.len()),
        };
        let undone = old.map_or(Growth::default(), |old| Growth::of(key, old.value.as_deref(), replaces));
        let added = Growth::of(key, value, replaces);
        let growth = Growth {
            bytes: self.growth.bytes - undone.bytes + added.bytes,
            keys: self.growth.keys - undone.keys + added.keys,
        };
        let bytes = state.bytes.saturating_add_signed(growth.bytes);
        let keys = state.entries.len().saturating_add_signed(growth.keys);
        let quota = self.quota;
        if value.is_some() && (bytes > quota.bytes || keys > quota.keys) {
            return Err(KvError::Quota { bytes, keys, quota });
        }
        Ok((replaces, growth))
    }

    /// What was done with `key`; none if it is new, but a good one for which there is room.
    fn known(&self, key: &str) -> Result<Option<&Touched>, KvError> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(KvError::Key(key.len()));
        }
        let known = self.keys.get(key);
        if known.is_none() && self.keys.len() >= MAX_KEYS_TOUCHED {
            return Err(KvError::TooManyKeys);
        }
        Ok(known)
    }

    fn writes(&self) -> impl Iterator<Item = (&String, &Write)> {
        self.keys.iter().filter_map(|(key, touched)| Some((key, touched.write.as_ref()?)))
    }

    /// The bytes and keys that the namespace would hold.
    fn after(&self, state: &State) -> (usize, usize) {
        let (mut bytes, mut keys) = (state.bytes, state.entries.len());
        for (key, write) in self.writes() {
            let replaces = state.entries.get(key).map(|entry| entry.value.len());
            let growth = Growth::of(key, write.value.as_deref(), replaces);
            bytes = bytes.saturating_add_signed(growth.bytes);
            keys = keys.saturating_add_signed(growth.keys);
        }
        (bytes, keys)
    }
}

impl Touched {
    /// What the key holds, as the transaction sees it.
    fn seen(&self) -> Option<&Arc<[u8]>> {
        match (&self.write, &self.read) {
            (Some(Write { value, .. }), _) => value.as_ref(),
            (None, Some(Read(entry))) => entry.as_ref().map(|entry| &entry.value),
            (None, None) => None,
        }
    }
}

impl Growth {
    fn of(key: &str, value: Option<&[u8]>, replaces: Option<usize>) -> Self {
        // A quota is far below what a signed size holds, and so is every value that passed one.
        let weight = |length: usize| (key.len() + length) as isize;
        Self {
            bytes: value.map_or(0, |value| weight(value.len())) - replaces.map_or(0, weight),
            keys: isize::from(value.is_some()) - isize::from(replaces.is_some()),
        }
    }
}

impl State {
    /// Puts an entry, or nothing, in the place of what is there, and gives that.
    fn put(&mut self, key: String, entry: Option<Entry>) -> Option<Entry> {
        let there = entry.is_some();
        let before = match entry {
            Some(entry) => self.entries.insert(key, entry),
            None => self.entries.remove(&key),
        };
        if before.is_some() != there {
            self.shape = self.version;
        }
        before
    }
}

/// What a commit changed.
#[derive(Debug)]
pub struct Committed {
    namespace: Arc<Namespace>,
    /// By key, the new value; none where the key was removed.
    pub writes: Vec<(String, Option<Arc<[u8]>>)>,
    before: Vec<(String, Option<Entry>)>,
    bytes_before: usize,
}

impl Committed {
    /// Takes it back; everything committed after it has to be taken back before. Who has read of it meanwhile will find a
    /// conflict.
    pub fn undo(self) {
        if self.before.is_empty() {
            return;
        }
        let mut state = self.namespace.lock();
        // Never the same twice: a version that was seen and taken back is no later one.
        state.version += 1;
        for (key, entry) in self.before {
            state.put(key, entry);
        }
        state.bytes = self.bytes_before;
    }
}

fn number(value: &[u8]) -> Result<i64, KvError> {
    let text = str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(value).chars().take(40).collect();
        KvError::NotANumber(format!("{shown:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Quota, Store};
    use super::*;
    use proptest::prelude::*;

    fn namespace(quota: Quota) -> Arc<Namespace> {
        Store::new(quota).namespace("test")
    }

    #[test]
    fn a_transaction_sees_what_is_committed_and_its_own_writes() {
        let space = namespace(Quota::default());
        let mut first = space.begin();
        first.set("a", b"1").unwrap();
        assert_eq!(first.get("a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(space.begin().get("a").unwrap(), None);
        first.commit().unwrap();
        let mut second = space.begin();
        second.delete("a").unwrap();
        second.set("b", b"2").unwrap();
        assert_eq!((second.get("a").unwrap(), second.keys("", None)), (None, vec!["b".to_owned()]));
        drop(second);
        assert_eq!(space.begin().keys("", None), ["a"]);
    }

    #[test]
    fn the_first_committer_wins() {
        let space = namespace(Quota::default());
        let (mut first, mut second) = (space.begin(), space.begin());
        assert_eq!((first.increment("n", 1).unwrap(), second.increment("n", 1).unwrap()), (1, 1));
        assert!(first.commit().is_ok());
        assert_eq!(second.commit().unwrap_err(), Conflict);
        let mut again = space.begin();
        assert_eq!(again.increment("n", 1).unwrap(), 2);
        again.commit().unwrap();
    }

    #[test]
    fn a_new_key_is_a_conflict_for_whoever_listed_them() {
        let space = namespace(Quota::default());
        let mut counter = space.begin();
        let count = counter.keys("k", None).len().to_string();
        counter.set("count", count.as_bytes()).unwrap();
        let mut maker = space.begin();
        maker.set("k1", b"").unwrap();
        maker.commit().unwrap();
        assert_eq!(counter.commit().unwrap_err(), Conflict);
    }

    #[test]
    fn keys_are_listed_in_order_after_the_given_one() {
        let space = namespace(Quota::default());
        let mut setup = space.begin();
        ["b/2", "a", "b/1", "b/3", "c"].iter().for_each(|key| setup.set(*key, b"").unwrap());
        setup.commit().unwrap();
        let mut listing = space.begin();
        assert_eq!(listing.keys("b/", None), ["b/1", "b/2", "b/3"]);
        assert_eq!(listing.keys("b/", Some("b/1")), ["b/2", "b/3"]);
        assert_eq!(listing.keys("b/", Some("a")), ["b/1", "b/2", "b/3"]);
        assert!(listing.keys("b/", Some("c")).is_empty() && listing.keys("x", None).is_empty());
    }

    #[test]
    fn numbers_are_decimal_text() {
        let mut numbers = namespace(Quota::default()).begin();
        assert_eq!(numbers.increment("n", -5), Ok(-5));
        assert_eq!(numbers.get("n").unwrap().as_deref(), Some(&b"-5"[..]));
        numbers.set("max", i64::MAX.to_string().as_bytes()).unwrap();
        assert_eq!(numbers.increment("max", 1), Err(KvError::Overflow { value: i64::MAX, delta: 1 }));
        numbers.set("text", b"\xffabc").unwrap();
        assert!(matches!(numbers.increment("text", 1), Err(KvError::NotANumber(_))));
    }

    #[test]
    fn quotas_hold_within_a_call_and_at_the_commit() {
        let space = namespace(Quota { bytes: 10, keys: 2 });
        let mut first = space.begin();
        first.set("a", b"12345678").unwrap();
        assert!(matches!(first.set("b", b"1"), Err(KvError::Quota { bytes: 11, keys: 2, .. })));
        first.set("a", b"1").unwrap();
        first.set("b", b"1").unwrap();
        assert!(matches!(first.set("c", b""), Err(KvError::Quota { keys: 3, .. })));
        first.delete("a").unwrap();
        first.set("c", b"1").unwrap();
        let mut second = space.begin();
        second.set("d", b"12345678").unwrap();
        first.commit().unwrap();
        assert_eq!(second.commit().unwrap_err(), Conflict);
        assert_eq!(space.size(), super::super::Size { bytes: 4, keys: 2 });
        assert!(matches!(space.begin().set("", b""), Err(KvError::Key(0))));
        assert!(matches!(space.begin().get("k".repeat(257)), Err(KvError::Key(257))));
    }

    #[test]
    fn a_quota_below_what_is_there_loses_nothing_and_lets_keys_be_removed() {
        let space = namespace(Quota::default());
        let mut before = space.begin();
        ["a", "b", "c"].iter().for_each(|key| before.set(*key, b"1").unwrap());
        before.commit().unwrap();
        let narrow = || space.begin_within(Quota { bytes: 4, keys: 2 });
        let mut refused = narrow();
        assert_eq!(refused.get("c").unwrap().as_deref(), Some(&b"1"[..]));
        assert!(matches!(refused.set("a", b""), Err(KvError::Quota { bytes: 5, keys: 3, .. })));
        assert!(matches!(refused.increment("a", 1), Err(KvError::Quota { .. })));
        refused.commit().unwrap();
        assert_eq!(space.size().keys, 3);
        let mut removing = space.begin_within(Quota { bytes: 0, keys: 0 });
        removing.delete("a").unwrap();
        removing.commit().unwrap();
        let mut fits = narrow();
        fits.set("b", b"2").unwrap();
        fits.commit().unwrap();
        assert_eq!(space.size(), super::super::Size { bytes: 4, keys: 2 });
    }

    #[test]
    fn the_keys_that_one_transaction_touches_have_a_bound() {
        let mut transaction = namespace(Quota { bytes: 1 << 20, keys: MAX_KEYS_TOUCHED }).begin();
        for index in 0..MAX_KEYS_TOUCHED / 2 {
            transaction.set(format!("w{index}"), b"1").unwrap();
            assert_eq!(transaction.get(format!("r{index}")).unwrap(), None);
        }
        assert_eq!(transaction.get("one more"), Err(KvError::TooManyKeys));
        assert_eq!(transaction.set("one more", b""), Err(KvError::TooManyKeys));
        assert_eq!(transaction.delete("one more"), Err(KvError::TooManyKeys));
        assert_eq!((transaction.increment("w7", 1), transaction.get("r7")), (Ok(2), Ok(None)), "these are not new");
        transaction.commit().unwrap();
    }

    #[derive(Debug, Clone)]
    enum Op {
        Get(u8),
        Set(u8, u8),
        Delete(u8),
        Increment(u8),
        Keys,
    }

    fn run(op: &Op, transaction: &mut Transaction) -> String {
        let key = |k: &u8| format!("k{k}");
        match op {
            Op::Get(k) => format!("{:?}", transaction.get(key(k))),
            Op::Set(k, v) => format!("{:?}", transaction.set(key(k), v.to_string().as_bytes())),
            Op::Delete(k) => format!("{:?}", transaction.delete(key(k))),
            Op::Increment(k) => format!("{:?}", transaction.increment(key(k), 1)),
            Op::Keys => format!("{:?}", transaction.keys("k", None)),
        }
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..4u8).prop_map(Op::Get),
            (0..4u8, 0..9u8).prop_map(|(k, v)| Op::Set(k, v)),
            (0..4u8).prop_map(Op::Delete),
            (0..4u8).prop_map(Op::Increment),
            Just(Op::Keys),
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_interleaving_those_that_commit_ran_as_if_one_after_another(
            scripts in prop::collection::vec(prop::collection::vec(op(), 0..6), 1..5),
            schedule in prop::collection::vec(0..5usize, 0..40),
        ) {
            let space = namespace(Quota::default());
            let mut running: Vec<_> = scripts.iter().map(|ops| (Some(space.begin()), ops.iter(), Vec::new())).collect();
            let mut committed = Vec::new();
            let rest = (0..scripts.len()).flat_map(|one| [one; 7]);
            for one in schedule.into_iter().filter(|one| *one < scripts.len()).chain(rest) {
                let (transaction, ops, answers) = &mut running[one];
                match (ops.next(), transaction.as_mut()) {
                    (Some(op), Some(open)) => answers.push(run(op, open)),
                    (None, Some(_)) => {
                        if transaction.take().is_some_and(|open| open.commit().is_ok()) {
                            committed.push(one);
                        }
                    }
                    (_, None) => {}
                }
            }
            let serial = namespace(Quota::default());
            for one in committed {
                let mut transaction = serial.begin();
                let answers: Vec<_> = scripts[one].iter().map(|op| run(op, &mut transaction)).collect();
                prop_assert_eq!(&answers, &running[one].2);
                transaction.commit().unwrap();
            }
            let all = |space: &Arc<Namespace>| {
                let mut reader = space.begin();
                reader.keys("", None).into_iter().map(|key| (reader.get(&key).unwrap(), key)).collect::<Vec<_>>()
            };
            prop_assert_eq!(all(&space), all(&serial));
        }
    }
}
