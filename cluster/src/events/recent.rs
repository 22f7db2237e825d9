//! Which Events were written lately, the least recently used forgotten first.

use std::collections::{BTreeMap, HashMap};

use super::Note;

/// An Event that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) count: i32,
}

/// What makes two notes the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    about: [Option<String>; 4],
    severity: super::Severity,
    reason: &'static str,
    message: String,
}

impl Key {
    fn of(note: &Note) -> Self {
        let about = &note.about;
        Self {
            about: [
                about.kind.clone(),
                about.namespace.clone(),
                about.name.clone(),
                about.uid.clone(),
            ],
            severity: note.severity,
            reason: note.reason,
            message: note.message.clone(),
        }
    }
}

pub(super) struct Recent {
    capacity: usize,
    known: HashMap<Key, (u64, Known)>,
    /// By the tick of their last use.
    by_use: BTreeMap<u64, Key>,
    tick: u64,
}

impl Recent {
    pub(super) fn holding(capacity: usize) -> Self {
        Self { capacity, known: HashMap::new(), by_use: BTreeMap::new(), tick: 0 }
    }

    pub(super) fn get(&self, note: &Note) -> Option<Known> {
        self.known.get(&Key::of(note)).map(|(_, known)| known.clone())
    }

    pub(super) fn put(&mut self, note: &Note, known: Known) {
        let key = Key::of(note);
        self.tick += 1;
        if let Some((used, _)) = self.known.insert(key.clone(), (self.tick, known)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.tick, key);
        if self.known.len() > self.capacity
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn forget(&mut self, note: &Note) {
        if let Some((used, _)) = self.known.remove(&Key::of(note)) {
            self.by_use.remove(&used);
        }
    }
}
