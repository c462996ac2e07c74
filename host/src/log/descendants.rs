//! How many events each event from outside has brought about through handlers: a budget for each root, so that a loop that
//! fans out ends long before its chains are too long. Bounded in number; it begins anew with the hub.

use super::MAX_DESCENDANTS;
use crate::event::Event;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Most roots that are remembered.
const ROOTS: usize = 65_536;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Descendants {
    roots: HashMap<u64, Root>,
    /// Each commit's turn and root. Older turns of a root than its last are passed over.
    order: VecDeque<(u64, u64)>,
    turn: u64,
}

#[derive(Debug)]
struct Root {
    descendants: u64,
    /// When it last got any.
    turn: u64,
}

/// More than a root may have: it, and how many it would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) root: u64,
    pub(super) descendants: u64,
}

/// What a commit brings about, and from which root. All events of a call have the same cause, so the first speaks for all;
/// none where there are none, or where they are due to no event.
pub(super) fn brought_about(events: &[Arc<Event>]) -> Option<(u64, u64)> {
    let root = events.first()?.metadata.chain.first()?;
    Some((*root, events.len() as u64))
}

impl Descendants {
    /// Whether a root may have `more`.
    pub(super) fn check(&self, root: u64, more: u64) -> Result<(), TooMany> {
        let descendants = self.roots.get(&root).map_or(0, |root| root.descendants) + more;
        if descendants > MAX_DESCENDANTS { Err(TooMany { root, descendants }) } else { Ok(()) }
    }

    /// Counts them.
    pub(super) fn add(&mut self, root: u64, more: u64) {
        self.turn += 1;
        let turn = self.turn;
        let entry = self.roots.entry(root).or_insert(Root { descendants: 0, turn });
        (entry.descendants, entry.turn) = (entry.descendants + more, turn);
        self.order.push_back((turn, root));
        // Few roots that get many: what is passed over goes before it is more than the rest.
        if self.order.len() > 2 * ROOTS {
            let roots = &self.roots;
            self.order.retain(|(turn, root)| roots.get(root).is_some_and(|last| last.turn == *turn));
        }
    }

    /// Takes back what was counted and not written.
    pub(super) fn take_back(&mut self, added: &[(u64, u64)]) {
        for (root, more) in added {
            if let Some(entry) = self.roots.get_mut(root) {
                entry.descendants -= more;
                if entry.descendants == 0 {
                    self.roots.remove(root);
                }
            }
        }
    }

    /// Forgets the roots beyond the bound that got none for longest; gives how many. Not before what was counted is written:
    /// nothing of a root that was forgotten can be taken back.
    pub(super) fn forget(&mut self) -> u64 {
        let mut forgotten = 0;
        while self.roots.len() > ROOTS
            && let Some((turn, root)) = self.order.pop_front()
        {
            if self.roots.get(&root).is_some_and(|last| last.turn == turn) {
                self.roots.remove(&root);
                forgotten += 1;
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_its_budget_and_no_more_and_another_has_its_own() {
        let mut descendants = Descendants::default();
        descendants.add(1, MAX_DESCENDANTS - 1);
        assert_eq!(descendants.check(1, 1), Ok(()));
        let too_many = TooMany { root: 1, descendants: MAX_DESCENDANTS + 1 };
        assert_eq!(descendants.check(1, 2), Err(too_many));
        assert_eq!(descendants.check(2, MAX_DESCENDANTS), Ok(()));
        descendants.add(1, 1);
        assert_eq!(descendants.check(1, 1), Err(too_many));
    }

    #[test]
    fn what_was_not_written_is_taken_back() {
        let mut descendants = Descendants::default();
        descendants.add(1, 7);
        descendants.add(1, 3);
        descendants.add(2, 5);
        descendants.take_back(&[(1, 3), (2, 5)]);
        assert_eq!(descendants.check(1, MAX_DESCENDANTS - 7), Ok(()));
        assert!(descendants.check(1, MAX_DESCENDANTS - 6).is_err());
        assert!(descendants.check(2, MAX_DESCENDANTS).is_ok() && descendants.roots.len() == 1);
    }

    #[test]
    fn beyond_the_bound_the_root_that_got_none_for_longest_is_forgotten() {
        let mut descendants = Descendants::default();
        (0..ROOTS as u64).for_each(|root| descendants.add(root, 1));
        assert_eq!(descendants.forget(), 0);
        descendants.add(0, 1);
        descendants.add(ROOTS as u64, 1);
        assert_eq!((descendants.forget(), descendants.roots.len()), (1, ROOTS));
        assert!(descendants.check(0, MAX_DESCENDANTS - 1).is_err(), "it got one after the others");
        assert!(descendants.check(1, MAX_DESCENDANTS).is_ok(), "it is the one that was forgotten");
    }

    #[test]
    fn what_a_busy_root_leaves_behind_is_bounded() {
        let mut descendants = Descendants::default();
        for _ in 0..3 * ROOTS {
            descendants.add(1, 0);
        }
        assert!(descendants.order.len() <= 2 * ROOTS && descendants.roots.len() == 1);
    }
}
