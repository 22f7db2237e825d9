//! Deadlines by key: the earliest is found without looking at the others.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Moment;

/// At most one deadline for each key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timers<K: Ord> {
    by_key: BTreeMap<K, Moment>,
    by_moment: BTreeSet<(Moment, K)>,
}

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_moment: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets the deadline of `key`, replacing the one it had; `None` removes it.
    pub fn set(&mut self, key: K, deadline: Option<Moment>) {
        if let Some(old) = self.by_key.remove(&key) {
            self.by_moment.remove(&(old, key.clone()));
        }
        if let Some(moment) = deadline {
            self.by_key.insert(key.clone(), moment);
            self.by_moment.insert((moment, key));
        }
    }

    /// Whether `key` has a deadline.
    pub fn has(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Moment> {
        self.by_moment.first().map(|(moment, _)| *moment)
    }

    /// Removes and returns a key whose deadline has come.
    pub fn pop_due(&mut self, now: Moment) -> Option<K> {
        let (moment, key) = self.by_moment.first()?.clone();
        if moment > now {
            return None;
        }
        self.set(key.clone(), None);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_a_new_deadline_replaces_the_old() {
        let mut timers = Timers::default();
        timers.set('a', Some(Moment(30)));
        timers.set('b', Some(Moment(20)));
        timers.set('a', Some(Moment(10)));
        assert_eq!(timers.next(), Some(Moment(10)));
        assert_eq!(timers.pop_due(Moment(9)), None);
        assert_eq!(timers.pop_due(Moment(40)), Some('a'));
        assert_eq!(timers.pop_due(Moment(40)), Some('b'));
        assert_eq!(timers.pop_due(Moment(40)), None);
    }

    #[test]
    fn none_removes_a_deadline() {
        let mut timers = Timers::default();
        timers.set('a', Some(Moment(1)));
        timers.set('a', None);
        assert_eq!(timers.next(), None);
    }
}
