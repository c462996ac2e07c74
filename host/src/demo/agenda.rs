//! The clock of the simulation: what is to happen, in the order of time.

use std::collections::BTreeMap;

/// Microseconds since the beginning.
pub(super) type Micros = u64;

/// Steps by time; those of the same time in the order in which they were planned.
#[derive(Debug)]
pub(super) struct Agenda<S> {
    now: Micros,
    planned: u64,
    steps: BTreeMap<(Micros, u64), S>,
}

impl<S> Agenda<S> {
    pub(super) fn new() -> Self {
        Self { now: 0, planned: 0, steps: BTreeMap::new() }
    }

    pub(super) fn now(&self) -> Micros {
        self.now
    }

    /// Plans `step` for `delay` from now.
    pub(super) fn after(&mut self, delay: Micros, step: S) {
        self.planned += 1;
        self.steps.insert((self.now + delay, self.planned), step);
    }

    /// Goes on to the next step, and the clock with it.
    pub(super) fn next(&mut self) -> Option<S> {
        let ((at, _), step) = self.steps.pop_first()?;
        self.now = at;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_the_order_of_time_and_then_of_planning() {
        let mut agenda = Agenda::new();
        agenda.after(20, 'c');
        agenda.after(10, 'a');
        agenda.after(20, 'd');
        assert_eq!((agenda.next(), agenda.now()), (Some('a'), 10));
        agenda.after(5, 'b');
        let rest: Vec<_> = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!((rest, agenda.now()), (vec!['b', 'c', 'd'], 20));
    }
}
