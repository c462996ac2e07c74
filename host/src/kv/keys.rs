//! The keys that a transaction has touched, in order, each with what is known of it.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::{iter, vec};

/// So many are found as fast in a vector as in a tree, and adding one to it costs half as much. Most transactions touch fewer.
const FEW: usize = 16;

/// See the module's head. One of the two is empty.
#[derive(Debug)]
pub(super) struct Keys<V> {
    few: Vec<(String, V)>,
    many: BTreeMap<String, V>,
}

impl<V> Default for Keys<V> {
    fn default() -> Self {
        Self { few: Vec::new(), many: BTreeMap::new() }
    }
}

impl<V: Default> Keys<V> {
    pub(super) fn len(&self) -> usize {
        self.few.len() + self.many.len()
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        match self.find(key) {
            Ok(at) => Some(&self.few[at].1),
            Err(_) => self.many.get(key),
        }
    }

    /// What is known of `key`: the default, if it is new.
    pub(super) fn entry(&mut self, key: impl AsRef<str> + Into<String>) -> &mut V {
        if self.many.is_empty() {
            match self.find(key.as_ref()) {
                Ok(at) => return &mut self.few[at].1,
                Err(at) if self.few.len() < FEW => {
                    self.few.insert(at, (key.into(), V::default()));
                    return &mut self.few[at].1;
                }
                Err(_) => self.many.extend(self.few.drain(..)),
            }
        }
        self.many.entry(key.into()).or_default()
    }

    /// Those from `first` on.
    pub(super) fn range(&self, first: Bound<&str>) -> impl Iterator<Item = (&String, &V)> {
        let before = |key: &str| match first {
            Bound::Included(first) => key < first,
            Bound::Excluded(first) => key <= first,
            Bound::Unbounded => false,
        };
        let few = &self.few[self.few.partition_point(|(key, _)| before(key))..];
        few.iter().map(|(key, value)| (key, value)).chain(self.many.range::<str, _>((first, Bound::Unbounded)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.few.iter().map(|(key, value)| (key, value)).chain(&self.many)
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.few.binary_search_by(|(known, _)| known.as_str().cmp(key))
    }
}

impl<V> IntoIterator for Keys<V> {
    type Item = (String, V);
    type IntoIter = iter::Chain<vec::IntoIter<(String, V)>, btree_map::IntoIter<String, V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.few.into_iter().chain(self.many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_or_many_they_are_found_and_in_order() {
        let mut keys = Keys::<usize>::default();
        for count in 1..=2 * FEW {
            // In no order: 7 and the number of keys have no common divisor.
            let key = |index: usize| format!("{:03}", index * 7 % (2 * FEW));
            *keys.entry(key(count - 1)) = count;
            assert_eq!((keys.len(), *keys.entry(key(0).as_str()), keys.get("x")), (count, 1, None));
            assert!((0..count).all(|index| keys.get(&key(index)) == Some(&(index + 1))));
            let all: Vec<&String> = keys.iter().map(|(key, _)| key).collect();
            assert!(all.len() == count && all.is_sorted());
            for (at, first) in all.iter().enumerate() {
                let from = |bound| keys.range(bound).map(|(key, _)| key).collect::<Vec<_>>();
                assert_eq!(from(Bound::Included(first)), all[at..]);
                assert_eq!(from(Bound::Excluded(first)), all[at + 1..]);
            }
            assert_eq!(keys.range(Bound::Unbounded).count(), count);
        }
        let (mut sum, mut last) = (0, String::new());
        for (key, value) in keys {
            assert!(last < key);
            (sum, last) = (sum + value, key);
        }
        assert_eq!(sum, FEW * (2 * FEW + 1));
    }
}
